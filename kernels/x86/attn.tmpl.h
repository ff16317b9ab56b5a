/* attn.tmpl.h - attention over KV pages, for the query heads that share one KV head.
 *
 * Pages are the outer loop: a page's keys and values become f32 rows in scratch
 * once, then every (query, head) row takes its scores, its running maximum and
 * its weighted sum of values from the first-level cache. So grouped heads and the
 * queries of a prompt chunk share one read of the KV cache.
 *
 * A score is a dot product along dk in V_LANES lanes, reduced by a tree that is
 * the same for every position (v_sum_each). Values are added in the order of
 * positions. Pages lie at absolute multiples of KV_PAGE and a row skips pages it
 * cannot see, so its bits depend on its own query and position only.
 */
#include <math.h>

#include "base/f16.h"
#include "kernels/attn.h"
#include "kernels/table.h"
#include "kernels/x86/math.tmpl.h"

#define PAGE_VECTORS (KV_PAGE / V_LANES)

struct attn_work {
    float *k, *v;  /* [KV_PAGE][k_cols], [KV_PAGE][v_cols]; columns past dk, dv are zero */
    float *running; /* [n_q][n_group][2]: maximum, sum */
    int k_cols, v_cols;
};

INLINE struct attn_work attn_work_at(const struct attn *a, void *scratch)
{
    struct attn_work w = {.k_cols = attn_cols(a->dk), .v_cols = attn_cols(a->dv)};
    w.k = scratch;
    w.v = w.k + KV_PAGE * w.k_cols;
    w.running = w.v + KV_PAGE * w.v_cols;
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
            uint16_t scale;
            memcpy(&scale, block, 2);
            v_storef(dst + i, v_mul(v_load_s8(block + 2 + i % 32), v_set(f16_to_f32(scale))));
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
        const float *k = w->k + g * V_LANES * w->k_cols;
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
            const float *v = w->v + j * w->v_cols + c;
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
            acc = v_fma(v_set(p[j]), v_loadf(w->v + j * w->v_cols + c), acc);
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

/* Query i, head `head` against the positions [from, to) of the page that starts at base. */
INLINE void attend_row(const struct attn *a, const struct attn_work *w, int i, int head, int base, int from, int to)
{
    const float *q = a->q + (size_t)i * a->ldq + (size_t)head * (size_t)a->dk;
    float *out = a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv;
    float *running = w->running + 2 * (i * a->n_group + head);
    float p[KV_PAGE];
    vf s[PAGE_VECTORS], most = v_set(running[0]), sum = v_zero();
    page_scores(w, q, a->dk, s);
    UNROLL
    for (int g = 0; g < PAGE_VECTORS; g++) {
        s[g] = finish_scores(a, s[g], head, base, a->pos0 + i, g, from - base, to - base);
        most = v_max(most, s[g]);
    }
    float max = v_reduce_max(most);
    UNROLL
    for (int g = 0; g < PAGE_VECTORS; g++) {
        vf e = v_exp(v_sub(s[g], v_set(max)));
        v_storef(p + g * V_LANES, e);
        sum = v_add(sum, e);
    }
    float keep = running[0] == max ? 1 : expf(running[0] - max);
    running[0] = max;
    running[1] = running[1] * keep + v_reduce_add(sum);
    page_values(w, out, a->dv, keep, p, from - base, to - base);
}

INLINE void attend_page(const struct attn *a, enum kv_type t, const struct attn_work *w, int base, int first, int end)
{
    int from = first > base ? first - base : 0, to = end - base < KV_PAGE ? end - base : KV_PAGE;
    for (int j = from; j < to; j++) {
        load_row(t, w->k + j * w->k_cols, attn_k(a, base + j), a->dk, w->k_cols);
        load_row(t, w->v + j * w->v_cols, attn_v(a, base + j), a->dv, w->v_cols);
    }
    for (int i = 0; i < a->n_q; i++) {
        int see_from, see_to;
        attn_span(a, a->pos0 + i, &see_from, &see_to);
        see_from = see_from > base ? see_from : base;
        see_to = see_to < base + KV_PAGE ? see_to : base + KV_PAGE;
        if (see_from < see_to)
            for (int head = 0; head < a->n_group; head++)
                attend_row(a, w, i, head, base, see_from, see_to);
    }
}

INLINE void attend(const struct attn *a, enum kv_type t, void *scratch)
{
    struct attn_work w = attn_work_at(a, scratch);
    int first, end, ignored;
    attn_span(a, a->pos0, &first, &ignored);
    attn_span(a, a->pos0 + a->n_q - 1, &ignored, &end);
    memset(w.k, 0, (size_t)KV_PAGE * (size_t)(w.k_cols) * sizeof *w.k); /* rows never loaded must hold numbers */
    for (int i = 0; i < a->n_q; i++)
        for (int head = 0; head < a->n_group; head++) {
            float *running = w.running + 2 * (i * a->n_group + head);
            running[0] = a->sinks ? a->sinks[head] : -INFINITY;
            running[1] = a->sinks ? 1 : 0;
            memset(a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv, 0, (size_t)a->dv * sizeof(float));
        }
    for (int base = first / KV_PAGE * KV_PAGE; base < end; base += KV_PAGE)
        attend_page(a, t, &w, base, first, end);
    for (int i = 0; i < a->n_q; i++)
        for (int head = 0; head < a->n_group; head++) {
            float *out = a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv;
            float sum = w.running[2 * (i * a->n_group + head) + 1];
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
