/* attn.h - which positions a query sees, shared by all attention kernels. */
#ifndef CORDEE_KERNELS_ATTN_H
#define CORDEE_KERNELS_ATTN_H

#include "kernels/kernels.h"

/* Columns of an expanded K or V row: whole vectors of any instruction set. */
static inline int attn_cols(int n)
{
    return (n + 15) / 16 * 16;
}

/* The running softmax of one query and head, and its weights for the page at hand. */
struct attn_row {
    float max, sum, keep; /* keep: what to multiply the values so far with */
    float unused;         /* keeps p aligned */
    float p[KV_PAGE];
};

/* Query position pos sees [*from, *to); never empty for a valid batch. */
static inline void attn_span(const struct attn *a, int pos, int *from, int *to)
{
    *to = a->causal && pos + 1 < a->n_kv ? pos + 1 : a->n_kv;
    *from = a->window > 0 && pos - a->window + 1 > 0 ? pos - a->window + 1 : 0;
    if (a->chunk > 0 && pos / a->chunk * a->chunk > *from)
        *from = pos / a->chunk * a->chunk;
}

/* K and V rows of position j. */
static inline const void *attn_k(const struct attn *a, int j)
{
    return a->base + (size_t)a->pages[j / KV_PAGE] * a->page_bytes + a->k_offset +
           (size_t)(j % KV_PAGE) * a->k_stride;
}

static inline const void *attn_v(const struct attn *a, int j)
{
    return a->base + (size_t)a->pages[j / KV_PAGE] * a->page_bytes + a->v_offset +
           (size_t)(j % KV_PAGE) * a->v_stride;
}

#endif
