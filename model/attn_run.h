/* attn_run.h - attention of all rows of a step over the KV pages, on the pool.
 *
 * A task is (run, KV head, part of the query heads that share it). Runs are cut
 * at absolute multiples of KV_PAGE; heads of a group are split into parts only
 * when there would be fewer tasks than threads. Neither changes a row's bits:
 * kernels compute each query and head on its own, in a fixed order over pages.
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

/* Cuts the batch's rows into f->runs. */
void attn_runs_make(struct forward *f);
/* Bytes of scratch a thread needs. */
size_t attn_run_scratch(const struct forward *f);
/* out of dead rows is zeroed. */
void attn_run(struct forward *f, const struct attn_shape *s);

#endif
