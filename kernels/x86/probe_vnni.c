/* probe_vnni.c - see probe.tmpl.h. */
#include "kernels/x86/vec_avx512.h"
#include "kernels/x86/probe.tmpl.h"

PROBE_MUL(probe_mul_q8_vnni, vi, v_set32(0), 2 * V_BYTES, _mm512_dpbusd_epi32)
