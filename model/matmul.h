/* matmul.h - products of packed weights with the rows of a micro-batch.
 *
 * Rows lie in `struct rows`: generated ones first, then prompt ones; each role
 * has its own kernels. A set of activations (`struct acts`) is prepared once, row
 * by row and in every form that its products ask for, and then shared by all of
 * them (Q, K and V; gate and up; all experts). Whoever makes a row (a norm, gate
 * times up) prepares it while it is in the cache; in f32 it is stored only if a
 * product reads it in f32. matmul_run() computes any number
 * of products in one loop on the pool: the items are chunks of weight groups, so
 * a weight is read once for all rows, and a chunk's bias is added while it is hot.
 *
 * Numeric contract: the bits of y[i] depend on row i, its role and, for kernels
 * with a panel shape, its absolute position; never on the other rows.
 */
#ifndef CORDEE_MODEL_MATMUL_H
#define CORDEE_MODEL_MATMUL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "kernels/kernels.h"
#include "model/carve.h"
#include "model/weights.h"

/* Where a row stands: which panel slot it takes, and whose panel. */
struct row_place {
    int32_t pos;
    uint32_t seq;
};

struct rows {
    int n, n_gen;                  /* rows [0, n_gen) are generated */
    const struct row_place *place; /* [n] */
};

typedef unsigned form_mask; /* 1u << enum act */

/* Activations of up to max_rows rows, in the forms that products read. To make row i:
 * write it to matmul_row(), then call matmul_prepare(). */
struct acts {
    int k;
    size_t stride[ACT_COUNT]; /* bytes of a row */
    char *form[ACT_COUNT];    /* NULL: no product ever asks for it */
};

/* Room for max_rows rows of up to max_k elements in `forms`. */
void acts_carve(struct acts *a, struct carve *c, int max_rows, int max_k, form_mask forms);
/* From now on rows have k elements. */
void acts_begin(struct acts *a, int k);
/* The f32 row, where the set has that form. */
static inline float *acts_row(const struct acts *a, int i)
{
    return (float *)(a->form[ACT_F32] + (size_t)i * a->stride[ACT_F32]);
}

struct product {
    struct packed w;
    const float *bias; /* [w.n] or NULL */
    float *y;          /* of row `row0`; rows ldy floats apart */
    size_t ldy;
    int row0, n_gen, n_prompt; /* rows of the input: generated, then prompt */
};

struct matmul {
    const struct kernels *k;
    struct pool *pool;
    char *scratch; /* [threads][scratch_bytes], in products and between them */
    size_t scratch_bytes;
    int *starts; /* [max_products + 1]: first group of each product */
    int max_products;
};

/* Forms that products with `w` need for rows of a role. */
form_mask matmul_forms(const struct kernels *k, const struct weight *w, enum role role);
/* Grows *bytes to the scratch a thread needs for products with `w`. */
void matmul_scratch(const struct kernels *k, const struct weight *w, size_t *bytes);

/* Where row i is to be made: its place in `a` if f32 is among the forms, else a row in the
 * scratch of the thread, `worker` of a loop on the pool, good until its next row. */
float *matmul_row(const struct matmul *mm, const struct acts *a, int i, form_mask forms, int worker);
/* Makes row i of `a` in the forms from x [a->k], which may be matmul_row()'s or any other. */
void matmul_prepare(const struct matmul *mm, struct acts *a, int i, form_mask forms, const float *x);

/* rows describes the input's rows (for MoE: the gathered ones). */
void matmul_run(struct matmul *mm, const struct rows *rows, const struct acts *in, const struct product *p,
                int n_products);

/* The same for one product, all of it on the calling thread (`worker` of a loop
 * on the same pool): for callers that cut the weights themselves. */
void matmul_on(const struct matmul *mm, const struct rows *rows, const struct acts *in,
               const struct product *p, int worker);

/* Groups [g0, g1) of w as a matrix of its own. */
static inline struct packed packed_slice(const struct packed *w, int g0, int g1)
{
    struct packed s = *w;
    s.data = (const char *)w->data + (size_t)g0 * w->group_bytes;
    s.n = (w->n < g1 * PACK_ROWS ? w->n : g1 * PACK_ROWS) - g0 * PACK_ROWS;
    return s;
}

/* A product of all rows. */
static inline struct product product_of(const struct rows *r, const struct weight *w,
                                        const struct weight *bias, float *y, size_t ldy)
{
    return (struct product){.w = w->w,
                            .bias = bias ? bias->v : NULL,
                            .y = y,
                            .ldy = ldy,
                            .n_gen = r->n_gen,
                            .n_prompt = r->n - r->n_gen};
}

/* Runs fn over n rows: on the caller when the work (floats touched) is too small
 * to be worth waking anybody, else on the pool. */
void rows_run(struct pool *pool, int n, int64_t floats_per_row, pool_fn *fn, void *ctx);

#endif
