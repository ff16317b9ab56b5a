/* probe_amx.c - the peak of the tile unit: four independent accumulators, as in the
 * products, and operands that stay in their tiles. */
#include "kernels/x86/tile_block.h"

#include "kernels/table.h"

/* `dot` four times a round: 16 x 16 sums of `depth` multiply-adds each. */
#define PROBE_TILES(function, dot, depth)                       \
    double AMX_FN(function)(long rounds)                        \
    {                                                           \
        tile_block_configure();                                 \
        for (long i = 0; i < rounds; i++) {                     \
            dot(ACC_00, ROWS_0, COLS_0);                        \
            dot(ACC_01, ROWS_0, COLS_1);                        \
            dot(ACC_10, ROWS_1, COLS_0);                        \
            dot(ACC_11, ROWS_1, COLS_1);                        \
        }                                                       \
        tiles_release();                                        \
        return 4.0 * 16 * 16 * 2 * (depth) * (double)rounds;    \
    }

PROBE_TILES(probe_mul_q8, tile_dot_s8, 64)
PROBE_TILES(probe_mul_bf16, tile_dot_bf16, 32)
