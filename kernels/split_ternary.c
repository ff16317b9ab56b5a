/* split_ternary.c - weights of -1, 0 and 1 with one scale for 256 of them. */
#include "kernels/split.h"

/* A byte is a fraction in 256ths whose base-3 digits are the codes: what a
 * multiplication by 3 carries out of the byte is the next digit. n bytes hold
 * `digits` runs of n columns. */
static uint8_t *digits_of_3(uint8_t *code, const uint8_t *q, int n, int digits)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int digit = 0; digit < digits; digit++)
        for (int i = 0; i < n; i++)
            *code++ = (uint8_t)((uint8_t)(q[i] * power[digit]) * 3 >> 8);
    return code;
}

void split_tq1_0(struct parts *p, const uint8_t *b)
{
    uint8_t *code = digits_of_3(p->code, b, 32, 5);
    code = digits_of_3(code, b + 32, 16, 5);
    digits_of_3(code, b + 48, 4, 4);
    p->d = wide_d(get_u16(b + 52), 1);
}

void split_tq2_0(struct parts *p, const uint8_t *b)
{
    split_pairs_of_bits(p->code, b);
    split_pairs_of_bits(p->code + 128, b + 32);
    p->d = wide_d(get_u16(b + 64), 1);
}
