/* probe_amx.c - the peak of the tile unit: four independent accumulators, as in the
 * products, and operands that stay in their tiles. */
#include "kernels/x86/tiles.h"

#include "kernels/table.h"

/* `dot` four times a round: 16 x 16 sums of `depth` multiply-adds each. */
#define PROBE_TILES(function, dot, depth)                       \
    double AMX_FN(function)(long rounds)                        \
    {                                                           \
        struct tile_config c = {0};                             \
        for (int t = 0; t < TILE_COUNT; t++)                    \
            tile_shape(&c, t, TILE_ROWS, TILE_ROW_BYTES);       \
        tiles_configure(&c);                                    \
        for (long i = 0; i < rounds; i++) {                     \
            dot(0, 4, 6);                                       \
            dot(1, 4, 7);                                       \
            dot(2, 5, 6);                                       \
            dot(3, 5, 7);                                       \
        }                                                       \
        tiles_release();                                        \
        return 4.0 * 16 * 16 * 2 * (depth) * (double)rounds;    \
    }

PROBE_TILES(probe_mul_q8, tile_dot_s8, 64)
PROBE_TILES(probe_mul_bf16, tile_dot_bf16, 32)
