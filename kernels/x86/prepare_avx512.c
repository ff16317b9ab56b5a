/* prepare_avx512.c - see prepare.tmpl.h: AVX-512, the functions NAME_avx512. */
#include "kernels/x86/vec_avx512.h"
#define ISA_FN(name) name##_avx512
#include "kernels/x86/prepare.tmpl.h"
