/* split_k.c - super-blocks of 256 columns with integer sub-scales: the K types and IQ4_XS. */
#include <string.h>

#include "kernels/split.h"

/* Q4_K and Q5_K keep eight 6-bit scales and eight 6-bit minima in 12 bytes. */
static void scales_6bit_pairs(struct parts *p, const uint8_t *s)
{
    for (int i = 0; i < 4; i++) {
        p->scale[i] = (int8_t)(s[i] & 63);
        p->min[i] = s[i + 4] & 63;
        p->scale[i + 4] = (int8_t)((s[i + 8] & 15) | (s[i] >> 6) << 4);
        p->min[i + 4] = (uint8_t)(s[i + 8] >> 4 | (s[i + 4] >> 6) << 4);
    }
}

void split_q2_k(struct parts *p, const uint8_t *b)
{
    for (int i = 0; i < 16; i++) {
        p->scale[i] = b[i] & 15;
        p->min[i] = b[i] >> 4;
    }
    split_pairs_of_bits(p->code, b + 16);
    split_pairs_of_bits(p->code + 128, b + 48);
    p->d = get_u16(b + 80);
    p->m = get_u16(b + 82);
}

void split_q3_k(struct parts *p, const uint8_t *b)
{
    const uint8_t *high = b, *s = b + 96;
    split_pairs_of_bits(p->code, b + 32);
    split_pairs_of_bits(p->code + 128, b + 64);
    for (int i = 0; i < 256; i++)
        p->code[i] |= (uint8_t)((high[i % 32] >> (i / 32) & 1) << 2);
    for (int i = 0; i < 16; i++) {
        int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
        p->scale[i] = (int8_t)((low | (s[8 + i % 4] >> (i / 4 * 2) & 3) << 4) - 32);
    }
    p->d = wide_d(get_u16(b + 108), 1);
}

/* Without a fifth bit high is NULL. */
static void split_q45_k(struct parts *p, const uint8_t *b, const uint8_t *high, const uint8_t *q)
{
    p->d = get_u16(b);
    p->m = get_u16(b + 2);
    scales_6bit_pairs(p, b + 4);
    for (int i = 0; i < 256; i += 64, q += 32) /* 64 columns share 32 bytes */
        split_nibbles(p->code + i, q, 32);
    for (int i = 0; high && i < 256; i++)
        p->code[i] |= (uint8_t)((high[i % 32] >> (i / 32) & 1) << 4);
}

void split_q4_k(struct parts *p, const uint8_t *b)
{
    split_q45_k(p, b, NULL, b + 16);
}

void split_q5_k(struct parts *p, const uint8_t *b)
{
    split_q45_k(p, b, b + 16, b + 48);
}

void split_q6_k(struct parts *p, const uint8_t *b)
{
    const uint8_t *low = b, *high = b + 128;
    for (int i = 0; i < 256; i++) {
        int half = i / 128, j = i % 128;
        uint8_t byte = low[half * 64 + j % 64];
        int nibble = j < 64 ? byte & 15 : byte >> 4;
        p->code[i] = (uint8_t)(nibble | (high[half * 32 + j % 32] >> (j / 32 * 2) & 3) << 4);
    }
    memcpy(p->scale, b + 192, 16);
    p->d = wide_d(get_u16(b + 208), 1);
}

void split_iq4_xs(struct parts *p, const uint8_t *b)
{
    uint16_t high = get_u16(b + 2);
    p->d = wide_d(get_u16(b), 1);
    for (int i = 0; i < 8; i++) {
        int low = b[4 + i / 2] >> (i % 2 * 4) & 15;
        p->scale[i] = (int8_t)((low | (high >> (2 * i) & 3) << 4) - 32);
        split_nibbles(p->code + 32 * i, b + 8 + 16 * i, 16);
    }
}
