/* attn.tmpl.h - attention over KV pages, for the query heads that share one KV head.
 *
 * Pages are the outer loop: a page's keys become f32 rows in scratch once, every
 * (query, head) row takes its scores from there, then the values take the keys'
 * place: half a page at a time fits the first-level cache with room to spare. So
 * grouped heads and the queries of a prompt chunk share one read of the KV cache.
 * Calls of few queries go another way to the same bits: attn_few.tmpl.h.
 *
 * A score is a dot product along dk in V_LANES lanes, reduced by a tree that is
 * the same for every position (v_sum_each). Values are added in the order of
 * positions. Pages lie at absolute multiples of KV_PAGE and a row skips pages it
 * cannot see, so its bits depend on its own query and position only.
 */
#include <math.h>
#include <stdbool.h>

#include "base/f16.h"
#include "kernels/attn.h"
#include "kernels/table.h"
#include "kernels/x86/math.tmpl.h"

#define PAGE_VECTORS (KV_PAGE / V_LANES)

struct attn_work {
    float *page;        /* [KV_PAGE][k_cols] keys, then [KV_PAGE][v_cols] values; columns past dk, dv are zero */
    struct attn_row *row; /* [n_q][n_group] */
    int k_cols, v_cols;
};

INLINE struct attn_work attn_work_at(const struct attn *a, void *scratch)
{
    struct attn_work w = {.k_cols = attn_cols(a->dk), .v_cols = attn_cols(a->dv)};
    w.page = scratch;
    w.row = (struct attn_row *)(w.page + KV_PAGE * (w.k_cols > w.v_cols ? w.k_cols : w.v_cols));
    return w;
}

/* One KV row of n elements as f32, padded with zeros to cols. */
INLINE void load_row(enum kv_type t, float *dst, const void *src, int n, int cols)
{
    const uint16_t *half = src;
    int i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        switch (t) {
        case KV_F32:
            v_storef(dst + i, v_loadf((const float *)src + i));
            break;
        case KV_F16:
            v_storef(dst + i, v_load_f16(half + i));
            break;
        case KV_BF16:
            v_storef(dst + i, v_load_bf16(half + i));
            break;
        default: {
            const char *block = (const char *)src + i / 32 * KV_Q8_BLOCK;
            v_storef(dst + i, v_mul(v_load_s8(block + 2 + i % 32), v_set_f16(block)));
        }
        }
    for (; i < n; i++)
        dst[i] = t == KV_F32 ? ((const float *)src)[i] : t == KV_F16 ? f16_to_f32(half[i]) : bf16_to_f32(half[i]);
    for (; i < cols; i++)
        dst[i] = 0;
}

/* s[KV_PAGE] = q . k for all positions of the page in scratch. */
INLINE void page_scores(const struct attn_work *w, const float *q, int dk, vf s[PAGE_VECTORS])
{
    int whole = dk / V_LANES * V_LANES;
    UNROLL
    for (int g = 0; g < PAGE_VECTORS; g++) {
        const float *k = w->page + g * V_LANES * w->k_cols;
        vf acc[V_LANES];
        UNROLL
        for (int j = 0; j < V_LANES; j++)
            acc[j] = v_zero();
        for (int c = 0; c < whole; c += V_LANES) {
            vf x = v_loadf(q + c);
            UNROLL
            for (int j = 0; j < V_LANES; j++)
                acc[j] = v_fma(x, v_loadf(k + j * w->k_cols + c), acc[j]);
        }
        if (whole < dk) {
            vf x = v_loadf_n(q + whole, dk - whole);
            UNROLL
            for (int j = 0; j < V_LANES; j++)
                acc[j] = v_fma(x, v_loadf(k + j * w->k_cols + whole), acc[j]);
        }
        s[g] = v_sum_each(acc);
    }
}

/* out[dv] = out * keep + sum of p[j] v[j] over the page's positions [j0, j1). */
INLINE void page_values(const struct attn_work *w, float *out, int dv, float keep, const float *p, int j0, int j1)
{
    enum { WIDE = 8 };
    int c = 0;
    for (; c + WIDE * V_LANES <= dv; c += WIDE * V_LANES) {
        vf acc[WIDE];
        UNROLL
        for (int i = 0; i < WIDE; i++)
            acc[i] = v_mul(v_loadf(out + c + i * V_LANES), v_set(keep));
        for (int j = j0; j < j1; j++) {
            const float *v = w->page + j * w->v_cols + c;
            vf x = v_set(p[j]);
            UNROLL
            for (int i = 0; i < WIDE; i++)
                acc[i] = v_fma(x, v_loadf(v + i * V_LANES), acc[i]);
        }
        UNROLL
        for (int i = 0; i < WIDE; i++)
            v_storef(out + c + i * V_LANES, acc[i]);
    }
    for (; c < dv; c += V_LANES) {
        int n = dv - c < V_LANES ? dv - c : V_LANES;
        vf acc = v_mul(v_loadf_n(out + c, n), v_set(keep));
        for (int j = j0; j < j1; j++)
            acc = v_fma(v_set(p[j]), v_loadf(w->page + j * w->v_cols + c), acc);
        v_storef_n(out + c, acc, n);
    }
}

/* Scale, soft cap, ALiBi, and minus infinity outside [j0, j1). */
INLINE vf finish_scores(const struct attn *a, vf s, int head, int base, int pos, int g, int j0, int j1)
{
    vf j = v_add(v_iota(), v_set((float)(g * V_LANES))), hidden = v_set(-INFINITY);
    s = v_mul(s, v_set(a->scale));
    if (a->softcap > 0)
        s = v_mul(v_set(a->softcap), v_tanh(v_div(s, v_set(a->softcap))));
    if (a->slopes)
        s = v_add(s, v_mul(v_set(a->slopes[head]), v_add(j, v_set((float)(base - pos)))));
    s = v_if_less(j, v_set((float)j0), hidden, s);
    return v_if_less(j, v_set((float)j1), s, hidden);
}

