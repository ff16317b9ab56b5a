/* elementwise_avx2.c - see elementwise.tmpl.h: AVX2, the functions NAME_avx2. */
#include "kernels/x86/vec_avx2.h"
#define ISA_FN(name) name##_avx2
#include "kernels/x86/elementwise.tmpl.h"
