/* pack_traits.h - one row for each block format.
 *
 * A static table in a header: each kernel file folds the row of its format into
 * constants, so one template makes the code for all of them.
 */
#ifndef CORDEE_KERNELS_PACK_TRAITS_H
#define CORDEE_KERNELS_PACK_TRAITS_H

#include "kernels/pack.h"

/* Bytes of the leading factors of a head entry, of a body entry. */
#define PACK_D_BYTES (2 * PACK_ROWS)
#define PACK_BODY(lo, hi) (SUB_COLS * PACK_ROWS / 8 * ((lo) + (hi)))

/* A head entry holds d_rows bytes for each row, then `bytes` more (sub-scales, sub-minima). */
#define PACK_ROW(unit, lo, hi, bias, d, factor, min, table, d_row, bytes)                                     \
    {                                                                                                         \
        unit, lo, hi, bias, PACK_D_##d, factor, PACK_MIN_##min, table, PACK_ROWS *(d_row),                    \
            PACK_ROWS *((d_row) + (bytes)), PACK_BODY(lo, hi)                                                 \
    }

static const struct pack_traits pack_traits[FMT_COUNT] = {
    /*                      unit lo hi bias d   factor min    table        bytes of a row: d, sub-factors */
    [FMT_Q4_0] = PACK_ROW(32, 4, 0, 8, F16, 0, NONE, NULL, 2, 0),
    [FMT_Q4_1] = PACK_ROW(32, 4, 0, 0, DM, 0, M, NULL, 4, 0),
    [FMT_Q5_0] = PACK_ROW(32, 4, 1, 16, F16, 0, NONE, NULL, 2, 0),
    [FMT_Q5_1] = PACK_ROW(32, 4, 1, 0, DM, 0, M, NULL, 4, 0),
    [FMT_Q8_0] = PACK_ROW(32, 8, 0, 128, F16, 0, NONE, NULL, 2, 0),
    [FMT_Q2_K] = PACK_ROW(256, 2, 0, 0, DM, 16, NIBBLE, NULL, 4, 16),
    [FMT_Q3_K] = PACK_ROW(256, 2, 1, 4, F32, 16, NONE, NULL, 4, 16),
    [FMT_Q4_K] = PACK_ROW(256, 4, 0, 0, DM, 32, BYTES, NULL, 4, 16),
    [FMT_Q5_K] = PACK_ROW(256, 4, 1, 0, DM, 32, BYTES, NULL, 4, 16),
    [FMT_Q6_K] = PACK_ROW(256, 4, 2, 32, F32, 16, NONE, NULL, 4, 16),
    [FMT_IQ4_NL] = PACK_ROW(32, 4, 0, 128, F16, 0, NONE, iq4_values, 2, 0),
    [FMT_IQ4_XS] = PACK_ROW(256, 4, 0, 128, F32, 32, NONE, iq4_values, 4, 8),
    [FMT_MXFP4] = PACK_ROW(32, 4, 0, 16, E8M0, 0, NONE, mxfp4_values, 1, 0),
};

#endif
