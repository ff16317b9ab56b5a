/* attn_pairs.h - what attention in bf16 pairs has in common, with AVX512_BF16 and with AMX:
 * queries and weights as bf16, and pages of rows laid out as pairs.
 *
 * The weights that were rounded are the ones that are summed for the denominator, so
 * rounding does not shift their mean.
 *
 * Pages may hold their values times a power of two (attn_bf16_bf16.c). Queries and weights are
 * then multiplied by its inverse, `lift`, which changes no digit of any product.
 */
#ifndef CORDEE_KERNELS_X86_ATTN_PAIRS_H
#define CORDEE_KERNELS_X86_ATTN_PAIRS_H

#include "kernels/attn.h"
#include "kernels/x86/pairs.h"

/* attn_form(): q as bf16, and zeros up to the end of the last line of 32 columns. */
INLINE void form_pairs(const struct attn *a, struct attn_row *row, float lift)
{
    const vf most = v_set(0x1.fep127f); /* of bf16: lifted, a query of 2^15 is more */
    uint16_t *to = row->form;
    for (int c = 0; c < (a->dk + 31) / 32 * 32; c += V_LANES) {
        int n = a->dk - c < 0 ? 0 : a->dk - c < V_LANES ? a->dk - c : V_LANES;
        vf x = v_loadf_n(row->q + c, n);
        if (lift != 1)
            x = v_max(v_sub(v_zero(), most), v_min(most, v_mul(x, v_set(lift)))); /* NaN stays NaN */
        _mm256_storeu_si256((__m256i *)(void *)(to + c), (__m256i)_mm512_cvtneps_pbh(x));
    }
}

/* attn_keep_weights(): those of 16 positions take the first half of the room that their scores had. */
INLINE vf keep_pairs(struct attn_row *row, int g, vf p, float lift)
{
    __m256i rounded = (__m256i)_mm512_cvtneps_pbh(v_mul(p, v_set(lift)));
    _mm256_storeu_si256((__m256i *)(void *)((char *)row->p + g * 32), rounded);
    return v_mul(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16)), v_set(1 / lift));
}

/* Row j of a latent page: where it lies, or rounded in `room`. */
INLINE const uint16_t *latent_row(enum kv_type t, const struct attn *a, const char *page, int j, uint16_t *room)
{
    const char *row = page + (size_t)j * kv_row_bytes(t, a->dk);
    if (t == KV_BF16)
        return (const uint16_t *)(const void *)row;
    for (int c = 0; c < a->dk; c += V_LANES) {
        __mmask16 here = (__mmask16)(a->dk - c < V_LANES ? (1u << (a->dk - c)) - 1 : 0xffff);
        vf x = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(here, row + 2 * c));
        _mm256_mask_storeu_epi16(room + c, here, (__m256i)_mm512_cvtneps_pbh(x));
    }
    return room;
}

/* Row j of a latent page as bf16 in to[j]'s columns: [dk/2][KV_PAGE][2]. */
INLINE void latent_key(char *to, int j, const uint16_t *row, int dk)
{
    for (int c = 0; c < dk; c += 2)
        memcpy(to + (c / 2 * KV_PAGE + j) * 4, row + c, 4);
}

/* The values of positions j and j + 1 to a V page of `cols` columns. */
INLINE void latent_values(char *page, int cols, int j, const uint16_t *even, const uint16_t *odd, int dv)
{
    for (int c = 0; c < dv; c++) {
        char *to = page + 2 * kv_v_element(cols, j, c);
        memcpy(to, even + c, 2);
        memcpy(to + 2, odd + c, 2);
    }
}

#endif
