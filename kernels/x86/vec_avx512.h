/* vec_avx512.h - the vector words that templates are written in: 512 bits.
 *
 * vi is 64 bytes of integers, vu the same as 32-bit lanes for plain C operators,
 * vf 16 floats. Everything is static inline: a shared copy made with these flags
 * could be linked into a program for a smaller machine.
 */
#ifndef CORDEE_KERNELS_X86_VEC_AVX512_H
#define CORDEE_KERNELS_X86_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#elif defined(__OPTIMIZE__)
#define UNROLL _Pragma("GCC unroll 32")
#else /* at -O0 gcc says that it ignores the hint, which -Werror takes for an error */
#define UNROLL
#endif

#define V_BYTES 64
#define V_LANES 16

typedef __m512i vi;
typedef uint32_t vu __attribute__((vector_size(64)));
typedef __m512 vf;

INLINE vi v_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

INLINE void v_store(void *p, vi x)
{
    _mm512_storeu_si512(p, x);
}

/* x, computed here and now: compilers like to put sums off until all their terms are
 * there, and have no registers for them. */
INLINE vi v_now(vi x)
{
    __asm__ volatile("" : "+v"(x));
    return x;
}

INLINE vi v_set8(int x)
{
    return _mm512_set1_epi8((char)x);
}

INLINE vi v_set32(int x)
{
    return _mm512_set1_epi32(x);
}

INLINE vf v_set(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vf v_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE vf v_loadf(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void v_storef(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

/* The first n lanes, 0 <= n <= V_LANES; the others read as zero and are not touched. */
INLINE vf v_loadf_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

INLINE void v_storef_n(float *p, vf x, int n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), x);
}

/* V_LANES halves; V_LANES signed or unsigned bytes as floats; unsigned bytes as lanes. */
INLINE vf v_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

/* One half in every lane. */
INLINE vf v_set_f16(const void *p)
{
    short half;
    memcpy(&half, p, sizeof half);
    return _mm512_cvtph_ps(_mm256_set1_epi16(half));
}

/* Two floats in every pair of lanes. */
INLINE vf v_set_pair(const float *p)
{
    double both;
    memcpy(&both, p, sizeof both);
    return _mm512_castpd_ps(_mm512_set1_pd(both));
}

INLINE vf v_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

INLINE vf v_load_s8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}

INLINE vi v_load_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}

INLINE vi v_load_table16(const void *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128(p));
}

INLINE vi v_lookup(vi table, vi index)
{
    return _mm512_shuffle_epi8(table, index);
}

INLINE vi v_add8(vi a, vi b)
{
    return _mm512_add_epi8(a, b);
}

INLINE vi v_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}

INLINE vi v_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

INLINE vf v_from_int(vi x)
{
    return _mm512_cvtepi32_ps(x);
}

INLINE vf v_as_float(vi x)
{
    return _mm512_castsi512_ps(x);
}

INLINE vi v_as_int(vf x)
{
    return _mm512_castps_si512(x);
}

INLINE vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

INLINE vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

INLINE vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c, rounded once. */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

INLINE vf v_abs(vf a)
{
    return _mm512_abs_ps(a);
}

/* Round half to even. */
INLINE vf v_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE vi v_to_int(vf a)
{
    return _mm512_cvtps_epi32(a);
}

INLINE float v_reduce_add(vf a)
{
    return _mm512_reduce_add_ps(a);
}

INLINE int v_reduce_add_int(vi a)
{
    return _mm512_reduce_add_epi32(a);
}

INLINE float v_reduce_max(vf a)
{
    return _mm512_reduce_max_ps(a);
}

/* Lane i of 4 is the greatest of the lanes i, i + 4, i + 8 ... */
INLINE __m128 v_fold_max(vf a)
{
    __m256 half = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    return _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* Bit i: whether the lanes i are equal. */
INLINE unsigned v_equal(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

/* yes where a < b, else no. */
INLINE vf v_if_less(vf a, vf b, vf yes, vf no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}

/* Stores the lanes as signed bytes. */
INLINE void v_store_s8(void *p, vi x)
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(x));
}

/* 16 lanes, one vector or two, as signed bytes. */
INLINE __m128i v_bytes_16(const vi x[16 / V_LANES])
{
    return _mm512_cvtepi32_epi8(x[0]);
}

INLINE void v_store_f16(void *p, vf x)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE vi v_maddubs(vi u, vi s)
{
    return _mm512_maddubs_epi16(u, s);
}

INLINE vi v_madd16(vi a, vi b)
{
    return _mm512_madd_epi16(a, b);
}

INLINE vi v_add16(vi a, vi b)
{
    return _mm512_add_epi16(a, b);
}

INLINE vi v_add32(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}

INLINE vi v_sub32(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}

/* |a| and b with the sign of a: their product is a * b. */
INLINE vi v_abs8(vi a)
{
    return _mm512_abs_epi8(a);
}

INLINE vi v_sign8(vi b, vi a)
{
    return _mm512_mask_sub_epi8(b, _mm512_movepi8_mask(a), _mm512_setzero_si512(), b);
}

/* 2^n for whole n in [-126, 127]. */
INLINE vf v_pow2(vf n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}

/* Stores the low 16 bits of each lane. */
INLINE void v_store_u16(void *p, vi x)
{
    _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(x));
}

/* 0, 1, 2, ... */
INLINE vf v_iota(void)
{
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/* a and b are V_LANES (even, odd) pairs in a row. */
INLINE void v_deinterleave(vf a, vf b, vf *even, vf *odd)
{
    const __m512i e = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *even = _mm512_permutex2var_ps(a, e, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(e, _mm512_set1_epi32(1)), b);
}

/* The inverse: lanes of a and b in turn. */
INLINE void v_interleave(vf a, vf b, vf *low, vf *high)
{
    const __m512i l = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *low = _mm512_permutex2var_ps(a, l, b);
    *high = _mm512_permutex2var_ps(a, _mm512_add_epi32(l, _mm512_set1_epi32(8)), b);
}

/* Complex products of (even, odd) pairs: x times cs. */
INLINE vf v_rotate_pairs(vf x, vf cs)
{
    vf swapped = _mm512_permute_ps(x, 0xb1);
    return _mm512_fmaddsub_ps(x, _mm512_moveldup_ps(cs), _mm512_mul_ps(swapped, _mm512_movehdup_ps(cs)));
}

/* Lane i of the result is the sum over the lanes of x[i], added as a tree whose
 * shape does not depend on i. */
INLINE vf v_sum_each(const vf x[V_LANES])
{
    vf a[8], b[4], c[2];
    UNROLL
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_add_ps(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512d p = _mm512_castps_pd(a[2 * i]), q = _mm512_castps_pd(a[2 * i + 1]);
        b[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)), _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)));
    }
    UNROLL
    for (int i = 0; i < 2; i++)
        c[i] = _mm512_add_ps(_mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0x44),
                             _mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
}

#endif
