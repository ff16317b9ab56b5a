/* attn_bf16_bf16.c - attention over pages of bf16 and f16 with AVX512_BF16: queries and weights
 * as bf16 pairs, sums in f32. See attn.tmpl.h.
 *
 * A page of bf16 is the operand of the pair product as it lies: 16 positions by two columns, or
 * 16 columns by two positions. One of f16 is rounded to bf16, in registers for up to
 * two tiles of rows, in scratch for more. Latent pages, which are rows, are transposed into scratch.
 *
 * Rounding f16 to bf16 by way of f32 takes as long as half of the products. But both are a sign, an
 * exponent and a fraction: three bits less of the fraction, three more of exponent, and
 * the bits of x, shifted, are those of x * 2^-112 in bf16. That needs no conversion, only
 * queries and weights that are lifted by 2^112. Subnormals of f16, less than 6e-5, count as
 * zero, as the product instruction takes those of bf16.
 */
#include "kernels/x86/vec_avx512.h"

#include <math.h>
#include <stdbool.h>

#include "kernels/attn.h"
#include "kernels/table.h"
#include "kernels/x86/attn_pairs.h"
#include "kernels/x86/math.tmpl.h"

#define ATTN_TILE 4
#define SCORE_WIDE (KV_PAGE / V_LANES)

INLINE __m512bh pair(const void *p)
{
    int32_t both;
    memcpy(&both, p, sizeof both);
    return (__m512bh)_mm512_set1_epi32(both);
}

INLINE vf v_dot_pairs(vf sum, vi a, __m512bh b)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, b);
}

/* 32 values of f16 as bf16, times 2^-112. Halves are rounded away from zero in the first
 * value of a pair and towards it in the second, which leaves the mean alone. */
INLINE vi round_f16(vi x)
{
    __m512i up = _mm512_add_epi16((__m512i)x, _mm512_set1_epi32(0x00030004));
    return (vi)_mm512_and_si512(_mm512_srai_epi16(up, 3), _mm512_set1_epi16((short)0x8fff));
}

/* Latent pages are expanded to true values. */
INLINE float lift_of(enum kv_type t, const struct attn *a)
{
    return t == KV_F16 && !a->latent ? 0x1p112f : 1;
}

INLINE void attn_form(enum kv_type t, const struct attn *a, struct attn_row *row)
{
    form_pairs(a, row, lift_of(t, a));
}

INLINE vf attn_keep_weights(enum kv_type t, const struct attn *a, struct attn_row *row, int g, vf p)
{
    return keep_pairs(row, g, p, lift_of(t, a));
}

/* 16 pairs of a page; 8 and zeros where `half`. */
INLINE vi load_pairs(enum kv_type t, const char *p, bool half)
{
    vi x = half ? _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)p)) : v_load(p);
    return t == KV_F16 ? round_f16(x) : x;
}

INLINE bool attn_expands(enum kv_type t, const struct attn *a, int n_rows)
{
    return a->latent || (t == KV_F16 && n_rows > 2 * ATTN_TILE);
}

INLINE enum kv_type attn_expanded(enum kv_type t)
{
    (void)t;
    return KV_BF16;
}

INLINE void round_page(char *to, const char *page, int n, struct attn_next next)
{
    for (int i = 0; i < 2 * n; i += V_BYTES) {
        v_store(to + i, load_pairs(KV_F16, page + i, false));
        attn_ask(next, i, V_BYTES);
    }
}

INLINE const char *attn_expand_k(enum kv_type t, const struct attn *a, char *page, const char *k,
                                 struct attn_next next)
{
    uint16_t *room = (uint16_t *)(void *)(page + 2 * KV_PAGE * a->dk);
    if (!a->latent)
        round_page(page, k, KV_PAGE * a->dk, next);
    for (int j = 0; a->latent && j < KV_PAGE; j++)
        latent_key(page, j, latent_row(t, a, k, j, room), a->dk);
    return page;
}

INLINE const char *attn_expand_v(enum kv_type t, const struct attn *a, char *page, const char *v,
                                 struct attn_next next)
{
    int cols = kv_cols(a->dv);
    uint16_t *even = (uint16_t *)(void *)(page + 2 * KV_PAGE * cols), *odd = even + a->dk;
    if (!a->latent)
        round_page(page, v, KV_PAGE * cols, next);
    for (int j = 0; a->latent && j < KV_PAGE; j += 2)
        latent_values(page, a->dv, j, latent_row(t, a, v, j, even), latent_row(t, a, v, j + 1, odd), a->dv);
    return page;
}

