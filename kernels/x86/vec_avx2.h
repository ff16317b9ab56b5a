/* vec_avx2.h - the vector words that templates are written in: 256 bits.
 * The same words as vec_avx512.h; see there.
 */
#ifndef CORDEE_KERNELS_X86_VEC_AVX2_H
#define CORDEE_KERNELS_X86_VEC_AVX2_H

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

#define V_BYTES 32
#define V_LANES 8

typedef __m256i vi;
typedef uint32_t vu __attribute__((vector_size(32)));
typedef __m256 vf;

INLINE vi v_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

INLINE void v_store(void *p, vi x)
{
    _mm256_storeu_si256(p, x);
}

/* x, computed here and now: compilers like to put sums off until all their terms are
 * there, and have no registers for them. */
INLINE vi v_now(vi x)
{
    __asm__ volatile("" : "+x"(x));
    return x;
}

INLINE vi v_set8(int x)
{
    return _mm256_set1_epi8((char)x);
}

INLINE vi v_set32(int x)
{
    return _mm256_set1_epi32(x);
}

INLINE vf v_set(float x)
{
    return _mm256_set1_ps(x);
}

INLINE vf v_zero(void)
{
    return _mm256_setzero_ps();
}

INLINE vf v_loadf(const float *p)
{
    return _mm256_loadu_ps(p);
}

INLINE void v_storef(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}

/* A mask of the first n lanes. */
INLINE vi v_first(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE vf v_loadf_n(const float *p, int n)
{
    return _mm256_maskload_ps(p, v_first(n));
}

INLINE void v_storef_n(float *p, vf x, int n)
{
    _mm256_maskstore_ps(p, v_first(n), x);
}

INLINE vf v_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

INLINE vf v_set_f16(const void *p)
{
    short half;
    memcpy(&half, p, sizeof half);
    return _mm256_cvtph_ps(_mm_set1_epi16(half));
}

INLINE vf v_set_pair(const float *p)
{
    double both;
    memcpy(&both, p, sizeof both);
    return _mm256_castpd_ps(_mm256_set1_pd(both));
}

INLINE vf v_load_bf16(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

INLINE vf v_load_s8(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}

INLINE vi v_load_u8(const void *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
}

INLINE vi v_load_table16(const void *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(p));
}

INLINE vi v_lookup(vi table, vi index)
{
    return _mm256_shuffle_epi8(table, index);
}

INLINE vi v_add8(vi a, vi b)
{
    return _mm256_add_epi8(a, b);
}

INLINE vi v_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}

INLINE vi v_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}

INLINE vf v_from_int(vi x)
{
    return _mm256_cvtepi32_ps(x);
}

INLINE vf v_as_float(vi x)
{
    return _mm256_castsi256_ps(x);
}

INLINE vi v_as_int(vf x)
{
    return _mm256_castps_si256(x);
}

INLINE vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

INLINE vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

INLINE vf v_abs(vf a)
{
    return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
}

INLINE vf v_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE vi v_to_int(vf a)
{
    return _mm256_cvtps_epi32(a);
}

INLINE float v_reduce_add(vf a)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

INLINE int v_reduce_add_int(vi a)
{
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

INLINE float v_reduce_max(vf a)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

INLINE __m128 v_fold_max(vf a)
{
    return _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
}

INLINE unsigned v_equal(vf a, vf b)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}

INLINE vf v_if_less(vf a, vf b, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

INLINE void v_store_s8(void *p, vi x)
{
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64(p, _mm_packs_epi16(words, words));
}

INLINE __m128i v_bytes_16(const vi x[16 / V_LANES])
{
    vi words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x[0], x[1]), 0xd8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

INLINE void v_store_f16(void *p, vf x)
{
    _mm_storeu_si128(p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE vi v_maddubs(vi u, vi s)
{
    return _mm256_maddubs_epi16(u, s);
}

INLINE vi v_madd16(vi a, vi b)
{
    return _mm256_madd_epi16(a, b);
}

INLINE vi v_add16(vi a, vi b)
{
    return _mm256_add_epi16(a, b);
}

INLINE vi v_add32(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}

INLINE vi v_sub32(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}

INLINE vi v_abs8(vi a)
{
    return _mm256_abs_epi8(a);
}

INLINE vi v_sign8(vi b, vi a)
{
    return _mm256_sign_epi8(b, a);
}

INLINE vf v_pow2(vf n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}

INLINE void v_store_u16(void *p, vi x)
{
    x = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    _mm_storeu_si128(p, _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}

INLINE vf v_iota(void)
{
    return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
}

INLINE vf v_in_order(vf x) /* undoes the order that 128-bit shuffles of two vectors leave */
{
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8));
}

INLINE void v_deinterleave(vf a, vf b, vf *even, vf *odd)
{
    *even = v_in_order(_mm256_shuffle_ps(a, b, 0x88));
    *odd = v_in_order(_mm256_shuffle_ps(a, b, 0xdd));
}

INLINE void v_interleave(vf a, vf b, vf *low, vf *high)
{
    vf l = _mm256_unpacklo_ps(a, b), h = _mm256_unpackhi_ps(a, b);
    *low = _mm256_permute2f128_ps(l, h, 0x20);
    *high = _mm256_permute2f128_ps(l, h, 0x31);
}

INLINE vf v_rotate_pairs(vf x, vf cs)
{
    vf swapped = _mm256_permute_ps(x, 0xb1);
    return _mm256_fmaddsub_ps(x, _mm256_moveldup_ps(cs), _mm256_mul_ps(swapped, _mm256_movehdup_ps(cs)));
}

INLINE vf v_sum_each(const vf x[V_LANES])
{
    vf a[4], b[2];
    UNROLL
    for (int i = 0; i < 4; i++)
        a[i] = _mm256_add_ps(_mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    UNROLL
    for (int i = 0; i < 2; i++) {
        __m256d p = _mm256_castps_pd(a[2 * i]), q = _mm256_castps_pd(a[2 * i + 1]);
        b[i] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(p, q)), _mm256_castpd_ps(_mm256_unpackhi_pd(p, q)));
    }
    return _mm256_add_ps(_mm256_permute2f128_ps(b[0], b[1], 0x20), _mm256_permute2f128_ps(b[0], b[1], 0x31));
}

#endif
