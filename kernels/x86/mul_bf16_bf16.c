/* mul_bf16_bf16.c - BF16 weights times bf16 activations: AVX512_BF16, prompt rows.
 *
 * One instruction multiplies 16 rows by a pair of columns with a broadcast pair:
 * twice the rate of f32. Each broadcast serves two groups, so that loads, of which there
 * is one a cycle as there is one product, leave the multiplier alone; so two groups by
 * eight rows reach 94 % of its peak where one by sixteen stopped at 70 to 80 %.
 *
 * Pairs are added in order along k inside a panel of PANEL_COLS columns; the panels'
 * sums are added to y in order.
 */
#include "kernels/x86/vec_avx512.h"

#include <stdbool.h>

#include "kernels/table.h"

enum { PANEL_COLS = 512, MAX_TILE = 8, MAX_ABREAST = 2 };

/* A panel of one or two neighbouring groups. */
struct panel {
    const uint16_t *w; /* group j's is at w + j * ldw */
    size_t ldw;
    int pairs;
    int n_out;  /* outputs from the first group on */
    bool first; /* the sum is stored, not added */
};

/* The pair of columns at x in every lane. */
INLINE __m512bh bcast_pair(const uint16_t *x)
{
    int32_t two;
    memcpy(&two, x, 4);
    return (__m512bh)v_now(v_set32(two)); /* loaded once for all groups */
}

/* y (+)= a panel of n groups times m activation rows; n and m are constants where this is inlined. */
INLINE void pairs_tile(float *y, size_t ldy, const struct panel *p, const uint16_t *x, size_t ldx, int m, int n)
{
    vf acc[MAX_TILE][MAX_ABREAST];
    UNROLL
    for (int i = 0; i < m; i++) {
        UNROLL
        for (int j = 0; j < n; j++)
            acc[i][j] = v_zero();
    }
    for (int pair = 0; pair < p->pairs; pair++) {
        __m512bh w[MAX_ABREAST];
        UNROLL
        for (int j = 0; j < n; j++)
            w[j] = (__m512bh)v_load(p->w + (size_t)j * p->ldw + 2 * PACK_ROWS * pair);
        UNROLL
        for (int i = 0; i < m; i++) {
            __m512bh two = bcast_pair(x + (size_t)i * ldx + 2 * pair);
            UNROLL
            for (int j = 0; j < n; j++)
                acc[i][j] = _mm512_dpbf16_ps(acc[i][j], w[j], two);
        }
    }
    UNROLL
    for (int j = 0; j < n; j++) {
        int left = p->n_out - j * PACK_ROWS, lanes = left < PACK_ROWS ? left : PACK_ROWS;
        UNROLL
        for (int i = 0; i < m; i++) {
            float *to = y + (size_t)i * ldy + j * PACK_ROWS;
            v_storef_n(to, p->first ? acc[i][j] : v_add(v_loadf_n(to, lanes), acc[i][j]), lanes);
        }
    }
}

INLINE void mul_pairs(float *y, size_t ldy, const struct panel *p, const uint16_t *x, size_t ldx, int m, int n)
{
    for (int i = 0, step; i < m; i += step, y += (size_t)step * ldy, x += (size_t)step * ldx) {
#define TILE(rows)                                        \
    if (m - i >= rows) {                                  \
        pairs_tile(y, ldy, p, x, ldx, rows, n);           \
        step = rows;                                      \
        continue;                                         \
    }
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
    size_t ldx = act_row_bytes(ACT_BF16, w->k) / sizeof(uint16_t), ldw = w->group_bytes / sizeof(uint16_t);
    (void)scratch;
    for (int g = g0, n; g < g1; g += n) {
        n = g1 - g < MAX_ABREAST ? 1 : MAX_ABREAST;
        for (int c = 0; c < w->k; c += PANEL_COLS) {
            int cols = w->k - c < PANEL_COLS ? w->k - c : PANEL_COLS;
            struct panel p = {(const uint16_t *)w->data + (size_t)g * ldw + (size_t)c * PACK_ROWS, ldw, (cols + 1) / 2,
                              w->n - g * PACK_ROWS, c == 0};
            float *to = y + (size_t)g * PACK_ROWS;
            const uint16_t *x = (const uint16_t *)a + c;
            if (n == 1)
                mul_pairs(to, ldy, &p, x, ldx, m, 1);
            else
                mul_pairs(to, ldy, &p, x, ldx, m, MAX_ABREAST);
        }
    }
}
