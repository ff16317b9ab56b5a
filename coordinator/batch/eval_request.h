/* eval_request.h - the log-probability of a text's end, given its beginning.
 *
 * Threads: the front's owner thread; done is called once, from its loop.
 */
#ifndef CORDEE_COORDINATOR_EVAL_REQUEST_H
#define CORDEE_COORDINATOR_EVAL_REQUEST_H

#include "coordinator/front/front.h"

struct eval_request;
/* code ERR_OK: the fields of q are set. */
typedef void eval_done_fn(void *ctx, struct eval_request *q, err code, const char *reason);

struct eval_request {
    double logprob; /* sum over the scored tokens, in order */
    int n_scored;
    bool greedy;    /* each was the model's most likely one */
    int n_prompt, n_cached;

    struct front *front; /* private */
    uint64_t handle;
    bool live;
    eval_done_fn *done;
    void *ctx;
};

struct eval_question { /* borrowed for the call, but the front */
    struct front *front;
    const char *adapter; /* NULL: the model as it is */
    const int32_t *ids;  /* [n_ids] */
    int n_ids, from;     /* 1 <= from < n_ids */
};

/* Scores ids[from..n_ids) given what is before each. Only the rows before these tokens
 * cost an output head. As front_submit(): ERR_FULL, ERR_LIMIT, ERR_INVAL. */
MUST_CHECK err eval_request_send(struct eval_request *q, const struct eval_question *x, eval_done_fn *done, void *ctx,
                                 struct why *why);
void eval_request_cancel(struct eval_request *q); /* done is not called */

/* The failure is not the request's own: it may be sent again. */
bool eval_passing(err code);

#endif
