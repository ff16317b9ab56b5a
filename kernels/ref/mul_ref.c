/* mul_ref.c - matrix products, plainly.
 *
 * mul_f32_ref is the truth that other kernels are measured against: exact
 * weights, f32 activations, double sums. mul_q8_ref does the arithmetic of the
 * integer kernels: exact integer products inside a sub-scale, then f32.
 */
#include <string.h>

#include "base/f16.h"
#include "kernels/act.h"
#include "kernels/kernels.h"
#include "kernels/pack_traits.h"
#include "kernels/table.h"

static int last_row(const struct packed *w, int g1)
{
    return g1 * PACK_ROWS < w->n ? g1 * PACK_ROWS : w->n;
}

void mul_f32_ref(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0, int g1, void *scratch)
{
    float *row = scratch;
    for (int r = g0 * PACK_ROWS; r < last_row(w, g1); r++) {
        packed_dequant_row(w, r, row);
        for (int i = 0; i < m; i++) {
            const float *x = (const float *)((const char *)a + (size_t)i * act_row_bytes(ACT_F32, w->k));
            double sum = 0;
            for (int c = 0; c < w->k; c++)
                sum += (double)row[c] * (double)x[c];
            y[(size_t)i * ldy + (size_t)r] = (float)sum;
        }
    }
}

/* Sum of value * q over the columns [col, col + 16) of a block. */
static int dot_16(const struct pack_traits *t, const uint8_t *code, const int8_t *q)
{
    int sum = 0;
    for (int i = 0; i < 16; i++)
        sum += code_value(t, code[i]) * q[i];
    return sum;
}

/* One block of 32 columns from column col of a unit on, in units of the activation's scale. */
static float dot_block(enum fmt f, const struct parts *p, int col, const struct act_q8 *a)
{
    const struct pack_traits *t = &pack_traits[f];
    int low = dot_16(t, p->code + col, a->q), high = dot_16(t, p->code + col + 16, a->q + 16);
    if (t->factor != 16)
        return parts_scale(f, p, col) * (float)(low + high) * a->scale + parts_offset(f, p, col) * a->scaled_sum;
    return (parts_scale(f, p, col) * (float)low + parts_scale(f, p, col + 16) * (float)high +
            parts_offset(f, p, col) * (float)-a->neg_half[0] + parts_offset(f, p, col + 16) * (float)-a->neg_half[1]) *
           a->scale;
}

void mul_q8_ref(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0, int g1, void *scratch)
{
    const struct pack_traits *t = &pack_traits[w->fmt];
    (void)scratch;
    for (int r = g0 * PACK_ROWS; r < last_row(w, g1); r++) {
        const char *group = (const char *)w->data + (size_t)(r / PACK_ROWS) * w->group_bytes;
        struct parts p;
        for (int i = 0; i < m; i++)
            y[(size_t)i * ldy + (size_t)r] = 0;
        for (int u = 0; u < w->k / t->unit; u++) {
            parts_from_packed(w->fmt, &p, group, w->k, u, r % PACK_ROWS);
            for (int i = 0; i < m; i++) {
                const struct act_q8 *b =
                    (const struct act_q8 *)((const char *)a + (size_t)i * act_row_bytes(ACT_Q8, w->k));
                float sum = y[(size_t)i * ldy + (size_t)r];
                for (int c = 0; c < t->unit; c += SUB_COLS)
                    sum += dot_block(w->fmt, &p, c, &b[(u * t->unit + c) / SUB_COLS]);
                y[(size_t)i * ldy + (size_t)r] = sum;
            }
        }
    }
}
