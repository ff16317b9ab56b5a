/* mul_bf16_bf16.c - BF16 weights times bf16 activations: AVX512_BF16, prompt rows.
 *
 * One instruction multiplies 16 rows by a pair of columns with a broadcast pair:
 * twice the rate of f32. Pairs are added in order along k inside a panel of
 * PANEL_COLS columns; the panels' sums are added to y in order.
 */
#include "kernels/x86/vec_avx512.h"

#include <stdbool.h>

#include "kernels/table.h"

enum { PANEL_COLS = 512, MAX_TILE = 16 };

INLINE __m512bh bcast_pair(const uint16_t *x)
{
    int32_t two;
    memcpy(&two, x, 4);
    return (__m512bh)_mm512_set1_epi32(two);
}

/* y (+)= `pairs` pairs of columns of a group times m activation rows; m is a
 * constant where this is inlined. */
INLINE void pairs_tile(float *y, size_t ldy, const uint16_t *w, int pairs, const uint16_t *x, size_t ldx, int m,
                       int n_out, bool first)
{
    vf acc[MAX_TILE];
    UNROLL
    for (int i = 0; i < m; i++)
        acc[i] = v_zero();
    for (int p = 0; p < pairs; p++) {
        __m512bh both = (__m512bh)v_load(w + 2 * PACK_ROWS * p);
        UNROLL
        for (int i = 0; i < m; i++)
            acc[i] = _mm512_dpbf16_ps(acc[i], both, bcast_pair(x + (size_t)i * ldx + 2 * p));
    }
    int n = n_out < PACK_ROWS ? n_out : PACK_ROWS;
    UNROLL
    for (int i = 0; i < m; i++) {
        float *to = y + (size_t)i * ldy;
        v_storef_n(to, first ? acc[i] : v_add(v_loadf_n(to, n), acc[i]), n);
    }
}

INLINE void mul_pairs(float *y, size_t ldy, const uint16_t *w, int pairs, const uint16_t *x, size_t ldx, int m,
                      int n_out, bool first)
{
    for (int i = 0, step; i < m; i += step, y += (size_t)step * ldy, x += (size_t)step * ldx) {
#define TILE(rows)                                                      \
    if (m - i >= rows) {                                                \
        pairs_tile(y, ldy, w, pairs, x, ldx, rows, n_out, first);       \
        step = rows;                                                    \
        continue;                                                       \
    }
        TILE(16)
        TILE(8)
        TILE(4)
        TILE(2)
        TILE(1)
#undef TILE
        step = 1; /* not reached: m - i >= 1 */
    }
}

void mul_bf16_bf16(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0, int g1, void *scratch)
{
    size_t ldx = act_row_bytes(ACT_BF16, w->k) / sizeof(uint16_t);
    (void)scratch;
    for (int g = g0; g < g1; g++) {
        const uint16_t *group = (const void *)((const char *)w->data + (size_t)g * w->group_bytes);
        for (int c = 0; c < w->k; c += PANEL_COLS) {
            int cols = w->k - c < PANEL_COLS ? w->k - c : PANEL_COLS;
            mul_pairs(y + (size_t)g * PACK_ROWS, ldy, group + (size_t)c * PACK_ROWS, (cols + 1) / 2,
                      (const uint16_t *)a + c, ldx, m, w->n - g * PACK_ROWS, c == 0);
        }
    }
}