INLINE void attn_score_tile(enum kv_type t, const char *k, struct attn_next next, int dk, struct attn_row *row,
                            int rows, int at)
{
    enum { LINE = 4 * KV_PAGE, CHAINS = 2 };
    vf acc[ATTN_TILE * CHAINS * SCORE_WIDE];
    UNROLL
    for (int i = 0; i < rows * CHAINS * SCORE_WIDE; i++)
        acc[i] = v_zero();
    for (int c = 0; c < dk; c += 2 * CHAINS)
        UNROLL
    for (int chain = 0; chain < CHAINS; chain++) {
        const char *line = k + (c / 2 + chain) * LINE;
        vi x[SCORE_WIDE];
        if (c + 2 * chain >= dk)
            break;
        UNROLL
        for (int i = 0; i < SCORE_WIDE; i++)
            x[i] = load_pairs(t, line + i * V_BYTES, false);
        attn_ask(next, line - k, LINE);
        UNROLL
        for (int r = 0; r < rows; r++) {
            __m512bh q = pair((const uint16_t *)row[r].form + c + 2 * chain);
            vf *sum = acc + (r * CHAINS + chain) * SCORE_WIDE;
            UNROLL
            for (int i = 0; i < SCORE_WIDE; i++)
                sum[i] = v_dot_pairs(sum[i], x[i], q);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int i = 0; i < SCORE_WIDE; i++)
        v_storef(row[r].p + at + i * V_LANES,
                 v_add(acc[r * CHAINS * SCORE_WIDE + i], acc[(r * CHAINS + 1) * SCORE_WIDE + i]));
}

/* `wide` vectors of 16 columns from column c on; 8 columns where `half`. */
INLINE void value_columns(enum kv_type t, const char *v, struct attn_next next, int dv, struct attn_row *row,
                          int rows, int at, int j0, int j1, int c, int wide, bool half)
{
    const int line_bytes = 4 * kv_strip_cols(dv, c);
    vf acc[ATTN_TILE * KV_STRIP / V_LANES];
    UNROLL
    for (int i = 0; i < rows * wide; i++)
        acc[i] = v_zero();
    const char *line = v + 2 * kv_v_element(dv, j0 / 2 * 2, c);
    for (int j = j0 / 2 * 2; j < j1; j += 2, line += line_bytes) {
        vi x[KV_STRIP / V_LANES];
        UNROLL
        for (int i = 0; i < wide; i++)
            x[i] = load_pairs(t, line + i * V_BYTES, half);
        attn_ask(next, line - v, wide * V_BYTES);
        if (j < j0 || j + 1 >= j1) /* a page may hold anything where nobody has written */
            UNROLL
        for (int i = 0; i < wide; i++)
            x[i] = v_and(x[i], v_set32((j >= j0 ? 0xffff : 0) | (j + 1 < j1 ? ~0xffff : 0)));
        UNROLL
        for (int r = 0; r < rows; r++) {
            __m512bh p = pair((const uint16_t *)(const void *)row[r].p + at + j);
            UNROLL
            for (int i = 0; i < wide; i++)
                acc[r * wide + i] = v_dot_pairs(acc[r * wide + i], x[i], p);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int i = 0; i < wide; i++) {
        float *to = row[r].part + ATTN_PART_VALUES + c + i * V_LANES;
        v_storef(to, v_fma(v_loadf(to), v_set(row[r].keep), acc[r * wide + i]));
    }
}

INLINE void attn_value_tile(enum kv_type t, const char *v, struct attn_next next, int dv, struct attn_row *row,
                            int rows, int at, int j0, int j1)
{
    int c = 0, cols = kv_cols(dv);
    for (; c + KV_STRIP <= cols; c += KV_STRIP)
        value_columns(t, v, next, dv, row, rows, at, j0, j1, c, KV_STRIP / V_LANES, false);
    for (; c + V_LANES <= cols; c += V_LANES)
        value_columns(t, v, next, dv, row, rows, at, j0, j1, c, 1, false);
    if (c < cols)
        value_columns(t, v, next, dv, row, rows, at, j0, j1, c, 1, true);
}

#include "kernels/x86/attn_rows.tmpl.h"
#include "kernels/x86/attn.tmpl.h"

ATTN(attn_bf16_bf16, KV_BF16)
ATTN(attn_f16_bf16, KV_F16)
