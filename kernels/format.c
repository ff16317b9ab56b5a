/* format.c - the weight formats as files store them.
 *
 * A block of any format is first taken apart into raw factors and codes in
 * column order (struct parts); one formula turns parts into floats. Packing
 * starts from the same parts, so there is exactly one place that knows a
 * format's bit layout, and a packed row gives the same bits as a file row.
 */
#include "kernels/format.h"

#include <assert.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/pack_traits.h"

const struct fmt_traits fmt_traits[FMT_COUNT] = {
#define FMT_ROW(id, text, elements, size) [FMT_##id] = {.name = text, .block = elements, .block_bytes = size},
    FMT_MAP(FMT_ROW)
#undef FMT_ROW
};

const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

size_t fmt_row_bytes(enum fmt f, int64_t k)
{
    const struct fmt_traits *t = &fmt_traits[f];
    if (k < 0 || k % t->block != 0)
        return 0;
    return (size_t)(k / t->block) * (size_t)t->block_bytes;
}

static uint16_t get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get_u32(const uint8_t *p)
{
    return get_u16(p) | (uint32_t)get_u16(p + 2) << 16;
}

/* 16 bytes hold columns 0..15 in their low nibbles and 16..31 in the high ones. */
static void nibbles_32(uint8_t *code, const uint8_t *q)
{
    for (int i = 0; i < 16; i++) {
        code[i] = q[i] & 15;
        code[i + 16] = q[i] >> 4;
    }
}

/* Columns whose bit is set gain 16. */
static void fifth_bits_32(uint8_t *code, uint32_t bits)
{
    for (int i = 0; i < 32; i++)
        code[i] |= (uint8_t)((bits >> i & 1) << 4);
}

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

static void split_q2_k(struct parts *p, const uint8_t *b)
{
    const uint8_t *q = b + 16;
    for (int i = 0; i < 16; i++) {
        p->scale[i] = b[i] & 15;
        p->min[i] = b[i] >> 4;
    }
    for (int i = 0; i < 256; i++) /* halves of 128: four 32s, two bits each of the same 32 bytes */
        p->code[i] = q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
    p->d = get_u16(b + 80);
    p->m = get_u16(b + 82);
}

static void split_q3_k(struct parts *p, const uint8_t *b)
{
    const uint8_t *high = b, *q = b + 32, *s = b + 96;
    for (int i = 0; i < 256; i++) {
        int low = q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
        p->code[i] = (uint8_t)(low | (high[i % 32] >> (i / 32) & 1) << 2);
    }
    for (int i = 0; i < 16; i++) {
        int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
        p->scale[i] = (int8_t)((low | (s[8 + i % 4] >> (i / 4 * 2) & 3) << 4) - 32);
    }
    p->d = get_u16(b + 108);
}

static void split_q45_k(struct parts *p, const uint8_t *b, const uint8_t *high, const uint8_t *q)
{
    p->d = get_u16(b);
    p->m = get_u16(b + 2);
    scales_6bit_pairs(p, b + 4);
    for (int i = 0; i < 256; i++) { /* 64 columns share 32 bytes: low nibbles first */
        uint8_t byte = q[i / 64 * 32 + i % 32];
        p->code[i] = i % 64 < 32 ? byte & 15 : byte >> 4;
        if (high)
            p->code[i] |= (uint8_t)((high[i % 32] >> (i / 32) & 1) << 4);
    }
}

static void split_q6_k(struct parts *p, const uint8_t *b)
{
    const uint8_t *low = b, *high = b + 128;
    for (int i = 0; i < 256; i++) {
        int half = i / 128, j = i % 128;
        uint8_t byte = low[half * 64 + j % 64];
        int nibble = j < 64 ? byte & 15 : byte >> 4;
        p->code[i] = (uint8_t)(nibble | (high[half * 32 + j % 32] >> (j / 32 * 2) & 3) << 4);
    }
    memcpy(p->scale, b + 192, 16);
    p->d = get_u16(b + 208);
}

static void split_iq4_xs(struct parts *p, const uint8_t *b)
{
    uint16_t high = get_u16(b + 2);
    p->d = get_u16(b);
    for (int i = 0; i < 8; i++) {
        int low = b[4 + i / 2] >> (i % 2 * 4) & 15;
        p->scale[i] = (int8_t)((low | (high >> (2 * i) & 3) << 4) - 32);
        nibbles_32(p->code + 32 * i, b + 8 + 16 * i);
    }
}

