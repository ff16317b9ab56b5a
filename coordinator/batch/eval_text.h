/* eval_text.h - the perplexity of a text, in rolling windows, as the work of a batch.
 *
 * Every token of the text is scored once. A window scores `stride` tokens and sees, of
 * what is before them, as many as fit; the very first token is scored behind BOS (or the
 * end token where a model has none).
 */
#ifndef CORDEE_COORDINATOR_EVAL_TEXT_H
#define CORDEE_COORDINATOR_EVAL_TEXT_H

#include "coordinator/batch/batch.h"
#include "coordinator/front/front.h"

struct eval_text {
    struct front *front; /* borrowed */
    const char *adapter; /* NULL: the model as it is; set after opening; borrowed */
    struct tok_ids ids;  /* of the whole text, without special tokens; owned */
    size_t n_bytes, n_words;
    int window, stride;  /* tokens, 1 <= stride <= window < context */
    char sha256[65];
};

/* Reads and tokenises the file. window 0: what the context allows; stride 0: the window.
 * ERR_INVAL: sizes; not UTF-8; empty */
MUST_CHECK err eval_text_open(struct eval_text *x, const char *path, struct front *front, int window, int stride,
                              struct why *why);
void eval_text_fini(struct eval_text *x);
int64_t eval_text_windows(const struct eval_text *x);
/* x must outlive the batch. */
struct batch_work eval_text_work(struct eval_text *x);

/* Perplexities from all windows' results, as one JSON object. */
MUST_CHECK err eval_text_summary(const struct eval_text *x, struct batch *b, struct buf *out, struct why *why);

#endif
