/* attn_run.h - attention of all rows of a step over the KV pages, on the pool.
 *
 * A task is (run, KV head) or a share of it. Runs are cut at absolute multiples of
 * KV_PAGE. A run that is more than a fair share of the step's work is shared out: a
 * generated row by spans of ATTN_SPAN positions, so that the cache is still read once, a
 * prompt's run by the query heads of a group first, which needs no second step. Spans that
 * were computed apart lie in f->parts until one more loop adds them up, in the order in
 * which a single task would have. None of this changes a row's bits: kernels compute
 * each query, head and span on its own, in a fixed order.
 */
#ifndef CORDEE_MODEL_ATTN_RUN_H
#define CORDEE_MODEL_ATTN_RUN_H

#include "model/forward.h"

struct attn_shape {
    const float *q; /* [rows][ldq], heads dk apart */
    size_t ldq;
    float *out; /* [rows][ldo], heads dv apart */
    size_t ldo;
    int n_head;
    int layer; /* counted from the stage's first */
    int window, chunk;
    const float *sinks; /* [n_head] or NULL */
};

/* Takes f->runs and f->parts. */
void attn_run_carve(struct forward *f, struct carve *c, int threads);
/* Cuts the batch's rows into f->runs. */
void attn_runs_make(struct forward *f);
/* Bytes of scratch a thread needs. */
size_t attn_run_scratch(const struct forward *f);
/* out of dead rows is zeroed. */
void attn_run(struct forward *f, const struct attn_shape *s);

#endif
