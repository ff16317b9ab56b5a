/* dot_maddubs.tmpl.h - integer dot products without VNNI.
 *
 * maddubs multiplies unsigned by signed bytes and adds pairs in 16 bits, which
 * saturate. Codes of few bits leave room to add several products before they are
 * widened; 8-bit ones would saturate at once, so there the sign moves from the
 * weight to the activation first, and 2 * 128 * 127 fits.
 */
#include "kernels/x86/mul_q8.tmpl.h"

/* Products whose 16-bit sum cannot overflow: most * 127 * 2 each. */
INLINE int quads_in_16_bits(const struct pack_traits *t)
{
    int most = t->table ? 2 * t->bias : (1 << (t->lo_bits + t->hi_bits)) - 1;
    return most <= 15 ? 8 : most <= 31 ? 4 : most <= 63 ? 2 : 0;
}

INLINE vi dot_quads(const struct pack_traits *t, const vi *w, const int8_t *q, int n, int sum)
{
    int run = quads_in_16_bits(t);
    vi ones = (vi)((vu)v_set32(0x00010001)), total = v_set32(run ? -t->bias * sum : 0);
    if (run == 0) {
        UNROLL
        for (int i = 0; i < n; i++) {
            vi value = (vi)((vu)w[i] ^ 0x80808080u);
            vi pairs = v_maddubs(v_abs8(value), v_sign8(bcast_quad(q + 4 * i), value));
            total = v_add32(total, v_madd16(pairs, ones));
        }
        return total;
    }
    int step = run < n ? run : n;
    UNROLL
    for (int i = 0; i < n; i += step) {
        vi pairs = v_maddubs(w[i], bcast_quad(q + 4 * i));
        for (int j = i + 1; j < i + step; j++)
            pairs = v_add16(pairs, v_maddubs(w[j], bcast_quad(q + 4 * j)));
        total = v_add32(total, v_madd16(pairs, ones));
    }
    return total;
}
