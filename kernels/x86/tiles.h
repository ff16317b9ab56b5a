/* tiles.h - the tile registers of AMX: eight of up to 16 rows of 64 bytes.
 *
 *   tiles_configure(c)        shapes of the eight tiles; they become zero
 *   tiles_release()           gives the registers back
 *   tile_zero(t)
 *   tile_load(t, p, stride)   rows `stride` bytes apart
 *   tile_stream(t, p, stride) the same, for rows that are not wanted again soon
 *   tile_store(t, p, stride)
 *   tile_dot_bf16(c, a, b)    c[m][n] += sum over pairs k of a[m][k] . b[k][n], f32
 *   tile_dot_s8(c, a, b)      the same with quads of signed bytes, int32
 *   tile_dot_s8u8(c, a, b)    a signed, b unsigned
 *
 * A tile is named by a literal, because the instructions have it in their encoding.
 * Whoever configures releases before it returns: shapes belong to one call of one
 * kernel on one thread, and a released register file costs nothing at a context
 * switch (8 KiB otherwise).
 *
 * The instructions are written out here, not taken from immintrin.h: GCC 12's
 * _tile_loadconfig tells the compiler about 8 of the 64 bytes, so that it drops the
 * stores of the others and the load faults; its _tile_loadd does not say that it
 * reads memory at all. Clobbering "memory" costs nothing in loops that are made of
 * tile operations.
 *
 * With TILES_EMULATED defined the words mean plain C with the same results
 * (tiles_emulated.h). A kernel is one source, compiled both ways: what is tested on
 * a machine without AMX is the code that runs on one with it.
 */
#ifndef CORDEE_KERNELS_X86_TILES_H
#define CORDEE_KERNELS_X86_TILES_H

#include <stdint.h>

enum {
    TILE_COUNT = 8,
    TILE_ROWS = 16,
    TILE_ROW_BYTES = 64,
    TILE_BYTES = TILE_ROWS * TILE_ROW_BYTES,
};

/* The operand of LDTILECFG. */
struct tile_config {
    uint8_t palette; /* 1: the only one there is */
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16]; /* of tiles 0 to 7; the others 0 */
    uint8_t rows[16];
};
_Static_assert(sizeof(struct tile_config) == 64, "the layout is the architecture's");

static inline void tile_shape(struct tile_config *c, int tile, int rows, int row_bytes)
{
    c->palette = 1;
    c->rows[tile] = (uint8_t)rows;
    c->row_bytes[tile] = (uint16_t)row_bytes;
}

/* Kernels carry the way they were compiled in their names; kernels.inc lists them under AMX_FN too. */
#ifdef TILES_EMULATED
#define AMX_FN(name) name##_emulated
#include "kernels/x86/tiles_emulated.h"
#else
#define AMX_FN(name) name##_amx

static inline __attribute__((always_inline)) void tiles_configure(const struct tile_config *c)
{
    __asm__ volatile("ldtilecfg %0" : : "m"(*c) : "memory");
}

static inline __attribute__((always_inline)) void tiles_release(void)
{
    __asm__ volatile("tilerelease" : : : "memory");
}

#define TILE_LOAD_(instruction, t, p, stride)                                           \
    __asm__ volatile(instruction " (%0,%1,1), %%tmm" #t                                 \
                     :                                                                  \
                     : "r"((const void *)(p)), "r"((int64_t)(stride))                   \
                     : "memory")
#define TILE_STORE_(t, p, stride)                                                       \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)"                                \
                     :                                                                  \
                     : "r"((void *)(p)), "r"((int64_t)(stride))                         \
                     : "memory")
#define TILE_ZERO_(t) __asm__ volatile("tilezero %tmm" #t)
#define TILE_DOT_(instruction, c, a, b) __asm__ volatile(instruction " %tmm" #b ", %tmm" #a ", %tmm" #c)

/* One more level, so that the number may be a macro. */
#define tile_zero(t) TILE_ZERO_(t)
#define tile_load(t, p, stride) TILE_LOAD_("tileloadd", t, p, stride)
#define tile_stream(t, p, stride) TILE_LOAD_("tileloaddt1", t, p, stride)
#define tile_store(t, p, stride) TILE_STORE_(t, p, stride)
#define tile_dot_bf16(c, a, b) TILE_DOT_("tdpbf16ps", c, a, b)
#define tile_dot_s8(c, a, b) TILE_DOT_("tdpbssd", c, a, b)
#define tile_dot_s8u8(c, a, b) TILE_DOT_("tdpbsud", c, a, b)
#endif

#endif
