/* prepare_ref.c - activation rows in the forms that products take. */
#include <math.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/act.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

static void quantise_block(struct act_q8 *b, const float *x, int n)
{
    float most = 0;
    for (int i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    float up = most > 0x1p-100f ? 127.0f / most : 0; /* below, the quotient may be infinite */
    *b = (struct act_q8){.scale = most / 127.0f};
    int sum[2] = {0, 0};
    for (int i = 0; i < n; i++) {
        b->q[i] = (int8_t)lrintf(x[i] * up);
        sum[i / 16] += b->q[i];
    }
    act_q8_sums(b, sum[0], sum[1]);
}

void prepare_q8_ref(void *dst, const float *x, size_t ldx, int m, int k)
{
    for (int i = 0; i < m; i++) {
        struct act_q8 *row = (struct act_q8 *)((char *)dst + (size_t)i * act_row_bytes(ACT_Q8, k));
        for (int c = 0; c < k; c += 32)
            quantise_block(row++, x + (size_t)i * ldx + c, k - c < 32 ? k - c : 32);
    }
}

void prepare_f32_ref(void *dst, const float *x, size_t ldx, int m, int k)
{
    for (int i = 0; i < m; i++)
        memcpy((char *)dst + (size_t)i * act_row_bytes(ACT_F32, k), x + (size_t)i * ldx, (size_t)k * sizeof *x);
}

void prepare_bf16_ref(void *dst, const float *x, size_t ldx, int m, int k)
{
    for (int i = 0; i < m; i++) {
        uint16_t *row = (uint16_t *)((char *)dst + (size_t)i * act_row_bytes(ACT_BF16, k));
        for (int c = 0; c < k; c++)
            row[c] = f32_to_bf16(x[(size_t)i * ldx + c]);
        if (k % 2)
            row[k] = 0; /* weights come in pairs of columns */
    }
}
