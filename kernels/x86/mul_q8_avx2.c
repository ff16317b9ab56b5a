/* mul_q8_avx2.c - block formats times int8 activations, AVX2. A group of 16 rows
 * is two vectors; 16 registers leave room for four activation rows at once. */
#include "kernels/x86/vec_avx2.h"
#define MAX_TILE 4
#include "kernels/table.h"
#include "kernels/x86/dot_maddubs.tmpl.h"

MUL_Q8(mul_q8_q4_0_avx2, FMT_Q4_0)
MUL_Q8(mul_q8_q4_1_avx2, FMT_Q4_1)
MUL_Q8(mul_q8_q5_0_avx2, FMT_Q5_0)
MUL_Q8(mul_q8_q5_1_avx2, FMT_Q5_1)
MUL_Q8(mul_q8_q8_0_avx2, FMT_Q8_0)
MUL_Q8(mul_q8_q2_k_avx2, FMT_Q2_K)
MUL_Q8(mul_q8_q3_k_avx2, FMT_Q3_K)
MUL_Q8(mul_q8_q4_k_avx2, FMT_Q4_K)
MUL_Q8(mul_q8_q5_k_avx2, FMT_Q5_K)
MUL_Q8(mul_q8_q6_k_avx2, FMT_Q6_K)
MUL_Q8(mul_q8_iq4_nl_avx2, FMT_IQ4_NL)
MUL_Q8(mul_q8_iq4_xs_avx2, FMT_IQ4_XS)
MUL_Q8(mul_q8_mxfp4_avx2, FMT_MXFP4)
