/* mul_f32_avx2.c - products with f32 activations, AVX2; 4 rows by 2 chains of additions fill the registers. */
#include "kernels/x86/vec_avx2.h"
#define MAX_TILE 4
#include "kernels/table.h"
#include "kernels/x86/mul_f32.tmpl.h"

MUL_F32(mul_f32_f32_avx2, FMT_F32)
MUL_F32(mul_f32_f16_avx2, FMT_F16)
MUL_F32(mul_f32_bf16_avx2, FMT_BF16)
MUL_F32(mul_f32_q4_0_avx2, FMT_Q4_0)
MUL_F32(mul_f32_q4_1_avx2, FMT_Q4_1)
MUL_F32(mul_f32_q5_0_avx2, FMT_Q5_0)
MUL_F32(mul_f32_q5_1_avx2, FMT_Q5_1)
MUL_F32(mul_f32_q8_0_avx2, FMT_Q8_0)
MUL_F32(mul_f32_q2_k_avx2, FMT_Q2_K)
MUL_F32(mul_f32_q3_k_avx2, FMT_Q3_K)
MUL_F32(mul_f32_q4_k_avx2, FMT_Q4_K)
MUL_F32(mul_f32_q5_k_avx2, FMT_Q5_K)
MUL_F32(mul_f32_q6_k_avx2, FMT_Q6_K)
MUL_F32(mul_f32_iq4_nl_avx2, FMT_IQ4_NL)
MUL_F32(mul_f32_iq4_xs_avx2, FMT_IQ4_XS)
MUL_F32(mul_f32_mxfp4_avx2, FMT_MXFP4)
