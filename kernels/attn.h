/* attn.h - what all attention kernels share: which positions a query sees, where they
 * lie, and how the scratch is laid out.
 *
 * A call goes over its (query, head) rows in passes of at most ATTN_ROWS, so that what it
 * keeps about them stays in the second-level cache, and over positions in blocks of
 * ATTN_BLOCK: scores of a block, one step of the running softmax, values of the block.
 */
#ifndef CORDEE_KERNELS_ATTN_H
#define CORDEE_KERNELS_ATTN_H

#include <stdalign.h>

#include "kernels/kernels.h"

#define ATTN_BLOCK 128
#define ATTN_ROWS 128
/* A pass has room for a multiple of so many rows: a kernel may compute rows that nobody asked for. */
#define ATTN_ROW_TILE 16
/* How many pages are asked for ahead of the one that is read, at most (attn_ask). */
#define ATTN_ASK 4
/* Where the values start in a part; before them max and sum. */
#define ATTN_PART_VALUES 16

/* One query and head while a span is gone over. */
struct attn_row {
    alignas(64) float p[ATTN_BLOCK]; /* scores of a block, then weights; a kernel may keep them narrower */
    float max, sum;                  /* the running softmax of the span */
    float keep;                      /* what the values so far are to be multiplied with */
    float total_max, total_sum;      /* of the spans before */
    int from, to;                    /* what it sees of the block, counted from its start */
    int pos, head;
    const float *q;
    void *form;  /* q as the kernel multiplies it */
    float *part; /* max, sum, then the span's values so far [dv] */
    float *out;
};

static inline size_t attn_row_bytes(int dk, int dv)
{
    return sizeof(struct attn_row) + act_row_bytes(ACT_BF16, dk) + attn_part_floats(dv) * sizeof(float);
}

static inline size_t attn_row_room(size_t rows)
{
    return (rows + ATTN_ROW_TILE - 1) / ATTN_ROW_TILE * ATTN_ROW_TILE;
}

/* Room for pages that are laid out anew: one of keys or values as f32 and two rows of it on
 * their way, or the values of a block as bf16, columns rounded up to whole tiles, and two rows. */
static inline size_t attn_page_bytes(int dk, int dv)
{
    size_t cols = (size_t)(dk > kv_cols(dv) ? dk : kv_cols(dv));
    return (2 * ATTN_BLOCK + 4) * (cols + 64) & ~(size_t)63;
}

/* A pass: rows [0, n_rows), which stand in scratch with room for whole tiles of them. */
struct attn_pass {
    const struct attn *a;
    struct attn_row *row;
    int n_rows;
    char *page;     /* attn_page_bytes() to lay pages out in */
    int first, end; /* positions that any row sees */
};

/* Query position pos sees [*from, *to); never empty for a valid batch. */
static inline void attn_span(const struct attn *a, int pos, int *from, int *to)
{
    *to = a->causal && pos + 1 < a->n_kv ? pos + 1 : a->n_kv;
    *from = a->window > 0 && pos - a->window + 1 > 0 ? pos - a->window + 1 : 0;
    if (a->chunk > 0 && pos / a->chunk * a->chunk > *from)
        *from = pos / a->chunk * a->chunk;
}

/* The page of position j: its K part and its V part. */
static inline const char *attn_k(const struct attn *a, int j)
{
    return a->base + (size_t)a->pages[j / KV_PAGE] * a->page_bytes + a->k_offset;
}

static inline const char *attn_v(const struct attn *a, int j)
{
    return a->base + (size_t)a->pages[j / KV_PAGE] * a->page_bytes + a->v_offset;
}

/* What is read after a page: n of the pages that follow, ATTN_ASK at most. */
struct attn_next {
    const char *const *page;
    int n;
};

/* Asks for `bytes` of each of the pages that are read next, from `at` on.
 * A prefetch that finds all miss buffers taken is dropped, and with it the line is not there
 * when it is wanted. So each line is asked for several times on its way, ATTN_ASK at most. */
static inline __attribute__((always_inline)) void attn_ask(struct attn_next next, ptrdiff_t at, int bytes)
{
    for (int n = 0; n < next.n; n++)
        for (int i = 0; i < bytes; i += 64)
            __builtin_prefetch(next.page[n] + at + i, 0, 2); /* into the second-level cache */
}

#endif
