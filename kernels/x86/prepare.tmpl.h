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

void ISA_FN(prepare_q8)(void *dst, const float *x, size_t ldx, int m, int k)
{
    for (int i = 0; i < m; i++) {
        struct act_q8 *b = (struct act_q8 *)((char *)dst + (size_t)i * act_row_bytes(ACT_Q8, k));
        for (int c = 0; c < k; c += 32, b++) {
            int sum[2];
            b->scale = quantise_32(b->q, x + (size_t)i * ldx + c, k - c < 32 ? k - c : 32, sum) / 127.0f;
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
