/* mul_q8_avx512.c - block formats times int8 activations, AVX-512 without VNNI. */
#include "kernels/x86/vec_avx512.h"
#define MAX_TILE 8
#include "kernels/table.h"
#include "kernels/x86/dot_maddubs.tmpl.h"

#define ROW(id, low, ...) MUL_Q8(mul_q8_##low##_avx512, FMT_##id)
FMT_BLOCKS(ROW)
#undef ROW
