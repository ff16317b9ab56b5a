/* manifest.h - what a run's results depend on, and the refusal to mix two of them.
 *
 * A flat list of names and values, kept as the first record of the run's log. A run is
 * continued only by a command with an equal manifest: same model, tokenizer, input,
 * settings. How many ranks, threads and micro-batches there are is not in it, because
 * no result depends on that.
 */
#ifndef CORDEE_COORDINATOR_MANIFEST_H
#define CORDEE_COORDINATOR_MANIFEST_H

#include "base/buf.h"
#include "base/err.h"
#include "coordinator/backend.h"
#include "coordinator/config.h"
#include "tokenizer/tokenizer.h"

struct manifest {
    struct buf json; /* an object that is not closed yet; manifest_text() closes it */
};

void manifest_init(struct manifest *m);
void manifest_fini(struct manifest *m);
/* name: a plain word, once each. */
void manifest_put(struct manifest *m, const char *name, const char *value);
void manifest_put_int(struct manifest *m, const char *name, int64_t value);
/* Model, tokenizer (hash over its vocabulary), numeric settings, limits. facts: of a
 * backend that is ready. */
void manifest_put_model(struct manifest *m, const struct config *c, const struct model_facts *facts,
                        const struct tokenizer *tok);

/* One JSON object into *out (replaced). */
MUST_CHECK err manifest_text(const struct manifest *m, struct buf *out, struct why *why);
/* ERR_INVAL: the run was begun with another manifest; the reason names every value
 * that changed, with both. */
MUST_CHECK err manifest_compare(const char *begun, size_t begun_len, const char *now, size_t now_len,
                                struct why *why);

#endif
