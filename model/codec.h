/* codec.h - rows of stored tensors, decoded without loss. */
#ifndef CORDEE_MODEL_CODEC_H
#define CORDEE_MODEL_CODEC_H

#include "base/err.h"
#include "model/catalog.h"

/* Row r (over all leading dimensions) of n elements, in t->fmt. Bounds are the
 * caller's: n is dims[n_dims - 1], or 1 for the element r of a plain vector. */
void codec_row(const struct file_tensor *t, int64_t r, int64_t n, void *dst);
/* The same as f32. */
void codec_row_f32(const struct file_tensor *t, int64_t r, int64_t n, float *dst);

/* Element i of a tensor of plain floats (f32, f16, bf16). */
float codec_scale_at(const struct file_tensor *scales, int64_t i);

#endif