void parts_from_file(enum fmt f, struct parts *p, const void *block)
{
    const uint8_t *b = block;
    switch (f) {
    case FMT_Q4_0:
    case FMT_IQ4_NL:
        p->d = get_u16(b);
        nibbles_32(p->code, b + 2);
        return;
    case FMT_Q4_1:
        p->d = get_u16(b);
        p->m = get_u16(b + 2);
        nibbles_32(p->code, b + 4);
        return;
    case FMT_Q5_0:
        p->d = get_u16(b);
        nibbles_32(p->code, b + 6);
        fifth_bits_32(p->code, get_u32(b + 2));
        return;
    case FMT_Q5_1:
        p->d = get_u16(b);
        p->m = get_u16(b + 2);
        nibbles_32(p->code, b + 8);
        fifth_bits_32(p->code, get_u32(b + 4));
        return;
    case FMT_Q8_0:
        p->d = get_u16(b);
        for (int i = 0; i < 32; i++)
            p->code[i] = b[2 + i] ^ 0x80;
        return;
    case FMT_MXFP4:
        p->d = b[0];
        nibbles_32(p->code, b + 1);
        return;
    case FMT_Q2_K:
        split_q2_k(p, b);
        return;
    case FMT_Q3_K:
        split_q3_k(p, b);
        return;
    case FMT_Q4_K:
        split_q45_k(p, b, NULL, b + 16);
        return;
    case FMT_Q5_K:
        split_q45_k(p, b, b + 16, b + 48);
        return;
    case FMT_Q6_K:
        split_q6_k(p, b);
        return;
    case FMT_IQ4_XS:
        split_iq4_xs(p, b);
        return;
    case FMT_F32:
    case FMT_F16:
    case FMT_BF16:
    case FMT_COUNT:
        break;
    }
    assert(!"a block format");
}

/* 2^(e - 128): the exponent of MXFP4 counts halves, as its table is doubled. */
static float half_of_e8m0(unsigned e)
{
    return f32_from_bits(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

float parts_scale(enum fmt f, const struct parts *p, int col)
{
    const struct pack_traits *t = &pack_traits[f];
    float d = t->d == PACK_D_E8M0 ? half_of_e8m0(p->d) : f16_to_f32(p->d);
    return t->factor ? d * (float)p->scale[col / t->factor] : d;
}

float parts_offset(enum fmt f, const struct parts *p, int col)
{
    const struct pack_traits *t = &pack_traits[f];
    switch (t->min) {
    case PACK_MIN_M:
        return f16_to_f32(p->m);
    case PACK_MIN_BYTES:
    case PACK_MIN_NIBBLE:
        return -(f16_to_f32(p->m) * (float)p->min[col / t->factor]);
    default:
        return 0;
    }
}

/* dst[unit] = the values of one unit. */
static void parts_values(enum fmt f, float *dst, const struct parts *p)
{
    const struct pack_traits *t = &pack_traits[f];
    int step = t->factor ? t->factor : SUB_COLS;
    for (int col = 0; col < t->unit; col += step) {
        float scale = parts_scale(f, p, col), offset = parts_offset(f, p, col);
        for (int i = col; i < col + step; i++) {
            float v = scale * (float)code_value(t, p->code[i]);
            dst[i] = t->min == PACK_MIN_NONE ? v : v + offset; /* x + 0 would lose a minus zero */
        }
    }
}

void fmt_dequant_row(enum fmt f, float *dst, const void *src, int64_t k)
{
    const uint8_t *b = src;
    struct parts p;
    switch (f) {
    case FMT_F32:
        memcpy(dst, src, (size_t)k * sizeof *dst);
        return;
    case FMT_F16:
        for (int64_t i = 0; i < k; i++)
            dst[i] = f16_to_f32(get_u16(b + 2 * i));
        return;
    case FMT_BF16:
        for (int64_t i = 0; i < k; i++)
            dst[i] = bf16_to_f32(get_u16(b + 2 * i));
        return;
    default:
        for (int64_t i = 0; i < k; i += fmt_traits[f].block, b += fmt_traits[f].block_bytes) {
            parts_from_file(f, &p, b);
            parts_values(f, dst + i, &p);
        }
    }
}

void packed_dequant_row(const struct packed *w, int r, float *dst)
{
    const struct pack_traits *t = &pack_traits[w->fmt];
    const char *group = (const char *)w->data + (size_t)(r / PACK_ROWS) * w->group_bytes;
    struct parts p;
    r %= PACK_ROWS;
    switch (w->fmt) {
    case FMT_F32:
        for (int i = 0; i < w->k; i++)
            dst[i] = ((const float *)group)[i * PACK_ROWS + r];
        return;
    case FMT_F16:
        for (int i = 0; i < w->k; i++)
            dst[i] = f16_to_f32(((const uint16_t *)group)[i * PACK_ROWS + r]);
        return;
    case FMT_BF16:
        for (int i = 0; i < w->k; i++)
            dst[i] = bf16_to_f32(((const uint16_t *)group)[i / 2 * 2 * PACK_ROWS + r * 2 + i % 2]);
        return;
    default:
        for (int u = 0; u < w->k / t->unit; u++) {
            parts_from_packed(w->fmt, &p, group, w->k, u, r);
            parts_values(w->fmt, dst + u * t->unit, &p);
        }
    }
}
