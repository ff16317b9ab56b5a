/* mul_blas_ref.c - prompt rows through OpenBLAS, where we have no vector kernel.
 *
 * A GEMM library may choose other kernels for another number of rows and for the
 * rows at an edge, so a row's bits may depend on where it stands and on the
 * panel's shape (never on what the other rows hold). So the shape is fixed:
 * BLAS_PANEL_ROWS activation rows, zero-padded, a row's place being its absolute
 * position modulo that; 16 weight rows; all of k. One thread: the pool is ours.
 *
 * OpenBLAS picks its code for the machine it runs on: kernels_name() says which.
 */
#include <cblas.h>
#include <string.h>

#include "kernels/table.h"

/* The 16 rows of a group as f32, one after the other; rows past n are zero. */
static void group_rows(const struct packed *w, int g, float *rows)
{
    for (int r = 0; r < PACK_ROWS; r++) {
        if (g * PACK_ROWS + r < w->n)
            packed_dequant_row(w, g * PACK_ROWS + r, rows + (size_t)r * (size_t)w->k);
        else
            memset(rows + (size_t)r * (size_t)w->k, 0, (size_t)w->k * sizeof *rows);
    }
}

void mul_blas_ref(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0, int g1, void *scratch)
{
    int lda = (int)(act_row_bytes(ACT_F32, w->k) / sizeof(float));
    float *out = scratch, *rows = out + BLAS_PANEL_ROWS * PACK_ROWS;
    for (int g = g0; g < g1; g++) {
        /* Packed F32 is [k][16] already. */
        bool plain = w->fmt == FMT_F32;
        const float *b = plain ? (const void *)((const char *)w->data + (size_t)g * w->group_bytes) : rows;
        if (!plain)
            group_rows(w, g, rows);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, plain ? CblasNoTrans : CblasTrans, m, PACK_ROWS, w->k, 1, a, lda, b,
                    plain ? PACK_ROWS : w->k, 0, out, PACK_ROWS);
        int n = w->n - g * PACK_ROWS < PACK_ROWS ? w->n - g * PACK_ROWS : PACK_ROWS;
        for (int i = 0; i < m; i++)
            memcpy(y + (size_t)i * ldy + (size_t)g * PACK_ROWS, out + i * PACK_ROWS, (size_t)n * sizeof *y);
    }
}
