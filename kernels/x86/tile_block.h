/* tile_block.h - the block of products that two row tiles and two column tiles make: 32 rows
 * by 32 columns in four accumulators, so that four products need four loads.
 *
 *            COLS_0   COLS_1
 *   ROWS_0   ACC_00   ACC_01
 *   ROWS_1   ACC_10   ACC_11
 *
 * The second rows are only there if `tall`, the second columns if `wide`: constants where
 * these are inlined.
 */
#ifndef CORDEE_KERNELS_X86_TILE_BLOCK_H
#define CORDEE_KERNELS_X86_TILE_BLOCK_H

#include <stdbool.h>

#include "kernels/x86/tiles.h"

#define ACC_00 0
#define ACC_01 1
#define ACC_10 2
#define ACC_11 3
#define ROWS_0 4
#define ROWS_1 5
#define COLS_0 6
#define COLS_1 7

enum { TILE_BLOCK_FLOATS = 4 * TILE_BYTES / 4 };

/* Eight whole tiles. */
static inline __attribute__((always_inline)) void tile_block_configure(void)
{
    struct tile_config config = {0};
    for (int t = 0; t < TILE_COUNT; t++)
        tile_shape(&config, t, TILE_ROWS, TILE_ROW_BYTES);
    tiles_configure(&config);
}

static inline __attribute__((always_inline)) void tile_block_zero(bool tall, bool wide)
{
    tile_zero(ACC_00);
    if (wide)
        tile_zero(ACC_01);
    if (tall)
        tile_zero(ACC_10);
    if (tall && wide)
        tile_zero(ACC_11);
}

/* sums [row tile][column tile][16][16] */
static inline __attribute__((always_inline)) void tile_block_store(float *sums, bool tall, bool wide)
{
    tile_store(ACC_00, sums, TILE_ROW_BYTES);
    if (wide)
        tile_store(ACC_01, sums + TILE_BYTES / 4, TILE_ROW_BYTES);
    if (tall)
        tile_store(ACC_10, sums + TILE_BYTES / 2, TILE_ROW_BYTES);
    if (tall && wide)
        tile_store(ACC_11, sums + TILE_BYTES / 4 * 3, TILE_ROW_BYTES);
}

#endif
