/* mul_f32_avx512.c - products with f32 activations, AVX-512. */
#include "kernels/x86/vec_avx512.h"
#define MAX_TILE 8
#include "kernels/table.h"
#include "kernels/x86/mul_f32.tmpl.h"

#define ROW(id, low, ...) MUL_F32(mul_f32_##low##_avx512, FMT_##id)
FMT_MAP(ROW)
#undef ROW
