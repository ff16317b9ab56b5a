/* completion.h - one /v1/completions request, from its parsed body to its answer.
 *
 * Whoever has such a request (HTTP, a line of a batch file) starts a completion and
 * gives it an outlet: the very same code then writes the very same bytes for all.
 *
 * Threads: the front's owner thread; the outlet is called from its loop, never from
 *          inside completion_start().
 * Memory:  a completion frees itself after the last call to its outlet (reply or end).
 */
#ifndef CORDEE_COORDINATOR_COMPLETION_H
#define CORDEE_COORDINATOR_COMPLETION_H

#include "api/openai.h"
#include "coordinator/front/front.h"

struct event_base;
struct completion;

struct completion_answer {
    int status;             /* HTTP's */
    err code;               /* ERR_OK exactly when status is 200 */
    const struct buf *body; /* JSON; may have `failed` (no memory) */
    struct openai_usage usage;
};

struct completion_outlet {
    /* The whole answer, or the error that came before a stream's first chunk. */
    void (*reply)(void *ctx, const struct completion_answer *a);
    /* Streams (server-sent events): begin once, put many, end. NULL where requests
     * with `stream` are refused before. */
    void (*begin)(void *ctx);
    void (*put)(void *ctx, const char *data, size_t len);
    void (*end)(void *ctx);
};

struct completion_options {
    struct event_base *base; /* borrowed, like all of these */
    struct front *front;
    const char *id;  /* of the answer: "cmpl-..." */
    const char *key; /* fairness group; NULL: none */
    int64_t created; /* Unix seconds */
    /* The answer tells nothing of what the cache held: the same request gives the
     * same bytes. completion_answer.usage has it still. */
    bool reproducible;
    const struct completion_outlet *outlet;
    void *ctx;
};

/* False, with the reason, when a request names a model that is not served. */
bool completion_model_served(const struct model_facts *facts, struct openai_text model, struct why *why);

/* Takes the request over (*req is empty afterwards), also when it fails: ERR_NOMEM. */
MUST_CHECK err completion_start(struct openai_completion *req, const struct completion_options *o,
                                struct completion **out, struct why *why);
/* Gives it up; the outlet is not called any more. */
void completion_cancel(struct completion *c);

#endif
