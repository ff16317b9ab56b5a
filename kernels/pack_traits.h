/* pack_traits.h - the packed columns of FMT_BLOCKS as a table.
 *
 * A static table in a header: each kernel file folds the row of its format into
 * constants, so one template makes the code for all of them.
 */
#ifndef CORDEE_KERNELS_PACK_TRAITS_H
#define CORDEE_KERNELS_PACK_TRAITS_H

#include "kernels/pack.h"

/* Bytes of a row's leading factors in a head entry, by enum pack_d. */
enum {
    PACK_D_BYTES_F16 = 2,
    PACK_D_BYTES_DM = 4,
    PACK_D_BYTES_F32 = 4,
    PACK_D_BYTES_E8M0 = 1,
    PACK_D_BYTES_UE4M3 = 0,
};

/* Bytes of d alone in a head entry that has m too. */
#define PACK_D_BYTES (2 * PACK_ROWS)
/* Bytes of a body entry. */
#define PACK_BODY(lo, hi) (SUB_COLS * PACK_ROWS / 8 * ((lo) + (hi)))
/* Bytes of a row's sub-scales and sub-minima in a head entry. */
#define PACK_SUBS(unit, factor, min) \
    ((factor) ? (unit) / ((factor) + !(factor)) * (PACK_MIN_##min == PACK_MIN_BYTES ? 2 : 1) : 0)

#define PACK_ROW(id, low, block, bytes, lo, hi, bias_, d_, factor_, min_, table_)                  \
    [FMT_##id] = {.unit = block,                                                                   \
                  .lo_bits = lo,                                                                   \
                  .hi_bits = hi,                                                                   \
                  .bias = bias_,                                                                   \
                  .d = PACK_D_##d_,                                                                \
                  .factor = factor_,                                                               \
                  .min = PACK_MIN_##min_,                                                          \
                  .table = table_,                                                                 \
                  .d_bytes = PACK_ROWS * PACK_D_BYTES_##d_,                                        \
                  .head_bytes = PACK_ROWS * (PACK_D_BYTES_##d_ + PACK_SUBS(block, factor_, min_)), \
                  .body_bytes = PACK_BODY(lo, hi)},
static const struct pack_traits pack_traits[FMT_COUNT] = {FMT_BLOCKS(PACK_ROW)};
#undef PACK_ROW

#endif
