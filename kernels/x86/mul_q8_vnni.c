/* mul_q8_vnni.c - block formats times int8 activations, AVX-512 with VNNI.
 *
 * One instruction multiplies 16 rows by 4 columns with 4 broadcast bytes. Weights
 * are unsigned codes; what the bias adds too much is subtracted at the start
 * through the activation's sum: one shift, nothing per column.
 */
#include "kernels/x86/vec_avx512.h"
#define MAX_TILE 16
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

MUL_Q8(mul_q8_q4_0_vnni, FMT_Q4_0)
MUL_Q8(mul_q8_q4_1_vnni, FMT_Q4_1)
MUL_Q8(mul_q8_q5_0_vnni, FMT_Q5_0)
MUL_Q8(mul_q8_q5_1_vnni, FMT_Q5_1)
MUL_Q8(mul_q8_q8_0_vnni, FMT_Q8_0)
MUL_Q8(mul_q8_q2_k_vnni, FMT_Q2_K)
MUL_Q8(mul_q8_q3_k_vnni, FMT_Q3_K)
MUL_Q8(mul_q8_q4_k_vnni, FMT_Q4_K)
MUL_Q8(mul_q8_q5_k_vnni, FMT_Q5_K)
MUL_Q8(mul_q8_q6_k_vnni, FMT_Q6_K)
MUL_Q8(mul_q8_iq4_nl_vnni, FMT_IQ4_NL)
MUL_Q8(mul_q8_iq4_xs_vnni, FMT_IQ4_XS)
MUL_Q8(mul_q8_mxfp4_vnni, FMT_MXFP4)
