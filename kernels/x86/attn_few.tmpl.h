/* attn_few.tmpl.h - attention of a few query rows, as in decoding: straight from the KV page.
 *
 * One generated token does two operations with each cached number and query
 * head, so a detour of the page through scratch would cost as much as the arithmetic.
 * Here a tile of query heads meets a vector of K or V while it is in a register:
 *
 *   scores   [heads] x [V_LANES / heads] positions, one accumulator each, summed by one tree
 *   values   [heads] x [a few vectors of columns], along the positions of the page
 *
 * Each number is added up in the same order as in attn.tmpl.h, with the same
 * operations, so both ways give the same bits and callers may take the faster.
 *
 * With every line of keys or values the same line of the next page is asked for,
 * into the second-level cache: into the first, f16 ran at half the speed. Needs dk
 * and dv to be whole vectors.
 */
#ifndef CORDEE_KERNELS_X86_ATTN_FEW_TMPL_H
#define CORDEE_KERNELS_X86_ATTN_FEW_TMPL_H

/* Columns that kv_load() takes as one block, and vectors of it. */
#define KV_COLS 32
#define KV_VECTORS (KV_COLS / V_LANES)

/* The most queries of a call that come this way: each of them converts the page again. */
#define ATTN_FEW_QUERIES 4

INLINE size_t kv_block_bytes(enum kv_type t)
{
    return t == KV_Q8_0 ? KV_Q8_BLOCK : t == KV_F32 ? KV_COLS * sizeof(float) : KV_COLS * sizeof(uint16_t);
}

/* Vector v of a block of KV_COLS columns as f32. */
INLINE vf kv_load(enum kv_type t, const char *block, int v)
{
    switch (t) {
    case KV_F32:
        return v_loadf((const float *)(const void *)block + v * V_LANES);
    case KV_F16:
        return v_load_f16(block + 2 * v * V_LANES);
    case KV_BF16:
        return v_load_bf16(block + 2 * v * V_LANES);
    default:
        return v_mul(v_load_s8(block + 2 + v * V_LANES), v_set_f16(block));
    }
}

/* Asks for what kv_load() of the same vector reads, about once a cache line. */
INLINE void ask(enum kv_type t, const char *block, int v)
{
    int bytes = (int)kv_block_bytes(t) / KV_VECTORS;
    if (v * bytes % 64 < bytes)
        _mm_prefetch(block + v * bytes, _MM_HINT_T1);
}

/* acc[h][n] += q[h] times vector v of the block, for V_LANES / heads positions. */
INLINE void score_vector(enum kv_type t, const char *k, size_t stride, ptrdiff_t ahead, int v, const float *q,
                         int dk, int heads, vf acc[V_LANES])
{
    vf x[V_LANES];
    UNROLL
    for (int h = 0; h < heads; h++)
        x[h] = v_loadf(q + (size_t)h * (size_t)dk + v * V_LANES);
    UNROLL
    for (int n = 0; n < V_LANES / heads; n++) {
        vf key = kv_load(t, k + (size_t)n * stride, v);
        ask(t, k + (size_t)n * stride + ahead, v);
        UNROLL
        for (int h = 0; h < heads; h++)
            acc[h * (V_LANES / heads) + n] = v_fma(x[h], key, acc[h * (V_LANES / heads) + n]);
    }
}

/* row[h].p[j ...] = q[h] . k for V_LANES / heads positions from j on. */
INLINE void score_tile(enum kv_type t, const char *k, size_t stride, const float *q, int dk, int heads,
                       struct attn_row *row, int j, ptrdiff_t ahead)
{
    float s[V_LANES];
    vf acc[V_LANES];
    UNROLL
    for (int i = 0; i < V_LANES; i++)
        acc[i] = v_zero();
    int c = 0;
    for (; c + KV_COLS <= dk; c += KV_COLS, k += kv_block_bytes(t)) {
        UNROLL
        for (int v = 0; v < KV_VECTORS; v++)
            score_vector(t, k, stride, ahead, v, q + c, dk, heads, acc);
    }
    for (int v = 0; c < dk; c += V_LANES, v++)
        score_vector(t, k, stride, ahead, v, q + (c - v * V_LANES), dk, heads, acc);
    v_storef(s, v_sum_each(acc));
    UNROLL
    for (int h = 0; h < heads; h++)
        memcpy(row[h].p + j, s + h * (V_LANES / heads), sizeof(float) * (size_t)(V_LANES / heads));
}

