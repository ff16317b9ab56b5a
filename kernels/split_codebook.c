/* split_codebook.c - the IQ1, IQ2 and IQ3 types, which choose points of a codebook.
 *
 * A file keeps the number of a point for every 8 (IQ3: 4) columns, and signs (IQ1:
 * a shift) beside it. Looking points up during a product would cost a gather for
 * every few weights, so they are looked up here, once, and packed as the codes
 * that they stand for: 2 to 4 bits a weight, which the kernels of all other types
 * multiply. It takes more memory than the file and loses nothing; docs/kernels.md
 * says how much.
 *
 * Scales are (2 s + 1) times a power of two that goes into d, so that the values
 * of codes are integers. d times a scale times a value has at most 22 bits and is
 * exact in f32 in any order: the values are GGML's to the last bit.
 */
#include "kernels/codebooks.h"
#include "kernels/split.h"

/* By magnitude, then by sign: what put_point() makes. */
const int8_t iq2_values[16] = {8, 25, 43, 0, -8, -25, -43};
const int8_t iq3_xxs_values[16] = {4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62};
const int8_t iq3_s_values[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};
/* Eighths: a digit -1, 0 or 1, shifted by an eighth up or down. */
const int8_t iq1_values[16] = {-7, 1, 9, 0, -9, -1, 7};

enum { IQ12_BITS = 2, IQ3_BITS = 3 }; /* of a digit */

/* The codes of a point's n columns: its digits and, above them, the columns' sign bits. */
static void put_point(uint8_t *code, unsigned point, int n, int bits, unsigned signs)
{
    for (int i = 0; i < n; i++)
        code[i] = (uint8_t)((point >> bits * i & ((1u << bits) - 1)) | (signs >> i & 1) << bits);
}

/* Eight signs of which seven are stored: the number of minus signs is even. */
static unsigned even_signs(unsigned seven)
{
    seven &= 127;
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

static unsigned nibble(const uint8_t *q, int i)
{
    return q[i / 2] >> (i % 2 * 4) & 15;
}

static int8_t odd_scale(unsigned s)
{
    return (int8_t)(2 * s + 1);
}

void split_iq2_xxs(struct parts *p, const uint8_t *b)
{
    p->d = wide_d(get_u16(b), 0.125f);
    b += 2;
    for (int i = 0; i < 8; i++, b += 8) { /* four points, four times seven signs, a scale */
        uint32_t rest = get_u32(b + 4);
        for (int j = 0; j < 4; j++)
            put_point(p->code + 32 * i + 8 * j, codebook_iq2_xxs[b[j]], 8, IQ12_BITS,
                      even_signs(rest >> 7 * j));
        p->scale[i] = odd_scale(rest >> 28);
    }
}

void split_iq2_xs(struct parts *p, const uint8_t *b)
{
    const uint8_t *scales = b + 66;
    p->d = wide_d(get_u16(b), 0.125f);
    for (int i = 0; i < 32; i++) { /* nine bits of a point, seven signs */
        unsigned q = get_u16(b + 2 + 2 * i);
        put_point(p->code + 8 * i, codebook_iq2_xs[q & 511], 8, IQ12_BITS, even_signs(q >> 9));
    }
    for (int i = 0; i < 16; i++)
        p->scale[i] = odd_scale(nibble(scales, i));
}

void split_iq2_s(struct parts *p, const uint8_t *b)
{
    const uint8_t *low = b + 2, *signs = b + 34, *high = b + 66, *scales = b + 74;
    p->d = wide_d(get_u16(b), 0.125f);
    for (int i = 0; i < 32; i++) {
        unsigned point = low[i] | (high[i / 4] >> (i % 4 * 2) & 3u) << 8;
        put_point(p->code + 8 * i, codebook_iq2_s[point], 8, IQ12_BITS, signs[i]);
    }
    for (int i = 0; i < 16; i++)
        p->scale[i] = odd_scale(nibble(scales, i));
}

void split_iq3_xxs(struct parts *p, const uint8_t *b)
{
    const uint8_t *points = b + 2, *rest = b + 66;
    p->d = wide_d(get_u16(b), 0.25f);
    for (int i = 0; i < 8; i++) { /* four times seven signs, a scale */
        uint32_t word = get_u32(rest + 4 * i);
        for (int j = 0; j < 8; j++)
            put_point(p->code + 32 * i + 4 * j, codebook_iq3_xxs[points[8 * i + j]], 4, IQ3_BITS,
                      even_signs(word >> j / 2 * 7) >> j % 2 * 4);
        p->scale[i] = odd_scale(word >> 28);
    }
}

void split_iq3_s(struct parts *p, const uint8_t *b)
{
    const uint8_t *low = b + 2, *high = b + 66, *signs = b + 74, *scales = b + 106;
    p->d = wide_d(get_u16(b), 1);
    for (int i = 0; i < 64; i++) {
        unsigned point = low[i] | (high[i / 8] >> i % 8 & 1u) << 8;
        put_point(p->code + 4 * i, codebook_iq3_s[point], 4, IQ3_BITS, nibble(signs, i));
    }
    for (int i = 0; i < 8; i++)
        p->scale[i] = odd_scale(nibble(scales, i));
}

/* 32 columns share the direction of their shift. Down is up with every sign
 * turned, and the scale's sign is free: so two bits a code are enough. */
void split_iq1_s(struct parts *p, const uint8_t *b)
{
    const uint8_t *low = b + 2;
    p->d = wide_d(get_u16(b), 0.125f);
    for (int i = 0; i < 8; i++) { /* four times three bits of a point, a scale, the direction */
        unsigned word = get_u16(b + 34 + 2 * i), down = word >> 15;
        uint8_t *code = p->code + 32 * i;
        for (int j = 0; j < 4; j++)
            put_point(code + 8 * j, codebook_iq1[low[4 * i + j] | (word >> 3 * j & 7) << 8], 8, IQ12_BITS, 0);
        for (int j = 0; down && j < 32; j++)
            code[j] = (uint8_t)(2 - code[j]);
        p->scale[i] = odd_scale(word >> 12 & 7);
        if (down)
            p->scale[i] = (int8_t)-p->scale[i];
    }
}

/* Eight columns share the direction, 16 a scale: the direction is part of the code. */
void split_iq1_m(struct parts *p, const uint8_t *b)
{
    const uint8_t *low = b, *high = b + 32, *scales = b + 48;
    unsigned d = 0;
    for (int i = 0; i < 4; i++) { /* a quarter of d above four scales of three bits */
        unsigned word = get_u16(scales + 2 * i);
        d |= word >> 12 << 4 * i;
        for (int j = 0; j < 4; j++)
            p->scale[4 * i + j] = odd_scale(word >> 3 * j & 7);
    }
    p->d = wide_d((uint16_t)d, 0.125f);
    for (int i = 0; i < 32; i++) {
        unsigned h = nibble(high, i);
        put_point(p->code + 8 * i, codebook_iq1[low[i] | (h & 7) << 8], 8, IQ12_BITS, h & 8 ? 0xff : 0);
    }
}
