/* lora.h - the adapters of a run of layers: their weights, and adding them up.
 *
 * A stage holds A and B of its own layers for all adapters of the model, packed
 * as f32. After a block's products, lora_add() adds scale * B (A x) to the rows
 * whose sequence chose an adapter; batches without such rows pass untouched.
 *
 * Those rows are gathered by adapter, so that each A and B is read once for all of
 * its rows. Always by the kernels of generated rows, whose bits do not depend on
 * the other rows: with an adapter as without, a row's numbers are its own.
 *
 * Shapes: A [rank][in], B [out][rank], rank padded with zeros to the largest of
 * all adapters (exact: zeros come last and add nothing).
 *
 * Threads: as forward.h. Memory: weights at lora_load(), buffers in the carve of
 * the forward pass.
 */
#ifndef CORDEE_MODEL_LORA_H
#define CORDEE_MODEL_LORA_H

#include "base/err.h"
#include "base/pool.h"
#include "model/matmul.h"
#include "model/source.h"

struct forward;
struct lora;

/* By shapes alone, for layers [first, last). *out is NULL if the model has no adapters.
 * src must outlive the result. */
MUST_CHECK err lora_open(const struct source *src, int first, int last, struct lora **out, struct why *why);
/* Allocates and packs. ERR_NOMEM. */
MUST_CHECK err lora_load(struct lora *l, struct pool *pool, struct why *why); /* NULL is fine */
void lora_close(struct lora *l);                                              /* NULL is fine */
uint64_t lora_bytes(const struct lora *l);                                    /* of the weights */

/* Grows *products to what the forward pass' matmul must be able to take at once and
 * *scratch to its bytes a thread. */
void lora_needs(const struct lora *l, const struct kernels *k, int *products, size_t *scratch);
/* Buffers of a step of max_rows rows. */
void lora_carve(struct lora *l, struct carve *c, const struct kernels *k, int max_rows);

/* Starts a step: gathers the rows of f->b that have an adapter. */
void lora_begin(struct forward *f);

/* A buffer that a product has just been written to. */
struct lora_site {
    enum weight_role role;
    float *y; /* of row 0 */
    size_t ldy;
};
enum { LORA_MAX_SITES = 4 };

/* Adds the adapters' share of layer l to products of `in` (its f32 rows). Sites
 * whose role no adapter changes cost nothing. */
void lora_add(struct forward *f, int l, const struct acts *in, const struct lora_site *sites, int n);

#endif
