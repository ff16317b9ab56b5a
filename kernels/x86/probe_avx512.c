/* probe_avx512.c - see probe.tmpl.h. */
#include "kernels/x86/vec_avx512.h"
#include "kernels/x86/probe.tmpl.h"

PROBE_READ(probe_read_avx512)
PROBE_MUL(probe_mul_f32_avx512, vf, v_zero(), 2 * V_LANES, probe_fma)
PROBE_MUL(probe_mul_q8_avx512, vi, v_set32(0), 2 * V_BYTES, probe_maddubs)
