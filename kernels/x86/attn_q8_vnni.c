/* attn_q8_vnni.c - attention over pages of q8_0 with integer dot products. See attn.tmpl.h.
 *
 *   scores  the query as int8 blocks of 32 (act.h); a block's sum is an exact integer, times
 *           the scales of query and position. Codes are made unsigned by flipping their
 *           sign bit, which adds 128 to each; the block's negated sum takes that back.
 *   values  of each page and block of 32 columns, weights times the positions' scales become
 *           unsigned bytes in units of their greatest. An error is at most 1/510 of
 *           the page's greatest weight.
 *
 * Integer sums have no order; what has one is the sum over blocks and over pages.
 */
#include "kernels/x86/vec_avx512.h"

#include <math.h>
#include <stdbool.h>

#include "kernels/act.h"
#include "kernels/attn.h"
#include "kernels/table.h"
#include "kernels/x86/math.tmpl.h"

#define ATTN_TILE 4
#define BLOCK_BYTES (KV_PAGE * KV_Q8_BLOCK)
#define CODES (2 * KV_PAGE) /* from a block's start, behind its scales */
#define WIDE (KV_PAGE / V_LANES)
#define QUADS 8

INLINE vi four(const void *p)
{
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm512_set1_epi32(bytes);
}

INLINE void attn_form(enum kv_type t, const struct attn *a, struct attn_row *row)
{
    (void)t;
    prepare_q8_avx512(row->form, row->q, (size_t)a->dk, 1, a->dk);
}

/* Pages are read as they are: latent ones cannot be of this type. */
INLINE bool attn_expands(enum kv_type t, const struct attn *a, int n_rows)
{
    (void)t;
    (void)a;
    (void)n_rows;
    return false;
}

INLINE enum kv_type attn_expanded(enum kv_type t)
{
    return t;
}

INLINE const char *attn_expand_k(enum kv_type t, const struct attn *a, char *page, const char *k,
                                 struct attn_next next)
{
    (void)t;
    (void)a;
    (void)page;
    (void)next;
    return k;
}

INLINE const char *attn_expand_v(enum kv_type t, const struct attn *a, char *page, const char *v,
                                 struct attn_next next)
{
    return attn_expand_k(t, a, page, v, next);
}

INLINE vf attn_keep_weights(enum kv_type t, const struct attn *a, struct attn_row *row, int g, vf p)
{
    (void)t;
    (void)a;
    v_storef(row->p + g * V_LANES, p);
    return p;
}

