/* probe_avx2.c - see probe.tmpl.h. */
#include "kernels/x86/vec_avx2.h"
#include "kernels/x86/probe.tmpl.h"

PROBE_READ(probe_read_avx2)
PROBE_MUL(probe_mul_f32_avx2, vf, v_zero(), 2 * V_LANES, probe_fma)
PROBE_MUL(probe_mul_q8_avx2, vi, v_set32(0), 2 * V_BYTES, probe_maddubs)
