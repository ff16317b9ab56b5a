/* mul_q8_vnni.c - block formats times int8 activations, AVX-512 with VNNI.
 *
 * One instruction multiplies 16 rows by 4 columns with 4 broadcast bytes. Weights
 * are unsigned codes; what the bias adds too much is subtracted at the start
 * through the activation's sum: one shift, nothing per column.
 */
#include "kernels/x86/vec_avx512.h"
#define MAX_TILE 16
#define PREFETCH_NONE(t, m) ((m) == 1 && (t)->lo_bits == 8) /* a third faster so */
#include "kernels/table.h"
#include "kernels/x86/mul_q8.tmpl.h"

INLINE void dot_quads(const struct pack_traits *t, const vi *w, const char *a, size_t lda, int rows, int from, int n,
                      vi *sum)
{
    UNROLL
    for (int i = 0; i < rows; i++)
        sum[i] = bias_start(t, block_at(a, lda, i), from, n);
    UNROLL
    for (int q = from; q < from + n; q++) {
        UNROLL
        for (int i = 0; i < rows; i++)
            sum[i] = _mm512_dpbusd_epi32(sum[i], w[q], bcast_quad(block_at(a, lda, i), q));
    }
}

#define ROW(id, low, ...) MUL_Q8(mul_q8_##low##_vnni, FMT_##id)
FMT_BLOCKS(ROW)
#undef ROW
