/* pipe.h - a whole pipeline inside a test process: engine here, workers on threads.
 *
 * Stages come from the test (fake or real); everything between them is the real
 * thing, over transport_loop, optionally wrapped in faults.
 */
#ifndef CORDEE_TESTS_PIPE_H
#define CORDEE_TESTS_PIPE_H

#include "coordinator/engine/engine.h"
#include "worker/worker.h"

enum { PIPE_MAX_STAGES = 8 };

struct pipe;
struct pipe_options {
    int n_stages;
    struct stage *stages[PIPE_MAX_STAGES]; /* borrowed */
    struct engine_options engine; /* ranks, epoch and n_stages are filled in */
    enum wire_type wire;
    int fault_rank;               /* -1: none; else this rank's sends are broken: */
    struct fault_rule fault;
};
struct pipe *pipe_open(const struct pipe_options *o);
/* Stops in order if all is well. Returns the first error of a worker (ERR_CANCELLED
 * is the orderly end, reported as ERR_OK). */
err pipe_close(struct pipe *p, struct why *why);
struct engine *pipe_engine(struct pipe *p);

/* What came of one request. */
struct taken {
    int n_tokens, n_scores;
    int32_t tokens[4096];
    float logprobs[4096];
    int32_t score_tokens[4096];
    float scores[4096];
    int n_top_last;
    bool over;
    struct gen_event last;
    struct backend *cancel_with; /* cancel from inside the callback after cancel_after tokens */
    int cancel_after;
    uint64_t handle;
};
void take_event(void *ctx, const struct gen_event *ev); /* ctx: struct taken */

/* Submits, asserting success. */
void pipe_submit(struct pipe *p, const struct gen_request *req, struct taken *t);
/* Turns until all n are over or the engine fails. */
err pipe_run(struct pipe *p, struct taken *t, int n, struct why *why);

#endif