/* `wide` vectors of out from column c on, for the page's positions [j0, j1). */
INLINE void value_tile(enum kv_type t, const char *v, size_t stride, float *out, int dv, int heads, int wide,
                       int c, const struct attn_row *row, int j0, int j1, ptrdiff_t ahead)
{
    int first = wide % KV_VECTORS == 0 ? 0 : c % KV_COLS / V_LANES;
    vf acc[V_LANES];
    UNROLL
    for (int h = 0; h < heads; h++)
        UNROLL
    for (int i = 0; i < wide; i++)
        acc[h * wide + i] =
            v_mul(v_loadf(out + (size_t)h * (size_t)dv + c + i * V_LANES), v_set(row[h].keep));
    v += (size_t)(c / KV_COLS) * kv_block_bytes(t) + (size_t)j0 * stride;
    for (int j = j0; j < j1; j++, v += stride) {
        vf x[V_LANES];
        UNROLL
        for (int i = 0; i < wide; i++) {
            x[i] = kv_load(t, v + (size_t)(i / KV_VECTORS) * kv_block_bytes(t), first + i % KV_VECTORS);
            ask(t, v + (size_t)(i / KV_VECTORS) * kv_block_bytes(t) + ahead, i % KV_VECTORS);
        }
        UNROLL
        for (int h = 0; h < heads; h++) {
            vf p = v_set(row[h].p[j]);
            UNROLL
            for (int i = 0; i < wide; i++)
                acc[h * wide + i] = v_fma(p, x[i], acc[h * wide + i]);
        }
    }
    UNROLL
    for (int h = 0; h < heads; h++)
        UNROLL
    for (int i = 0; i < wide; i++)
        v_storef(out + (size_t)h * (size_t)dv + c + i * V_LANES, acc[h * wide + i]);
}

/* What one query's heads do with the page at base, of which it sees [from, to). */
struct few {
    const struct attn *a;
    const char *k, *v; /* the page's rows */
    const float *q;    /* of head 0 */
    float *out;
    struct attn_row *row;
    int j0, j1;                 /* what is seen, counted from the page's start */
    ptrdiff_t k_ahead, v_ahead; /* from here to the same row of the next page; 0 if there is none */
};

INLINE void few_scores(enum kv_type t, struct few *f, int head, int heads)
{
    const struct attn *a = f->a;
    int each = V_LANES / heads;
    for (int j = f->j0 / each * each; j < f->j1; j += each)
        score_tile(t, f->k + (size_t)j * a->k_stride, a->k_stride, f->q + (size_t)head * (size_t)a->dk, a->dk,
                   heads, f->row + head, j, f->k_ahead);
}

INLINE void few_values(enum kv_type t, struct few *f, int head, int heads)
{
    const struct attn *a = f->a;
    float *out = f->out + (size_t)head * (size_t)a->dv;
    int c = 0;
#define TILE(wide)                                                                                    \
    if (wide <= V_LANES / heads && wide <= 8)                                                         \
        for (; c + wide * V_LANES <= a->dv; c += wide * V_LANES)                                      \
            value_tile(t, f->v, a->v_stride, out, a->dv, heads, wide, c, f->row + head, f->j0, f->j1, \
                       f->v_ahead);
    TILE(8)
    TILE(4)
    TILE(2)
    TILE(1)
#undef TILE
}

/* step(heads) for all heads of the group, the most at a time. */
#define EACH_HEADS(step)                                           \
    for (int head = 0, left; (left = f->a->n_group - head) > 0;) { \
        if (left >= 8) {                                           \
            step(t, f, head, 8);                                   \
            head += 8;                                             \
        } else if (left >= 4) {                                    \
            step(t, f, head, 4);                                   \
            head += 4;                                             \
        } else if (left >= 2) {                                    \
            step(t, f, head, 2);                                   \
            head += 2;                                             \
        } else {                                                   \
            step(t, f, head, 1);                                   \
            head += 1;                                             \
        }                                                          \
    }

INLINE void all_scores(enum kv_type t, struct few *f){EACH_HEADS(few_scores)}

INLINE void all_values(enum kv_type t, struct few *f)
{
    EACH_HEADS(few_values)
}
#undef EACH_HEADS

/* Query i and the page at base, of which it sees [from, to); its sequence ends at `end`. */
INLINE void attend_page_few(const struct attn *a, enum kv_type t, const struct attn_work *w, int i, int base,
                            int from, int to, int end)
{
    struct few f = {.a = a,
                    .k = attn_k(a, base),
                    .v = attn_v(a, base),
                    .q = a->q + (size_t)i * a->ldq,
                    .out = a->out + (size_t)i * a->ldo,
                    .row = w->row + i * a->n_group,
                    .j0 = from - base,
                    .j1 = to - base};
    if (base + KV_PAGE < end) {
        f.k_ahead = (const char *)attn_k(a, base + KV_PAGE) - f.k;
        f.v_ahead = (const char *)attn_v(a, base + KV_PAGE) - f.v;
    }
    all_scores(t, &f);
    for (int head = 0; head < a->n_group; head++) {
        vf s[PAGE_VECTORS];
        UNROLL
        for (int g = 0; g < PAGE_VECTORS; g++)
            s[g] = v_loadf(f.row[head].p + g * V_LANES);
        soften_row(a, &f.row[head], s, i, head, base, from, to);
    }
    all_values(t, &f);
}

#endif
