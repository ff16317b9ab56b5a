/* attn_bf16_bf16.c - attention over pages of bf16 with AVX512_BF16: queries and weights
 * as bf16 pairs, sums in f32. See attn.tmpl.h.
 *
 * A page is the operand of the pair product as it lies: 16 positions by two columns, or
 * 16 columns by two positions. Latent pages, which are rows, are transposed into scratch
 * without converting anything.
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

INLINE bool attn_expands(enum kv_type t, const struct attn *a, int n_rows)
{
    (void)t;
    (void)n_rows;
    return a->latent;
}

INLINE enum kv_type attn_expanded(enum kv_type t)
{
    return t;
}

INLINE const char *attn_expand_k(enum kv_type t, const struct attn *a, char *page, const char *k,
                                 const char *const *next)
{
    (void)t;
    (void)next;
    for (int j = 0; j < KV_PAGE; j++, k += 2 * a->dk)
        latent_key(page, j, (const uint16_t *)(const void *)k, a->dk);
    return page;
}

INLINE const char *attn_expand_v(enum kv_type t, const struct attn *a, char *page, const char *v,
                                 const char *const *next)
{
    const uint16_t *row = (const uint16_t *)(const void *)v;
    (void)t;
    (void)next;
    for (int j = 0; j < KV_PAGE; j += 2, row += 2 * a->dk)
        latent_values(page, a->dv, j, row, row + a->dk, a->dv);
    return page;
}

INLINE void attn_score_tile(enum kv_type t, const char *k, const char *const *next, int dk, struct attn_row *row,
                            int rows, int at)
{
    enum { LINE = 4 * KV_PAGE, CHAINS = 2 };
    vf acc[ATTN_TILE * CHAINS * SCORE_WIDE];
    (void)t;
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
            x[i] = v_load(line + i * V_BYTES);
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

/* `wide` vectors of 16 columns from column c on; of the last only `lanes`. */
INLINE void value_columns(const char *v, const char *const *next, int dv, struct attn_row *row, int rows,
                          int at, int j0, int j1, int c, int wide, __mmask16 lanes)
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
            x[i] = _mm512_maskz_loadu_epi32(lanes, line + i * V_BYTES);
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

INLINE void attn_value_tile(enum kv_type t, const char *v, const char *const *next, int dv, struct attn_row *row,
                            int rows, int at, int j0, int j1)
{
    int c = 0, cols = kv_cols(dv);
    (void)t;
    for (; c + KV_STRIP <= cols; c += KV_STRIP)
        value_columns(v, next, dv, row, rows, at, j0, j1, c, KV_STRIP / V_LANES, 0xffff);
    for (; c + V_LANES <= cols; c += V_LANES)
        value_columns(v, next, dv, row, rows, at, j0, j1, c, 1, 0xffff);
    if (c < cols)
        value_columns(v, next, dv, row, rows, at, j0, j1, c, 1, 0xff);
}

#include "kernels/x86/attn_rows.tmpl.h"
#include "kernels/x86/attn.tmpl.h"

ATTN(attn_bf16_bf16, KV_BF16)
