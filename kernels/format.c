/* format.c - the weight formats as files store them.
 *
 * A block of any format is first taken apart into raw factors and codes in
 * column order (struct parts, by the functions of split.h); one formula turns parts
 * into floats. Packing starts from the same parts, so there is exactly one place
 * that knows a format's bit layout, and a packed row gives the same bits as a file row.
 */
#include "kernels/format.h"

#include <assert.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/pack_traits.h"
#include "kernels/split.h"

const struct fmt_traits fmt_traits[FMT_COUNT] = {
#define FLOAT_ROW(id, low, elements, size) [FMT_##id] = {.name = #low, .block = elements, .block_bytes = size},
#define BLOCK_ROW(id, low, elements, size, ...) FLOAT_ROW(id, low, elements, size)
    FMT_FLOATS(FLOAT_ROW) FMT_BLOCKS(BLOCK_ROW)
#undef FLOAT_ROW
#undef BLOCK_ROW
};

const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

enum fmt fmt_named(const char *name)
{
    int f = 0;
    while (f < FMT_COUNT && strcmp(fmt_traits[f].name, name) != 0)
        f++;
    return (enum fmt)f;
}

size_t fmt_row_bytes(enum fmt f, int64_t k)
{
    const struct fmt_traits *t = &fmt_traits[f];
    if (k < 0 || k % t->block != 0)
        return 0;
    return (size_t)(k / t->block) * (size_t)t->block_bytes;
}

void parts_from_file(enum fmt f, struct parts *p, const void *block)
{
    static split_fn *const split[FMT_COUNT] = {
#define FMT_ROW(id, low, ...) [FMT_##id] = split_##low,
        FMT_BLOCKS(FMT_ROW)
#undef FMT_ROW
    };
    assert(split[f]); /* a block format */
    split[f](p, block);
}

/* 2^(e - 128): the exponent of MXFP4 counts halves, as its table is doubled. */
static float half_of_e8m0(unsigned e)
{
    return f32_from_bits(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

/* Half of an unsigned e4m3 float: its exponent and mantissa are the top of an f32's, 2^-120 too small. */
static float half_of_ue4m3(unsigned bits)
{
    return f32_from_bits(bits << 20) * 0x1p119f;
}

float parts_scale(enum fmt f, const struct parts *p, int col)
{
    const struct pack_traits *t = &pack_traits[f];
    float d = 0;
    switch (t->d) {
    case PACK_D_UE4M3:
        return half_of_ue4m3((uint8_t)p->scale[col / t->factor]);
    case PACK_D_E8M0:
        d = half_of_e8m0(p->d);
        break;
    case PACK_D_F32:
        d = f32_from_bits(p->d);
        break;
    default:
        d = f16_to_f32((uint16_t)p->d);
    }
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
    default: /* blocks */
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
