/* attn_f32.tmpl.h - scores and values of a KV page in f32, whatever the page holds.
 *
 * Vectors of a page are [positions or columns][2]: the query's or the weights' pair is
 * broadcast and multiplied in; the two halves of a sum meet when the tile is done.
 * A page of f16 or bf16 is converted in the registers; for more rows than two tiles it is
 * converted once into scratch. Pages of q8_0 and of rows are always laid out anew, as f32.
 */
#include <math.h>
#include <stdbool.h>

#include "base/f16.h"
#include "kernels/attn.h"
#include "kernels/table.h"
#include "kernels/x86/math.tmpl.h"

#define ATTN_TILE (V_LANES / 4)
/* Vectors of a line (one pair of columns, all positions) that a tile takes at once. */
#define SCORE_WIDE 4
#define LINE_FLOATS (2 * KV_PAGE)

INLINE int kv_bytes_of(enum kv_type t)
{
    return t == KV_F32 ? 4 : 2;
}

/* Vector v of a line of elements, as f32. */
INLINE vf kv_load(enum kv_type t, const char *line, int v)
{
    switch (t) {
    case KV_F16:
        return v_load_f16(line + 2 * v * V_LANES);
    case KV_BF16:
        return v_load_bf16(line + 2 * v * V_LANES);
    default:
        return v_loadf((const float *)(const void *)line + v * V_LANES);
    }
}

INLINE void attn_form(enum kv_type t, const struct attn *a, struct attn_row *row)
{
    (void)t;
    (void)a;
    (void)row;
}

INLINE bool attn_expands(enum kv_type t, const struct attn *a, int n_rows)
{
    return a->latent || t == KV_Q8_0 || (t != KV_F32 && n_rows > 2 * ATTN_TILE);
}

INLINE enum kv_type attn_expanded(enum kv_type t)
{
    (void)t;
    return KV_F32;
}

INLINE vf attn_keep_weights(enum kv_type t, const struct attn *a, struct attn_row *row, int g, vf p)
{
    (void)t;
    (void)a;
    v_storef(row->p + g * V_LANES, p);
    return p;
}

/* ---- pages as f32 ---- */

INLINE void convert(enum kv_type t, float *to, const char *from, int n)
{
    int i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        v_storef(to + i, kv_load(t, from + i * kv_bytes_of(t), 0));
    for (uint16_t half; i < n; i++) {
        if (t == KV_F32) {
            memcpy(to + i, from + 4 * i, 4);
            continue;
        }
        memcpy(&half, from + 2 * i, 2);
        to[i] = t == KV_F16 ? f16_to_f32(half) : bf16_to_f32(half);
    }
}

/* Code number `which` of each four, as floats. */
INLINE vf code_of_four(vi fours, int which)
{
    typedef int32_t lanes __attribute__((vector_size(V_BYTES)));
    return v_from_int((vi)((lanes)((vu)fours << (24 - 8 * which)) >> 24));
}

/* n blocks of q8_0, each a strip of the page: [8][32][4] codes become [8][2][32][2] floats.
 * The scale belongs to the 32 (keys: positions) or to the 4 (values: positions too). */
INLINE void expand_q8(float *to, const char *block, int n, bool key, struct attn_next next)
{
    const char *first = block;
    for (int b = 0; b < n; b++, block += KV_PAGE * KV_Q8_BLOCK) {
        const char *codes = block + 2 * KV_PAGE;
        attn_ask(next, block - first, 2 * KV_PAGE);
        float scale[KV_PAGE];
        convert(KV_F16, scale, block, KV_PAGE);
        for (int t = 0; t < 8; t++, to += 2 * LINE_FLOATS)
            for (int i = 0; i < 32; i += V_LANES, codes += V_BYTES) {
                vi fours = v_load(codes);
                attn_ask(next, codes - first, V_BYTES);
                vf x[4], low, high;
                UNROLL
                for (int k = 0; k < 4; k++)
                    x[k] = v_mul(code_of_four(fours, k), key ? v_loadf(scale + i) : v_set(scale[4 * t + k]));
                UNROLL
                for (int k = 0; k < 4; k += 2) {
                    v_interleave(x[k], x[k + 1], &low, &high);
                    v_storef(to + k / 2 * LINE_FLOATS + 2 * i, low);
                    v_storef(to + k / 2 * LINE_FLOATS + 2 * i + V_LANES, high);
                }
            }
    }
}

INLINE const char *attn_expand_k(enum kv_type t, const struct attn *a, char *page, const char *k,
                                 struct attn_next next)
{
    float *to = (float *)(void *)page, *row = to + KV_PAGE * a->dk;
    if (t == KV_Q8_0) {
        expand_q8(to, k, a->dk / 32, true, next);
    } else if (!a->latent) {
        convert(t, to, k, KV_PAGE * a->dk);
    } else {
        for (int j = 0; j < KV_PAGE; j++, k += kv_row_bytes(t, a->dk)) {
            convert(t, row, k, a->dk);
            for (int c = 0; c < a->dk; c += 2)
                memcpy(to + c * KV_PAGE + 2 * j, row + c, 2 * sizeof(float));
        }
    }
    return page;
}

