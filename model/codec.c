/* codec.c - see codec.h. */
#include "model/codec.h"

#include <string.h>

void codec_row(const struct file_tensor *t, int64_t r, int64_t n, void *dst)
{
    const size_t row = fmt_row_bytes(t->fmt, n);

    memcpy(dst, t->data + (size_t)r * row, row);
}

void codec_row_f32(const struct file_tensor *t, int64_t r, int64_t n, float *dst)
{
    const size_t row = fmt_row_bytes(t->fmt, n);

    fmt_dequant_row(t->fmt, dst, t->data + (size_t)r * row, n);
}
