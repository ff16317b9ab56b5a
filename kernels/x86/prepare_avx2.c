/* prepare_avx2.c - see prepare.tmpl.h: AVX2, the functions NAME_avx2. */
#include "kernels/x86/vec_avx2.h"
#define ISA_FN(name) name##_avx2
#include "kernels/x86/prepare.tmpl.h"
