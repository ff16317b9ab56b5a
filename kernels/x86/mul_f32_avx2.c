/* mul_f32_avx2.c - products with f32 activations, AVX2; 4 rows by 2 chains of additions fill the registers. */
#include "kernels/x86/vec_avx2.h"
#define MAX_TILE 4
#include "kernels/table.h"
#include "kernels/x86/mul_f32.tmpl.h"

#define ROW(id, low, ...) MUL_F32(mul_f32_##low##_avx2, FMT_##id)
FMT_MAP(ROW)
#undef ROW
