/* probe_bf16.c - see probe.tmpl.h. */
#include "kernels/x86/vec_avx512.h"
#include "kernels/x86/probe.tmpl.h"

INLINE vf probe_dpbf16(vf acc, vf x, vf y)
{
    return _mm512_dpbf16_ps(acc, (__m512bh)x, (__m512bh)y);
}

PROBE_MUL(probe_mul_bf16_bf16, vf, v_zero(), 4 * V_LANES, probe_dpbf16)
