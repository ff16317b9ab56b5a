/* prepare.tmpl.h - activation rows and KV rows in the forms they are kept in.
 *
 * Include after vec_*.h with ISA_FN(name) defined. Rounding is the same as in
 * prepare_ref.c: prepared rows are equal bit for bit on every instruction set.
 */
#include "base/f16.h"
#include "kernels/act.h"
#include "kernels/table.h"

#define BLOCK_VECTORS (32 / V_LANES)

/* 32 columns to bytes; lanes past n count as zero. sums: of each 16 bytes. Returns max |x|. */
INLINE float quantise_32(int8_t *q, const float *x, int n, int sums[2])
{
    vf v[BLOCK_VECTORS], most = v_zero();
    UNROLL
    for (int i = 0; i < BLOCK_VECTORS; i++) {
        int left = n - i * V_LANES;
        v[i] = left >= V_LANES ? v_loadf(x + i * V_LANES) : v_loadf_n(x + i * V_LANES, left < 0 ? 0 : left);
        most = v_max(most, v_abs(v[i]));
    }
    float max = v_reduce_max(most);
    vf up = v_set(max > 0x1p-100f ? 127.0f / max : 0); /* below, the quotient may be infinite */
    vi total[2] = {v_set32(0), v_set32(0)};
    UNROLL
    for (int i = 0; i < BLOCK_VECTORS; i++) {
        vi whole = v_to_int(v_mul(v[i], up));
        total[i * V_LANES / 16] = v_add32(total[i * V_LANES / 16], whole);
        v_store_s8(q + i * V_LANES, whole);
    }
    sums[0] = v_reduce_add_int(total[0]);
    sums[1] = v_reduce_add_int(total[1]);
    return max;
}

/* The sums of the two halves of s[0], s[1], s[2], s[3]. */
INLINE __m128i sums_of_4(const __m128i s[4])
{
    __m128i a = _mm_add_epi64(_mm_unpacklo_epi64(s[0], s[1]), _mm_unpackhi_epi64(s[0], s[1]));
    __m128i b = _mm_add_epi64(_mm_unpacklo_epi64(s[2], s[3]), _mm_unpackhi_epi64(s[2], s[3]));
    return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0x88));
}

/* Four whole blocks abreast, each in a lane: what a block alone does in a chain of
 * reductions and scalar divisions happens once for four. */
INLINE void quantise_128(struct act_q8 *b, const float *x)
{
    const __m128 most_code = _mm_set1_ps(127), least = _mm_set1_ps(0x1p-100f);
    const __m128i flip = _mm_set1_epi8((char)0x80), zero = _mm_setzero_si128();
    vf v[4 * BLOCK_VECTORS];
    __m128 f[4];
    UNROLL
    for (int j = 0; j < 4; j++) {
        vf most = v_zero();
        UNROLL
        for (int i = 0; i < BLOCK_VECTORS; i++) {
            v[j * BLOCK_VECTORS + i] = v_loadf(x + 32 * j + i * V_LANES);
            most = v_max(most, v_abs(v[j * BLOCK_VECTORS + i]));
        }
        f[j] = v_fold_max(most);
    }
    f[0] = _mm_max_ps(_mm_unpacklo_ps(f[0], f[1]), _mm_unpackhi_ps(f[0], f[1]));
    f[2] = _mm_max_ps(_mm_unpacklo_ps(f[2], f[3]), _mm_unpackhi_ps(f[2], f[3]));
    __m128 max = _mm_max_ps(_mm_movelh_ps(f[0], f[2]), _mm_movehl_ps(f[2], f[0]));
    __m128 scale = _mm_div_ps(max, most_code);
    float up[4];
    _mm_storeu_ps(up, _mm_and_ps(_mm_cmp_ps(max, least, _CMP_GT_OQ), _mm_div_ps(most_code, max)));

    __m128i low[4], high[4]; /* sums of bytes counted from -128, in two parts each */
    UNROLL
    for (int j = 0; j < 4; j++) {
        vi whole[BLOCK_VECTORS];
        UNROLL
        for (int i = 0; i < BLOCK_VECTORS; i++)
            whole[i] = v_to_int(v_mul(v[j * BLOCK_VECTORS + i], v_set(up[j])));
        __m128i q = v_bytes_16(whole), r = v_bytes_16(whole + BLOCK_VECTORS / 2);
        _mm_storeu_si128((__m128i *)b[j].q, q);
        _mm_storeu_si128((__m128i *)(b[j].q + 16), r);
        low[j] = _mm_sad_epu8(_mm_xor_si128(q, flip), zero);
        high[j] = _mm_sad_epu8(_mm_xor_si128(r, flip), zero);
    }
    const __m128i offset = _mm_set1_epi32(16 * 128);
    __m128i neg_low = _mm_sub_epi32(offset, sums_of_4(low)), neg_high = _mm_sub_epi32(offset, sums_of_4(high));
    __m128i neg_sum = _mm_add_epi32(neg_low, neg_high);
    __m128 tail[4] = {scale, _mm_mul_ps(scale, _mm_cvtepi32_ps(_mm_sub_epi32(zero, neg_sum))),
                      _mm_castsi128_ps(neg_sum), _mm_castsi128_ps(neg_low)};
    _MM_TRANSPOSE4_PS(tail[0], tail[1], tail[2], tail[3]);
    int32_t last[4];
    _mm_storeu_si128((__m128i *)last, neg_high);
    UNROLL
    for (int j = 0; j < 4; j++) {
        _mm_storeu_ps(&b[j].scale, tail[j]); /* scale, scaled_sum, neg_sum, neg_half[0] */
        b[j].neg_half[1] = last[j];
    }
}

