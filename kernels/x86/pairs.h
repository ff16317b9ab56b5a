/* pairs.h - rows of bf16 pairs, the operand of AVX512_BF16 and of AMX: each 32-bit lane
 * holds two neighbours of what is summed over, the even one low. */
#ifndef CORDEE_KERNELS_X86_PAIRS_H
#define CORDEE_KERNELS_X86_PAIRS_H

#include "kernels/x86/vec_avx512.h"

/* 16 lanes of (even, odd), rounded to nearest even; `row` is 64-byte aligned. */
INLINE void store_pair(void *row, vf even, vf odd)
{
    const vi pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                      20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_store_si512(row, _mm512_permutexvar_epi16(pairs, (vi)_mm512_cvtne2ps_pbh(odd, even)));
}

/* The signed bytes 4 i + j of 16 fours, as floats. */
INLINE vf signed_byte(vi w, int j)
{
    return v_from_int(_mm512_srai_epi32(_mm512_slli_epi32(w, (unsigned)(24 - 8 * j)), 24));
}

#endif
