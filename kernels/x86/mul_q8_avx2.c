/* mul_q8_avx2.c - block formats times int8 activations, AVX2. A group of 16 rows
 * is two vectors; 16 registers leave room for four activation rows at once. */
#include "kernels/x86/vec_avx2.h"
#define MAX_TILE 4
#include "kernels/table.h"
#include "kernels/x86/dot_maddubs.tmpl.h"

#define ROW(id, low, ...) MUL_Q8(mul_q8_##low##_avx2, FMT_##id)
FMT_BLOCKS(ROW)
#undef ROW