/* What the raw scores s of query i, head `head` at the positions [from, to) of
 * the page that starts at base make of the running softmax. */
INLINE void soften_row(const struct attn *a, struct attn_row *row, vf s[PAGE_VECTORS], int i, int head, int base,
                       int from, int to)
{
    vf most = v_set(row->max), sum = v_zero();
    UNROLL
    for (int g = 0; g < PAGE_VECTORS; g++) {
        s[g] = finish_scores(a, s[g], head, base, a->pos0 + i, g, from - base, to - base);
        most = v_max(most, s[g]);
    }
    float max = v_reduce_max(most);
    UNROLL
    for (int g = 0; g < PAGE_VECTORS; g++) {
        vf e = v_exp(v_sub(s[g], v_set(max)));
        v_storef(row->p + g * V_LANES, e);
        sum = v_add(sum, e);
    }
    row->keep = row->max == max ? 1 : expf(row->max - max);
    row->max = max;
    row->sum = row->sum * row->keep + v_reduce_add(sum);
}

INLINE void prefetch_row(const char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch(p + i, _MM_HINT_T0);
}

/* What query i sees of the page at base; false if nothing. */
INLINE bool page_span(const struct attn *a, int i, int base, int *from, int *to)
{
    attn_span(a, a->pos0 + i, from, to);
    *from = *from > base ? *from : base;
    *to = *to < base + KV_PAGE ? *to : base + KV_PAGE;
    return *from < *to;
}

/* The page at base, of which positions [first, end) are seen by any query. While
 * one half is expanded, the next is on its way from memory. */
INLINE void attend_page(const struct attn *a, enum kv_type t, const struct attn_work *w, int base, int first, int end)
{
    int from = first > base ? first : base, to = end < base + KV_PAGE ? end : base + KV_PAGE, see_from, see_to;
    for (int j = from; j < to; j++) {
        prefetch_row(attn_v(a, j), a->v_stride);
        load_row(t, w->page + (j - base) * w->k_cols, attn_k(a, j), a->dk, w->k_cols);
    }
    for (int i = 0; i < a->n_q; i++)
        if (page_span(a, i, base, &see_from, &see_to))
            for (int head = 0; head < a->n_group; head++) {
                vf s[PAGE_VECTORS];
                page_scores(w, a->q + (size_t)i * a->ldq + (size_t)head * (size_t)a->dk, a->dk, s);
                soften_row(a, &w->row[i * a->n_group + head], s, i, head, base, see_from, see_to);
            }
    for (int j = from; j < to; j++) {
        if (j + KV_PAGE < end)
            prefetch_row(attn_k(a, j + KV_PAGE), a->k_stride);
        load_row(t, w->page + (j - base) * w->v_cols, attn_v(a, j), a->dv, w->v_cols);
    }
    for (int i = 0; i < a->n_q; i++)
        if (page_span(a, i, base, &see_from, &see_to))
            for (int head = 0; head < a->n_group; head++) {
                float *out = a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv;
                const struct attn_row *row = &w->row[i * a->n_group + head];
                page_values(w, out, a->dv, row->keep, row->p, see_from - base, see_to - base);
            }
}

#include "kernels/x86/attn_few.tmpl.h"

INLINE void attend(const struct attn *a, enum kv_type t, void *scratch)
{
    bool few = a->n_q <= ATTN_FEW_QUERIES && a->dk % V_LANES == 0 && a->dv % V_LANES == 0;
    struct attn_work w = attn_work_at(a, scratch);
    int first, end, ignored;
    attn_span(a, a->pos0, &first, &ignored);
    attn_span(a, a->pos0 + a->n_q - 1, &ignored, &end);
    if (!few)
        memset(w.page, 0, (size_t)((float *)w.row - w.page) * sizeof *w.page); /* rows never loaded must hold numbers */
    for (int i = 0; i < a->n_q; i++)
        for (int head = 0; head < a->n_group; head++) {
            struct attn_row *row = &w.row[i * a->n_group + head];
            row->max = a->sinks ? a->sinks[head] : -INFINITY;
            row->sum = a->sinks ? 1 : 0;
            memset(a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv, 0, (size_t)a->dv * sizeof(float));
        }
    for (int base = first / KV_PAGE * KV_PAGE; base < end; base += KV_PAGE) {
        if (!few)
            attend_page(a, t, &w, base, first, end);
        for (int i = 0, from, to; few && i < a->n_q; i++)
            if (page_span(a, i, base, &from, &to))
                attend_page_few(a, t, &w, i, base, from, to, end);
    }
    for (int i = 0; i < a->n_q; i++)
        for (int head = 0; head < a->n_group; head++) {
            float *out = a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv;
            float sum = w.row[i * a->n_group + head].sum;
            vf inverse = v_set(sum > 0 ? 1 / sum : 0);
            for (int c = 0; c < a->dv; c += V_LANES) {
                int n = a->dv - c < V_LANES ? a->dv - c : V_LANES;
                v_storef_n(out + c, v_mul(v_loadf_n(out + c, n), inverse), n);
            }
        }
}

#define ATTN(function, type)                              \
    void function(const struct attn *a, void *scratch)    \
    {                                                     \
        attend(a, type, scratch);                         \
    }
