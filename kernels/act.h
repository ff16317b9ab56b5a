/* act.h - the prepared forms of an activation row.
 *
 * ACT_Q8 cuts a row into blocks of 32 columns. A block is 48 bytes, so that one
 * pointer and constant offsets reach all of it: the columns come first because a
 * product broadcasts them four at a time.
 *
 * scale = max|x| / 127 and q = round-half-even(x * (127 / max|x|)), in f32; every
 * instruction set computes exactly this, so prepared rows are equal bit for bit.
 */
#ifndef CORDEE_KERNELS_ACT_H
#define CORDEE_KERNELS_ACT_H

#include <stdint.h>

struct act_q8 {
    int8_t q[32];
    int32_t sum[2]; /* of q[0..15] and q[16..31]: times a bias, what the codes have too much */
    float scale;
    float scaled_sum; /* scale * (sum[0] + sum[1]): times an offset */
};
_Static_assert(sizeof(struct act_q8) == 48, "kernels address rows by this size");

#endif
