/* weight_item.h - one tensor on its way from the source into packed memory.
 *
 * weights.c lists the items of a range of layers; here they are filled: a tensor is
 * read once, its units are packed on the pool, all of them at once into memory or some
 * at a time into a buffer on its way to a file. A unit is one group of 16 rows of one
 * matrix of a stack, or a row of a vector; a transposed item has a unit for each
 * matrix, since each of its groups needs every row of the source.
 */
#ifndef CORDEE_MODEL_WEIGHT_ITEM_H
#define CORDEE_MODEL_WEIGHT_ITEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"
#include "kernels/format.h"
#include "model/desc.h"
#include "model/source.h"

struct weight; /* weights.h */

enum item_kind { ITEM_VECTOR, ITEM_PACK, ITEM_WIDEN /* to f32 */, ITEM_TRANSPOSE /* and to f32 */ };

struct weight_item {
    enum item_kind kind;
    struct weight *to;
    enum weight_role role; /* in the source */
    enum weight_role as;   /* the weight that it becomes: its role, or a half of KV_B */
    int layer;             /* 0 for roles of the whole model */
    enum fmt src_fmt, fmt; /* there, packed; vectors become f32 */
    size_t row_bytes, src_first, src_stack_bytes;
    int n, k, n_stack; /* of the packed matrix; vector: n_stack rows of k, n 1 */
    uint64_t bytes;    /* packed, a multiple of 64: units, then padding */
    uint64_t offset;   /* in the block of all items */
};

struct weight_items {
    struct weight_item *at; /* [n], owned */
    int n, cap;
};

int item_units(const struct weight_item *x);
size_t item_unit_bytes(const struct weight_item *x);

struct filler;

/* For any of the items; src and pool are borrowed. Close with filler_close(). */
MUST_CHECK err filler_open(const struct weight_items *items, const struct source *src, struct pool *pool,
                           struct filler **out, struct why *why);
void filler_close(struct filler *f); /* NULL is fine */
/* Reads the item's tensor; it stays until the next one is taken. x: borrowed. */
MUST_CHECK err filler_take(struct filler *f, const struct weight_item *x, struct why *why);
/* Units [first, last) of the item, in parallel, one after the other from `to` on (64-byte aligned). */
void filler_fill(struct filler *f, int first, int last, char *to);

#endif
