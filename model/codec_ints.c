/* codec_ints.c - see codec_ints.h.
 *
 * GPTQ, AWQ and compressed-tensors all say w = scale * (q - zero), with unsigned q of
 * 2, 3, 4 or 8 bits in little-endian int32 words. They differ in where a field lies:
 *
 *   compressed-tensors  [rows][cols * bits / 32]: along the row; zero points
 *                       [rows * bits / 32][groups], along the column
 *   GPTQ                [cols * bits / 32][rows]: along the input dimension, 3 bits
 *                       across words; zero points [groups][rows * bits / 32]
 *   AWQ                 [cols][rows / 8]: along the output dimension, eight to a word
 *                       in the order 0 2 4 6 1 3 5 7; zero points likewise
 *
 * A difference of two 4-bit integers needs five bits: with zero points the values are
 * exactly Q5_0's, without (zero always 8) exactly Q4_0's. Fields of 32 columns are as
 * many words as a field has bits, and 32 columns are a block of all three formats.
 */
#include "model/codec_ints.h"

#include <string.h>

#include "base/f16.h"
#include "model/codec.h"

#define BLOCK 32

static uint32_t word_at(const uint8_t *p)
{
    uint32_t w;

    memcpy(&w, p, sizeof w);
    return w;
}

/* The first 32 fields of words that are `stride` bytes apart. */
static void unpack(const uint8_t *words, size_t stride, int bits, uint8_t q[BLOCK])
{
    uint64_t window = 0;
    int have = 0;

    for (int i = 0; i < BLOCK; i++) {
        if (have < bits) {
            window |= (uint64_t)word_at(words) << have;
            words += stride;
            have += 32;
        }
        q[i] = (uint8_t)(window & ((1u << bits) - 1));
        window >>= bits;
        have -= bits;
    }
}

/* Field i alone. */
static int field_at(const uint8_t *words, size_t stride, int bits, int64_t i)
{
    const size_t bit = (size_t)i * (size_t)bits;
    const uint8_t *first = words + bit / 32 * stride;
    uint64_t window = word_at(first);

    if (bit % 32 + (size_t)bits > 32)
        window |= (uint64_t)word_at(first + stride) << 32;
    return (int)(window >> bit % 32 & ((1u << bits) - 1));
}

/* Where AWQ puts output `row`. */
static int64_t awq_place(int64_t row)
{
    static const int8_t place[8] = {0, 4, 1, 5, 2, 6, 3, 7};

    return row / 8 * 8 + place[row % 8];
}

int codec_ints_zero(const struct file_tensor *t, int64_t row, int64_t group)
{
    const struct int_coding *c = &t->ints;
    const struct file_tensor *z = t->zeros;

    if (!z)
        return c->zero;
    const size_t line = (size_t)z->dims[1] * sizeof(uint32_t);
    switch (c->order) {
    case INTS_GPTQ:
        return field_at(z->data + (size_t)group * line, 4, c->bits, row) + c->zero_plus;
    case INTS_AWQ:
        return field_at(z->data + (size_t)group * line, 4, c->bits, awq_place(row));
    case INTS_ROWS:
    case INTS_BYTES:
        break;
    }
    if (c->zero_bytes)
        return (int8_t)z->data[row * z->dims[1] + group] + c->zero;
    return field_at(z->data + (size_t)group * 4, line, c->bits, row);
}

/* The integers of block b of a row. */
static void block_at(const struct file_tensor *t, int64_t row, int64_t b, uint8_t q[BLOCK])
{
    const size_t rows = (size_t)t->dims[0], cols = (size_t)t->dims[1], at = (size_t)row, block = (size_t)b;
    const int bits = t->ints.bits;

    switch (t->ints.order) {
    case INTS_ROWS:
        unpack(t->data + (at * (cols / BLOCK) + block) * (size_t)bits * 4, 4, bits, q);
        return;
    case INTS_BYTES:
        for (int i = 0; i < BLOCK; i++)
            q[i] = t->data[at * cols + block * BLOCK + (size_t)i] ^ 0x80;
        return;
    case INTS_GPTQ:
        unpack(t->data + (block * (size_t)bits * rows + at) * 4, rows * 4, bits, q);
        return;
    case INTS_AWQ:
        for (int i = 0; i < BLOCK; i++)
            q[i] = (uint8_t)field_at(t->data + (block * BLOCK + (size_t)i) * (rows / 8) * 4, 4, bits,
                                     awq_place(row));
        return;
    }
}

/* One block of the file's formats, without its scale; v is in the format's range. */
static void put_codes(enum fmt f, const int v[BLOCK], uint8_t *out)
{
    const int bias = f == FMT_Q5_0 ? 16 : 8;
    uint32_t fifth = 0;

    if (f == FMT_Q8_0) {
        for (int i = 0; i < BLOCK; i++)
            out[i] = (uint8_t)v[i];
        return;
    }
    if (f == FMT_Q5_0) {
        for (int i = 0; i < BLOCK; i++)
            fifth |= (uint32_t)((v[i] + bias) >> 4 & 1) << i;
        memcpy(out, &fifth, sizeof fifth);
        out += sizeof fifth;
    }
    for (int i = 0; i < BLOCK / 2; i++)
        out[i] = (uint8_t)(((v[i] + bias) & 15) | ((v[i + BLOCK / 2] + bias) & 15) << 4);
}

void codec_ints_row(const struct file_tensor *t, int64_t r, int64_t n, void *dst)
{
    const size_t block_bytes = (size_t)fmt_traits[t->fmt].block_bytes;
    const bool across = t->ints.order == INTS_GPTQ || t->ints.order == INTS_AWQ; /* scales [groups][rows] */
    const int64_t groups = n / t->scale_cols;
    uint8_t *out = dst;

    for (int64_t b = 0; b < n / BLOCK; b++, out += block_bytes) {
        const int64_t g = b * BLOCK / t->scale_cols;
        const int64_t at = across ? g * t->dims[0] + r : r / t->scale_rows * groups + g;
        const uint16_t scale = f32_to_f16(codec_scale_at(t->scales, at));
        const int zero = codec_ints_zero(t, r, g);
        uint8_t q[BLOCK];
        int v[BLOCK];
        block_at(t, r, b, q);
        for (int i = 0; i < BLOCK; i++)
            v[i] = q[i] - zero;
        memcpy(out, &scale, sizeof scale);
        put_codes(t->fmt, v, out + sizeof scale);
    }
}

bool codec_ints_between(const struct file_tensor *t, int low, int high)
{
    for (int64_t r = 0; r < t->dims[0]; r++)
        for (int64_t b = 0; b < t->dims[1] / BLOCK; b++) {
            const int zero = codec_ints_zero(t, r, b * BLOCK / t->scale_cols);
            uint8_t q[BLOCK];
            block_at(t, r, b, q);
            for (int i = 0; i < BLOCK; i++)
                if (q[i] - zero < low || q[i] - zero > high)
                    return false;
        }
    return true;
}