void ISA_FN(prepare_q8)(void *dst, const float *x, size_t ldx, int m, int k)
{
    for (int i = 0; i < m; i++, x += ldx) {
        struct act_q8 *b = (struct act_q8 *)((char *)dst + (size_t)i * act_row_bytes(ACT_Q8, k));
        int c = 0;
        for (; c + 128 <= k; c += 128, b += 4)
            quantise_128(b, x + c);
        for (; c < k; c += 32, b++) {
            int sum[2];
            b->scale = quantise_32(b->q, x + c, k - c < 32 ? k - c : 32, sum) / 127.0f;
            act_q8_sums(b, sum[0], sum[1]);
        }
    }
}

/* Round to nearest even by integer arithmetic: the same with and without AVX512_BF16. */
INLINE vi to_bf16(vf x)
{
    vu u = (vu)v_as_int(x), nan = (vu)((u & 0x7fffffffu) > 0x7f800000u);
    vu rounded = (u + 0x7fffu + (u >> 16 & 1)) >> 16;
    return (vi)((nan & (u >> 16 | 64)) | (~nan & rounded));
}

INLINE void row_to_bf16(uint16_t *y, const float *x, int n)
{
    int i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        v_store_u16(y + i, to_bf16(v_loadf(x + i)));
    for (; i < n; i++)
        y[i] = f32_to_bf16(x[i]);
}

void ISA_FN(prepare_bf16)(void *dst, const float *x, size_t ldx, int m, int k)
{
    for (int i = 0; i < m; i++) {
        uint16_t *row = (uint16_t *)((char *)dst + (size_t)i * act_row_bytes(ACT_BF16, k));
        row_to_bf16(row, x + (size_t)i * ldx, k);
        if (k % 2)
            row[k] = 0; /* weights come in pairs of columns */
    }
}

void ISA_FN(kv_put_bf16)(void *dst, const float *src, int n)
{
    row_to_bf16(dst, src, n);
}

void ISA_FN(kv_put_f16)(void *dst, const float *src, int n)
{
    uint16_t *y = dst;
    int i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        v_store_f16(y + i, v_loadf(src + i));
    for (; i < n; i++)
        y[i] = f32_to_f16(src[i]);
}

void ISA_FN(kv_put_q8_0)(void *dst, const float *src, int n)
{
    char *block = dst;
    for (int c = 0; c + 32 <= n; c += 32, block += KV_Q8_BLOCK) {
        int sums[2];
        uint16_t scale = f32_to_f16(quantise_32((int8_t *)block + 2, src + c, 32, sums) / 127.0f);
        memcpy(block, &scale, 2);
    }
}
