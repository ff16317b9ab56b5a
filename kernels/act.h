/* act.h - the prepared forms of an activation row.
 *
 * ACT_Q8 cuts a row into blocks of 32 columns. A block is 52 bytes, so that one
 * pointer and constant offsets reach all of it: the columns come first because a
 * product broadcasts them four at a time. Sums are kept negative and once more in
 * all, so that what the codes' bias adds too much is taken back by one shift of a
 * broadcast load.
 *
 * scale = max|x| / 127 and q = round-half-even(x * (127 / max|x|)), in f32; every
 * instruction set computes exactly this, so prepared rows are equal bit for bit.
 */
#ifndef CORDEE_KERNELS_ACT_H
#define CORDEE_KERNELS_ACT_H

#include <stdint.h>

struct act_q8 {
    int8_t q[32];
    float scale;
    float scaled_sum;    /* scale * sum of q: times an offset */
    int32_t neg_sum;     /* -(sum of q) */
    int32_t neg_half[2]; /* of q[0..15] and q[16..31] */
};
_Static_assert(sizeof(struct act_q8) == 52, "kernels address rows by this size");

/* The derived fields, from scale and the sums of the two halves. */
static inline void act_q8_sums(struct act_q8 *b, int low, int high)
{
    b->scaled_sum = b->scale * (float)(low + high);
    b->neg_sum = -(low + high);
    b->neg_half[0] = -low;
    b->neg_half[1] = -high;
}

#endif
