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
    int most = t->table ? 2 * t->bias - 1 : (1 << (t->lo_bits + t->hi_bits)) - 1;
    return most <= 15 ? 8 : most <= 31 ? 4 : most <= 63 ? 2 : 0;
}

/* 8-bit weights: the products of one quad, the sign moved to the activation. */
INLINE vi dot_signed(vi w, vi q)
{
    vi value = (vi)((vu)w ^ 0x80808080u);
    return v_maddubs(v_abs8(value), v_sign8(q, value));
}

/* Where registers are few; where there are enough the compiler's order is 10 % faster. */
INLINE vi in_order(vi sum)
{
    return HALVES > 1 ? v_now(sum) : sum;
}

INLINE void dot_quads(const struct pack_traits *t, const vi *w, const char *a, size_t lda, int rows, int from, int n,
                      vi *sum)
{
    int run = quads_in_16_bits(t), step = run == 0 ? 1 : run < n ? run : n;
    vi ones = v_set32(0x00010001);
    UNROLL
    for (int i = 0; i < rows; i++) {
        const struct act_q8 *b = block_at(a, lda, i);
        sum[i] = run ? bias_start(t, b, from, n) : v_set32(0); /* signed values have no bias */
        UNROLL
        for (int q = from; q < from + n; q += step) {
            vi pairs = run ? v_maddubs(w[q], bcast_quad(b, q)) : dot_signed(w[q], bcast_quad(b, q));
            for (int j = q + 1; j < q + step; j++)
                pairs = in_order(v_add16(pairs, v_maddubs(w[j], bcast_quad(b, j))));
            sum[i] = v_add32(sum[i], v_madd16(pairs, ones));
        }
    }
}
