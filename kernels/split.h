/* split.h - one function for each block format: from a block in a file to parts.
 *
 * These functions are the only place that knows where a format keeps its bits;
 * what codes and factors are worth is in the format's row of format.h. A function
 * reads fmt_traits.block_bytes bytes, whatever they hold, and writes the codes of
 * fmt_traits.block columns and the factors that the row names.
 */
#ifndef CORDEE_KERNELS_SPLIT_H
#define CORDEE_KERNELS_SPLIT_H

#include <stdint.h>

#include "base/f16.h"
#include "kernels/pack.h"

typedef void split_fn(struct parts *p, const uint8_t *block);

#define SPLIT_DECLARE(id, low, ...) split_fn split_##low;
FMT_BLOCKS(SPLIT_DECLARE)
#undef SPLIT_DECLARE

static inline uint16_t get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get_u32(const uint8_t *p)
{
    return get_u16(p) | (uint32_t)get_u16(p + 2) << 16;
}

/* d of a format whose packed d is f32 (PACK_D_F32): an f16 of the file, times a power of two. */
static inline uint32_t wide_d(uint16_t f16, float times)
{
    return f32_bits(f16_to_f32(f16) * times);
}

/* n bytes hold columns 0..n-1 in their low nibbles and n..2n-1 in the high ones. */
static inline void split_nibbles(uint8_t *code, const uint8_t *q, int n)
{
    for (int i = 0; i < n; i++) {
        code[i] = q[i] & 15;
        code[i + n] = q[i] >> 4;
    }
}

/* 32 bytes hold four runs of 32 columns, two bits each, the first run in the lowest bits. */
static inline void split_pairs_of_bits(uint8_t *code, const uint8_t *q)
{
    for (int i = 0; i < 128; i++)
        code[i] = q[i % 32] >> (i / 32 * 2) & 3;
}

#endif