INLINE void attn_score_tile(enum kv_type t, const char *k, struct attn_next next, int dk, struct attn_row *row,
                            int rows, int at)
{
    vf sum[ATTN_TILE * WIDE];
    (void)t;
    UNROLL
    for (int i = 0; i < rows * WIDE; i++)
        sum[i] = v_zero();
    for (int b = 0; b < dk / 32; b++, k += BLOCK_BYTES) {
        vi dot[ATTN_TILE * WIDE];
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
        for (int i = 0; i < WIDE; i++)
            dot[r * WIDE + i] = v_set32(((const struct act_q8 *)row[r].form)[b].neg_sum * 128);
        attn_ask(next, b * BLOCK_BYTES, CODES);
        UNROLL
        for (int quad = 0; quad < QUADS; quad++) {
            vi x[WIDE];
            attn_ask(next, b * BLOCK_BYTES + CODES + quad * WIDE * V_BYTES, WIDE * V_BYTES);
            UNROLL
            for (int i = 0; i < WIDE; i++)
                x[i] = _mm512_xor_si512(v_load(k + CODES + (quad * WIDE + i) * V_BYTES), v_set8(-128));
            UNROLL
            for (int r = 0; r < rows; r++) {
                vi q = four(((const struct act_q8 *)row[r].form)[b].q + 4 * quad);
                UNROLL
                for (int i = 0; i < WIDE; i++)
                    dot[r * WIDE + i] = _mm512_dpbusd_epi32(dot[r * WIDE + i], x[i], q);
            }
        }
        UNROLL
        for (int i = 0; i < WIDE; i++) {
            vf scale = v_load_f16(k + 2 * i * V_LANES);
            UNROLL
            for (int r = 0; r < rows; r++) {
                vf both = v_mul(scale, v_set(((const struct act_q8 *)row[r].form)[b].scale));
                sum[r * WIDE + i] = v_fma(v_from_int(dot[r * WIDE + i]), both, sum[r * WIDE + i]);
            }
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int i = 0; i < WIDE; i++)
        v_storef(row[r].p + at + i * V_LANES, sum[r * WIDE + i]);
}

/* A row's weights of a page times the positions' scales, as bytes; returns their unit. */
INLINE float bytes_of_weights(uint8_t *to, const float *p, const vf scale[WIDE], const __mmask16 seen[WIDE])
{
    vf x[WIDE], most = v_zero();
    UNROLL
    for (int i = 0; i < WIDE; i++) {
        x[i] = _mm512_maskz_mul_ps(seen[i], v_loadf(p + i * V_LANES), scale[i]);
        most = v_max(most, x[i]);
    }
    float max = v_reduce_max(most);
    vf up = v_set(max > 0x1p-100f ? 255.0f / max : 0); /* below, the quotient may be infinite, and 0 times that is NaN */
    UNROLL
    for (int i = 0; i < WIDE; i++)
        _mm_storeu_si128((__m128i *)(void *)(to + i * V_LANES), _mm512_cvtusepi32_epi8(v_to_int(v_mul(x[i], up))));
    return max / 255.0f;
}

INLINE void attn_value_tile(enum kv_type t, const char *v, struct attn_next next, int dv, struct attn_row *row,
                            int rows, int at, int j0, int j1)
{
    uint8_t p[ATTN_TILE][KV_PAGE];
    __mmask16 seen[WIDE];
    uint32_t all = (j1 < KV_PAGE ? (1u << j1) - 1 : ~0u) & (~0u << j0);
    (void)t;
    UNROLL
    for (int i = 0; i < WIDE; i++)
        seen[i] = (__mmask16)(all >> i * V_LANES);
    for (int c = 0; c < dv; c += 32, v += BLOCK_BYTES) {
        vi dot[ATTN_TILE * 2];
        vf scale[WIDE];
        float unit[ATTN_TILE];
        attn_ask(next, c / 32 * BLOCK_BYTES, CODES);
        UNROLL
        for (int i = 0; i < WIDE; i++)
            scale[i] = v_load_f16(v + 2 * i * V_LANES);
        UNROLL
        for (int r = 0; r < rows; r++)
            unit[r] = bytes_of_weights(p[r], row[r].p + at, scale, seen);
        UNROLL
        for (int i = 0; i < rows * 2; i++)
            dot[i] = v_set32(0);
        UNROLL
        for (int quad = 0; quad < QUADS; quad++) {
            vi low = v_load(v + CODES + 2 * quad * V_BYTES), high = v_load(v + CODES + (2 * quad + 1) * V_BYTES);
            attn_ask(next, c / 32 * BLOCK_BYTES + CODES + 2 * quad * V_BYTES, 2 * V_BYTES);
            UNROLL
            for (int r = 0; r < rows; r++) {
                vi x = four(p[r] + 4 * quad);
                dot[2 * r] = _mm512_dpbusd_epi32(dot[2 * r], x, low);
                dot[2 * r + 1] = _mm512_dpbusd_epi32(dot[2 * r + 1], x, high);
            }
        }
        UNROLL
        for (int i = 0; i < rows * 2; i++) {
            float *to = row[i / 2].part + ATTN_PART_VALUES + c + i % 2 * V_LANES;
            v_storef(to, v_fma(v_loadf(to), v_set(row[i / 2].keep), v_mul(v_from_int(dot[i]), v_set(unit[i / 2]))));
        }
    }
}

#include "kernels/x86/attn_rows.tmpl.h"
#include "kernels/x86/attn.tmpl.h"

ATTN(attn_q8_0_vnni, KV_Q8_0)