INLINE const char *attn_expand_v(enum kv_type t, const struct attn *a, char *page, const char *v,
                                 struct attn_next next)
{
    int cols = kv_cols(a->dv);
    float *to = (float *)(void *)page, *even = to + KV_PAGE * cols, *odd = even + a->dv;
    if (t == KV_Q8_0) {
        expand_q8(to, v, a->dv / 32, false, next);
    } else if (!a->latent) {
        convert(t, to, v, KV_PAGE * cols);
    } else {
        for (int j = 0; j < KV_PAGE; j += 2) {
            convert(t, even, v + (size_t)j * kv_row_bytes(t, a->dk), a->dv);
            convert(t, odd, v + (size_t)(j + 1) * kv_row_bytes(t, a->dk), a->dv);
            for (int c = 0; c < a->dv; c++) {
                float *pair = to + kv_v_element(a->dv, j, c);
                pair[0] = even[c];
                pair[1] = odd[c];
            }
        }
    }
    return page;
}

/* ---- tiles ---- */

/* row[0 .. rows).p[at ..] = q . k for the page's positions. */
INLINE void attn_score_tile(enum kv_type t, const char *k, struct attn_next next, int dk, struct attn_row *row,
                            int rows, int at)
{
    const int line_bytes = LINE_FLOATS * kv_bytes_of(t);
    for (int part = 0; part < LINE_FLOATS; part += SCORE_WIDE * V_LANES) {
        const char *line = k + part * kv_bytes_of(t);
        vf acc[ATTN_TILE * SCORE_WIDE], x[SCORE_WIDE];
        UNROLL
        for (int i = 0; i < rows * SCORE_WIDE; i++)
            acc[i] = v_zero();
        for (int c = 0; c < dk; c += 2, line += line_bytes) {
            UNROLL
            for (int i = 0; i < SCORE_WIDE; i++)
                x[i] = kv_load(t, line, i);
            attn_ask(next, line - k, SCORE_WIDE * V_LANES * kv_bytes_of(t));
            UNROLL
            for (int r = 0; r < rows; r++) {
                vf q = v_set_pair(row[r].q + c);
                UNROLL
                for (int i = 0; i < SCORE_WIDE; i++)
                    acc[r * SCORE_WIDE + i] = v_fma(q, x[i], acc[r * SCORE_WIDE + i]);
            }
        }
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
        for (int i = 0; i < SCORE_WIDE; i += 2) {
            vf even, odd;
            v_deinterleave(acc[r * SCORE_WIDE + i], acc[r * SCORE_WIDE + i + 1], &even, &odd);
            v_storef(row[r].p + at + (part + i * V_LANES) / 2, v_add(even, odd));
        }
    }
}

/* Zeros in place of what lies at positions outside [j0, j1), of the pair j, j + 1: a page
 * may hold anything there. */
INLINE vf seen_of_pair(vf x, int j, int j0, int j1)
{
    uint32_t mask[2] = {j >= j0 ? ~0u : 0, j + 1 < j1 ? ~0u : 0};
    float pair[2];
    memcpy(pair, mask, sizeof pair);
    return v_as_float(v_and(v_as_int(x), v_as_int(v_set_pair(pair))));
}

/* The columns of `wide` vectors from column c on. */
INLINE void value_columns(enum kv_type t, const char *v, struct attn_next next, int dv, struct attn_row *row,
                          int rows, int at, int j0, int j1, int c, int wide)
{
    const int line_bytes = 2 * kv_strip_cols(dv, c) * kv_bytes_of(t);
    vf acc[ATTN_TILE * 4], x[4];
    UNROLL
    for (int i = 0; i < rows * wide; i++)
        acc[i] = v_zero();
    const char *line = v + kv_v_element(dv, j0 / 2 * 2, c) * (size_t)kv_bytes_of(t);
    for (int j = j0 / 2 * 2; j < j1; j += 2, line += line_bytes) {
        UNROLL
        for (int i = 0; i < wide; i++)
            x[i] = kv_load(t, line, i);
        attn_ask(next, line - v, wide * V_LANES * kv_bytes_of(t));
        if (j < j0 || j + 1 >= j1)
            UNROLL
        for (int i = 0; i < wide; i++)
            x[i] = seen_of_pair(x[i], j, j0, j1);
        UNROLL
        for (int r = 0; r < rows; r++) {
            vf p = v_set_pair(row[r].p + at + j);
            UNROLL
            for (int i = 0; i < wide; i++)
                acc[r * wide + i] = v_fma(p, x[i], acc[r * wide + i]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int i = 0; i < wide; i += 2) {
        float *to = row[r].part + ATTN_PART_VALUES + c + i * V_LANES / 2;
        vf even, odd;
        v_deinterleave(acc[r * wide + i], i + 1 < wide ? acc[r * wide + i + 1] : v_zero(), &even, &odd);
        v_storef(to, v_fma(v_loadf(to), v_set(row[r].keep), v_add(even, odd)));
    }
}

INLINE void attn_value_tile(enum kv_type t, const char *v, struct attn_next next, int dv, struct attn_row *row,
                            int rows, int at, int j0, int j1)
{
    int c = 0, cols = kv_cols(dv);
    for (; c + 2 * V_LANES <= cols; c += 2 * V_LANES)
        value_columns(t, v, next, dv, row, rows, at, j0, j1, c, 4);
    if (c + V_LANES <= cols) {
        value_columns(t, v, next, dv, row, rows, at, j0, j1, c, 2);
        c += V_LANES;
    }
    if (c < cols)
        value_columns(t, v, next, dv, row, rows, at, j0, j1, c, 1);
}
