/* backend.h - generation by token ids: the waist between text and the pipeline.
 *
 * Everything that speaks text (HTTP, framed API, batch files, `generate`) goes
 * through front.h, which turns it into id-level requests for a backend. There are
 * two: engine.h (rank 0 itself, in process) and link.h (`serve`: over the control
 * plane to rank 0, with a journal that replays requests into a new epoch).
 *
 * Threads: one owner thread calls submit, cancel and receives all callbacks, from
 * inside the owner's loop (never from inside backend_submit itself).
 */
#ifndef CORDEE_COORDINATOR_BACKEND_H
#define CORDEE_COORDINATOR_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/sample.h"

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_COUNT };

struct gen_request {
    const int32_t *ids; /* [n_ids] prompt, n_ids >= 1 */
    int n_ids;
    const int32_t *resume; /* [n_resume] generated before (recovery): not reported again */
    int n_resume;
    struct sample_params sampling; /* end: the ids that finish with FINISH_STOP (an end token is
                                      reported as an event before FINISHED) */
    int max_tokens;      /* generated in all, resumed ones included; 0: score the prompt only */
    bool logprobs;       /* of generated tokens */
    int n_top;           /* alternatives, 0..20 */
    bool score_prompt;   /* a PROMPT event per prompt token ... */
    int score_from;      /* ... from this one on, < n_ids; those before cost no output head */
    bool embed;          /* the text's hidden states instead of tokens; max_tokens is 0 */
    int priority;
    const char *key; /* fairness group; NULL: none */
    const char *adapter; /* one of the facts' adapters; NULL: the model as it is */
};

enum gen_kind {
    GEN_PROMPT,   /* token = prompt id at pos, logprob of it given what is before (pos 0: NAN, n_top 0) */
    GEN_TOKEN,    /* a generated token */
    GEN_FINISHED, /* last event */
    GEN_FAILED,   /* last event: code and reason */
};

struct gen_event {
    enum gen_kind kind;
    int32_t pos;
    int32_t token;
    float logprob;
    int32_t argmax; /* the model's own best token here */
    int n_top;
    const struct token_logprob *top; /* [n_top], valid during the callback */
    enum finish finish;
    int n_embedding;        /* FINISHED of an embed request */
    const float *embedding; /* [n_embedding] as pooled, valid during the callback */
    int n_prompt, n_generated, n_cached;
    err code;
    const char *reason;
};

/* Called once per event, in order; after GEN_FINISHED or GEN_FAILED never again. */
typedef void gen_event_fn(void *ctx, const struct gen_event *ev);

enum { FACTS_MAX_ADAPTERS = 32, FACTS_NAME_BYTES = 128 };

struct model_facts {
    char name[FACTS_NAME_BYTES], family[32], hash[24], fingerprint[64];
    uint64_t n_params;
    int n_vocab, max_context;
    int n_embedding; /* of an encoder, which answers embed requests only; else 0 */
    int pooling;     /* enum pooling (model/batch.h) */
    int n_adapters;
    char adapters[FACTS_MAX_ADAPTERS][FACTS_NAME_BYTES];
};

struct backend;
struct backend_ops {
    err (*submit)(struct backend *b, const struct gen_request *req, gen_event_fn *fn, void *ctx,
                  uint64_t *handle, struct why *why);
    void (*cancel)(struct backend *b, uint64_t handle);
    bool (*ready)(const struct backend *b);
};
struct backend {
    const struct backend_ops *ops;
    struct model_facts facts;
};

/* Copies all of req.
 * ERR_LIMIT  prompt + 1 exceeds the context (the reason has both numbers)
 * ERR_FULL   the queue is full, retry later
 * ERR_INVAL  a token id out of range, ...
 * ERR_NOTFOUND  there is no such adapter */
MUST_CHECK static inline err backend_submit(struct backend *b, const struct gen_request *req,
                                            gen_event_fn *fn, void *ctx, uint64_t *handle,
                                            struct why *why)
{
    return b->ops->submit(b, req, fn, ctx, handle, why);
}
/* Ends with GEN_FINISHED FINISH_CANCELLED, unless it had ended already. Unknown
 * handles are ignored. */
static inline void backend_cancel(struct backend *b, uint64_t handle)
{
    b->ops->cancel(b, handle);
}
static inline bool backend_ready(const struct backend *b)
{
    return b->ops->ready(b);
}

#endif
