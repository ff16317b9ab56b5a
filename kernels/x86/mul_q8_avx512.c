/* mul_q8_avx512.c - block formats times int8 activations, AVX-512 without VNNI. */
#include "kernels/x86/vec_avx512.h"
#define MAX_TILE 8
#include "kernels/table.h"
#include "kernels/x86/dot_maddubs.tmpl.h"

MUL_Q8(mul_q8_q4_0_avx512, FMT_Q4_0)
MUL_Q8(mul_q8_q4_1_avx512, FMT_Q4_1)
MUL_Q8(mul_q8_q5_0_avx512, FMT_Q5_0)
MUL_Q8(mul_q8_q5_1_avx512, FMT_Q5_1)
MUL_Q8(mul_q8_q8_0_avx512, FMT_Q8_0)
MUL_Q8(mul_q8_q2_k_avx512, FMT_Q2_K)
MUL_Q8(mul_q8_q3_k_avx512, FMT_Q3_K)
MUL_Q8(mul_q8_q4_k_avx512, FMT_Q4_K)
MUL_Q8(mul_q8_q5_k_avx512, FMT_Q5_K)
MUL_Q8(mul_q8_q6_k_avx512, FMT_Q6_K)
MUL_Q8(mul_q8_iq4_nl_avx512, FMT_IQ4_NL)
MUL_Q8(mul_q8_iq4_xs_avx512, FMT_IQ4_XS)
MUL_Q8(mul_q8_mxfp4_avx512, FMT_MXFP4)
