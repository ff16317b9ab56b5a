/* unpack.tmpl.h - codes and factors of a packed group in vectors.
 *
 * Include after vec_*.h. A group of 16 rows is HALVES vectors wide; h says which
 * one. `t` is always a row of pack_traits known at compile time, so the branches
 * below fold away.
 */
#include "kernels/pack_traits.h"

#define HALVES (PACK_ROWS / V_LANES)
#define QUADS (SUB_COLS / 4)

/* Field `quad` of `bits` bits of a run of vectors, moved to bit `to` of each byte. */
INLINE vi field(const uint8_t *vectors, int bits, int quad, int to, int h)
{
    int bit = quad * bits, from = bit % 8;
    vu v = (vu)v_load(vectors + bit / 8 * 64 + h * V_BYTES);
    if (from > to)
        v >>= from - to;
    else if (from < to)
        v <<= to - from; /* bits that leave a byte land outside the next one's mask */
    return bits == 8 ? (vi)v : v_and((vi)v, v_set8(((1 << bits) - 1) << to));
}

/* w[quad] = value + bias of 4 columns by V_LANES rows, unsigned bytes. */
INLINE void unpack(const struct pack_traits *t, const uint8_t *body, int h, vi w[QUADS])
{
    UNROLL
    for (int q = 0; q < QUADS; q++) {
        w[q] = field(body, t->lo_bits, q, 0, h);
        if (t->hi_bits)
            w[q] = v_or(w[q], field(body + 64 * t->lo_bits, t->hi_bits, q, t->lo_bits, h));
        if (t->table)
            w[q] = v_lookup(v_add8(v_load_table16(t->table), v_set8(t->bias)), w[q]);
    }
}

/* The unit's d (and m where there is one) of V_LANES rows. */
INLINE void unit_factors(const struct pack_traits *t, const uint8_t *head, int h, vf *d, vf *m)
{
    *m = v_zero();
    switch (t->d) {
    case PACK_D_DM:
        *m = v_load_f16(head + PACK_D_BYTES + 2 * V_LANES * h);
        *d = v_load_f16(head + 2 * V_LANES * h);
        break;
    case PACK_D_F16:
        *d = v_load_f16(head + 2 * V_LANES * h);
        break;
    case PACK_D_F32:
        *d = v_loadf((const float *)(const void *)(head + 4 * V_LANES * h));
        break;
    case PACK_D_UE4M3: /* of the sub-scales; see half_of_ue4m3() in format.c */
        *d = v_set(0x1p119f);
        break;
    default: { /* 2^(e - 128); see half_of_e8m0() in format.c */
        vu e = (vu)v_load_u8(head + V_LANES * h), tiny = (vu)(e < 2);
        *d = v_as_float((vi)((tiny & ((vu)v_set32(0x00200000) << (e & 1))) | (~tiny & ((e - 1) << 23))));
    }
    }
}

/* d * scale and the offset of the columns from `col` of the unit on. */
INLINE void factors(const struct pack_traits *t, const uint8_t *head, int h, int col, vf d, vf m, vf *scale,
                    vf *offset)
{
    *scale = d;
    *offset = m;
    if (!t->factor)
        return;
    const uint8_t *scales = head + t->d_bytes + col / t->factor * PACK_ROWS + V_LANES * h;
    const uint8_t *mins = scales + t->unit / t->factor * PACK_ROWS;
    if (t->min == PACK_MIN_NIBBLE) {
        vu both = (vu)v_load_u8(scales);
        *scale = v_mul(d, v_from_int((vi)(both & 15)));
        *offset = v_sub(v_zero(), v_mul(m, v_from_int((vi)(both >> 4))));
    } else if (t->d == PACK_D_UE4M3) {
        *scale = v_mul(d, v_as_float((vi)((vu)v_load_u8(scales) << 20)));
    } else {
        *scale = v_mul(d, v_load_s8(scales));
        if (t->min == PACK_MIN_BYTES)
            *offset = v_sub(v_zero(), v_mul(m, v_load_s8(mins)));
    }
}
