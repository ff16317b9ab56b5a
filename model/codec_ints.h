/* codec_ints.h - integers in groups, each group with a scale and perhaps a zero point. */
#ifndef CORDEE_MODEL_CODEC_INTS_H
#define CORDEE_MODEL_CODEC_INTS_H

#include <stdbool.h>
#include <stdint.h>

#include "model/catalog.h"

/* All of a tensor with codec CODEC_INTS, dims [rows][cols]: cols is a multiple of 32 and
 * of the group. */

/* Row r as blocks of t->fmt: Q4_0, Q5_0 or Q8_0; n is dims[1]. */
void codec_ints_row(const struct file_tensor *t, int64_t r, int64_t n, void *dst);
/* The integer that stands for zero in a row's group; t->fmt need not be set. */
int codec_ints_zero(const struct file_tensor *t, int64_t row, int64_t group);
/* Every integer less its zero point is in [low, high]. Reads the whole tensor. */
bool codec_ints_between(const struct file_tensor *t, int low, int high);

#endif
