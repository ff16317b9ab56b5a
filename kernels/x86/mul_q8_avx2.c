/* mul_q8_avx2.c - block formats times int8 activations, AVX2. A group of 16 rows
 * is two vectors, and there are 16 registers: from three rows on (16 for codes of 8
 * bits) codes are unpacked into memory (panel_maddubs.tmpl.h). */
#include "kernels/x86/vec_avx2.h"
#define MAX_TILE 4
#define PANEL_TILE 4
#include "kernels/table.h"
#include "kernels/x86/panel_maddubs.tmpl.h"

#define ROW(id, low, ...) MUL_Q8_PANEL(mul_q8_##low##_avx2, FMT_##id)
FMT_BLOCKS(ROW)
#undef ROW
