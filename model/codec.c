/* codec.c - see codec.h.
 *
 * FP8 (e4m3, "fn": no infinities) times a scale. Four significant bits times a
 * scale of up to four fit bf16's eight; hf_codecs.c chose bf16 only then. In f32 a
 * product rounds once, as the reference's does.
 *
 * MXFP4: blocks of 32 with one exponent. Hugging Face packs neighbours into a byte
 * (2i low, 2i + 1 high), GGML halves (i low, i + 16 high).
 */
#include "model/codec.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/f16.h"
#include "model/codec_ints.h"

#define BLOCK 32

static float e4m3_to_f32(uint8_t b)
{
    const int exponent = b >> 3 & 15, mantissa = b & 7;
    float x;

    if ((b & 0x7f) == 0x7f)
        return NAN;
    x = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    return b & 0x80 ? -x : x;
}

float codec_scale_at(const struct file_tensor *s, int64_t i)
{
    float x;

    fmt_dequant_row(s->fmt, &x, s->data + (size_t)i * (size_t)fmt_traits[s->fmt].block_bytes, 1);
    return x;
}

static void fp8_row(const struct file_tensor *t, int64_t r, int64_t n, void *dst)
{
    const uint8_t *src = t->data + (size_t)r * (size_t)n;
    const int64_t rows = t->n_dims >= 2 ? t->dims[t->n_dims - 2] : 1;
    const int64_t grid_rows = (rows + t->scale_rows - 1) / t->scale_rows;
    const int64_t grid_cols = (n + t->scale_cols - 1) / t->scale_cols;
    const int64_t first = (r / rows * grid_rows + r % rows / t->scale_rows) * grid_cols;

    for (int64_t g = 0; g < grid_cols; g++) {
        const float scale = codec_scale_at(t->scales, first + g);
        const int64_t end = (g + 1) * t->scale_cols < n ? (g + 1) * t->scale_cols : n;
        for (int64_t c = g * t->scale_cols; c < end; c++) {
            const float x = e4m3_to_f32(src[c]) * scale;
            if (t->fmt == FMT_F32) {
                memcpy((uint8_t *)dst + (size_t)c * sizeof x, &x, sizeof x);
            } else {
                const uint16_t half = f32_to_bf16(x);
                memcpy((uint8_t *)dst + (size_t)c * sizeof half, &half, sizeof half);
            }
        }
    }
}

static void mxfp4_row(const struct file_tensor *t, int64_t r, int64_t n, void *dst)
{
    const size_t blocks = (size_t)(n / BLOCK);
    const uint8_t *src = t->data + (size_t)r * blocks * (BLOCK / 2),
                  *exponent = t->scales->data + (size_t)r * blocks;
    uint8_t *out = dst;

    for (size_t b = 0; b < blocks; b++, src += BLOCK / 2, out += 1 + BLOCK / 2) {
        out[0] = exponent[b];
        for (int i = 0; i < BLOCK / 2; i++) {
            const int low = src[i / 2] >> 4 * (i % 2) & 15;
            const int high = src[(i + BLOCK / 2) / 2] >> 4 * (i % 2) & 15;
            out[1 + i] = (uint8_t)(low | high << 4);
        }
    }
}

void codec_row(const struct file_tensor *t, int64_t r, int64_t n, void *dst)
{
    size_t row;

    switch (t->codec) {
    case CODEC_PLAIN:
        row = fmt_row_bytes(t->fmt, n);
        memcpy(dst, t->data + (size_t)r * row, row);
        return;
    case CODEC_FP8:
        fp8_row(t, r, n, dst);
        return;
    case CODEC_MXFP4:
        mxfp4_row(t, r, n, dst);
        return;
    case CODEC_INTS:
        codec_ints_row(t, r, n, dst);
        return;
    }
}

void codec_row_f32(const struct file_tensor *t, int64_t r, int64_t n, float *dst)
{
    const size_t row = fmt_row_bytes(t->fmt, n);

    assert(t->codec == CODEC_PLAIN); /* binding refuses the rest */
    fmt_dequant_row(t->fmt, dst, t->data + (size_t)r * row, n);
}
