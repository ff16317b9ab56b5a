/* split_small.c - blocks of 32 or 64 columns: a factor or two, then the codes. */
#include "kernels/split.h"

/* Columns whose bit is set gain 16. */
static void fifth_bits(uint8_t *code, uint32_t bits)
{
    for (int i = 0; i < 32; i++)
        code[i] |= (uint8_t)((bits >> i & 1) << 4);
}

void split_q4_0(struct parts *p, const uint8_t *b)
{
    p->d = get_u16(b);
    split_nibbles(p->code, b + 2, 16);
}

void split_iq4_nl(struct parts *p, const uint8_t *b)
{
    split_q4_0(p, b); /* only the values of the codes differ */
}

void split_q4_1(struct parts *p, const uint8_t *b)
{
    p->d = get_u16(b);
    p->m = get_u16(b + 2);
    split_nibbles(p->code, b + 4, 16);
}

void split_q5_0(struct parts *p, const uint8_t *b)
{
    p->d = get_u16(b);
    split_nibbles(p->code, b + 6, 16);
    fifth_bits(p->code, get_u32(b + 2));
}

void split_q5_1(struct parts *p, const uint8_t *b)
{
    p->d = get_u16(b);
    p->m = get_u16(b + 2);
    split_nibbles(p->code, b + 8, 16);
    fifth_bits(p->code, get_u32(b + 4));
}

void split_q8_0(struct parts *p, const uint8_t *b)
{
    p->d = get_u16(b);
    for (int i = 0; i < 32; i++)
        p->code[i] = b[2 + i] ^ 0x80;
}

void split_mxfp4(struct parts *p, const uint8_t *b)
{
    p->d = b[0];
    split_nibbles(p->code, b + 1, 16);
}

/* Four scales, then four times 16 columns. A scale is an e4m3 float without a
 * sign; 0x7f stands for NaN there, and GGML reads it as zero. */
void split_nvfp4(struct parts *p, const uint8_t *b)
{
    for (int i = 0; i < 4; i++) {
        p->scale[i] = (int8_t)(b[i] == 0x7f ? 0 : b[i] & 0x7f);
        split_nibbles(p->code + 16 * i, b + 4 + 8 * i, 8);
    }
}
