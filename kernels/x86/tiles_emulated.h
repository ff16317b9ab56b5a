/* tiles_emulated.h - the tile operations of AMX in plain C, with the bits of the
 * architecture manual and assertions where the hardware would fault.
 *
 * tile_dot_bf16: for each row and column the even and the odd elements of the pairs
 * have a sum of their own, which starts at zero and grows by one fused multiply-add
 * per pair, in order; the two are added, then added to the accumulator. Rounding is
 * to nearest even; denormal operands count as zero and denormal results become zero,
 * whatever MXCSR says. Integer sums are exact and wrap.
 */
#ifndef CORDEE_KERNELS_X86_TILES_EMULATED_H
#define CORDEE_KERNELS_X86_TILES_EMULATED_H

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/x86/tiles.h"

struct tile_file {
    struct tile_config config; /* palette 0: released */
    uint8_t tile[TILE_COUNT][TILE_ROWS][TILE_ROW_BYTES];
};

static inline void emulate_configure(struct tile_file *f, const struct tile_config *c)
{
    assert(c->palette == 1 && c->start_row == 0);
    for (int i = 0; i < 14; i++)
        assert(c->reserved[i] == 0);
    for (int t = 0; t < 16; t++) {
        assert(c->rows[t] <= TILE_ROWS && c->row_bytes[t] <= TILE_ROW_BYTES);
        assert((c->rows[t] == 0) == (c->row_bytes[t] == 0));
        assert(t < TILE_COUNT || c->rows[t] == 0);
    }
    memset(f, 0, sizeof *f);
    f->config = *c;
}

static inline void emulate_release(struct tile_file *f)
{
    memset(f, 0, sizeof *f);
}

static inline int emulated_rows(const struct tile_file *f, int t)
{
    assert(f->config.palette == 1 && f->config.rows[t] > 0);
    return f->config.rows[t];
}

static inline void emulate_zero(struct tile_file *f, int t)
{
    (void)emulated_rows(f, t);
    memset(f->tile[t], 0, sizeof f->tile[t]);
}

static inline void emulate_load(struct tile_file *f, int t, const void *p, int64_t stride)
{
    int rows = emulated_rows(f, t);
    memset(f->tile[t], 0, sizeof f->tile[t]);
    for (int r = 0; r < rows; r++)
        memcpy(f->tile[t][r], (const char *)p + r * stride, f->config.row_bytes[t]);
}

static inline void emulate_store(const struct tile_file *f, int t, void *p, int64_t stride)
{
    for (int r = 0; r < emulated_rows(f, t); r++)
        memcpy((char *)p + r * stride, f->tile[t][r], f->config.row_bytes[t]);
}

/* The shapes of c += a . b have to fit; else #UD. */
static inline void emulate_check_shapes(const struct tile_file *f, int c, int a, int b)
{
    assert(a != b && b != c && a != c);
    assert(emulated_rows(f, a) == emulated_rows(f, c));
    assert(emulated_rows(f, b) == f->config.row_bytes[a] / 4);
    assert(f->config.row_bytes[b] == f->config.row_bytes[c]);
    assert(f->config.row_bytes[a] % 4 == 0 && f->config.row_bytes[b] % 4 == 0);
}

static inline float emulated_flush(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

/* One half of a pair: 0 is the even element. */
static inline float emulated_bf16(const uint8_t *pair, int odd)
{
    uint32_t bits;
    float x;
    memcpy(&bits, pair, sizeof bits);
    bits = odd ? bits & 0xffff0000u : bits << 16;
    memcpy(&x, &bits, sizeof x);
    return emulated_flush(x);
}

static inline void emulate_dot_bf16(struct tile_file *f, int c, int a, int b)
{
    emulate_check_shapes(f, c, a, b);
    int columns = f->config.row_bytes[c] / 4;
    for (int m = 0; m < f->config.rows[c]; m++) {
        float sum[2][TILE_ROWS] = {{0}}, acc[TILE_ROWS];
        for (int k = 0; k < f->config.row_bytes[a] / 4; k++)
            for (int odd = 0; odd < 2; odd++) {
                float x = emulated_bf16(f->tile[a][m] + 4 * k, odd);
                for (int n = 0; n < columns; n++)
                    sum[odd][n] = emulated_flush(fmaf(x, emulated_bf16(f->tile[b][k] + 4 * n, odd), sum[odd][n]));
            }
        memcpy(acc, f->tile[c][m], sizeof acc);
        for (int n = 0; n < columns; n++)
            acc[n] = emulated_flush(emulated_flush(acc[n]) + emulated_flush(sum[0][n] + sum[1][n]));
        memcpy(f->tile[c][m], acc, sizeof acc);
    }
}

static inline void emulate_dot_s8(struct tile_file *f, int c, int a, int b, int b_unsigned)
{
    emulate_check_shapes(f, c, a, b);
    for (int m = 0; m < f->config.rows[c]; m++) {
        uint32_t acc[TILE_ROWS];
        memcpy(acc, f->tile[c][m], sizeof acc);
        for (int k = 0; k < f->config.row_bytes[a]; k++)
            for (int n = 0; n < f->config.row_bytes[c] / 4; n++) {
                uint8_t w = f->tile[b][k / 4][4 * n + k % 4];
                acc[n] += (uint32_t)((int8_t)f->tile[a][m][k] * (b_unsigned ? w : (int8_t)w));
            }
        memcpy(f->tile[c][m], acc, sizeof acc);
    }
}

#ifdef TILES_EMULATED
/* Each thread has registers of its own; so has each file, which releases them before it returns. */
static _Thread_local struct tile_file tile_file;

#define tiles_configure(c) emulate_configure(&tile_file, c)
#define tiles_release() emulate_release(&tile_file)
#define tile_zero(t) emulate_zero(&tile_file, t)
#define tile_load(t, p, stride) emulate_load(&tile_file, t, p, (int64_t)(stride))
#define tile_stream(t, p, stride) emulate_load(&tile_file, t, p, (int64_t)(stride))
#define tile_store(t, p, stride) emulate_store(&tile_file, t, p, (int64_t)(stride))
#define tile_dot_bf16(c, a, b) emulate_dot_bf16(&tile_file, c, a, b)
#define tile_dot_s8(c, a, b) emulate_dot_s8(&tile_file, c, a, b, 0)
#define tile_dot_s8u8(c, a, b) emulate_dot_s8(&tile_file, c, a, b, 1)
#endif

#endif
