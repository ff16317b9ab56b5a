/* format.h - weight formats: one traits row each, the file layout and the packed one.
 *
 * In a file a row of k elements is k / block blocks, each `bytes` long (the
 * layouts are GGML's). In memory we multiply from a *packed* layout: PACK_ROWS
 * consecutive rows are interleaved block by block, so that one vector register
 * holds the same few columns of 16 rows and no product ever needs a horizontal
 * sum. That gives each output its own lane and a fixed order of additions along
 * k, whatever the number of activation rows, threads or chunks: the numeric
 * contract holds by construction. The layout is the same for every instruction
 * set, so shards written on one machine can be mapped on another; it is
 * described per format in docs/kernels.md and versioned by PACK_VERSION.
 */
#ifndef CORDEE_KERNELS_FORMAT_H
#define CORDEE_KERNELS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* clang-format off */
/* Formats without blocks.
 *        id    name  block bytes */
#define FMT_FLOATS(X)                                                                   \
    X(F32,     f32,     1,   4)                                                         \
    X(F16,     f16,     1,   2)                                                         \
    X(BF16,    bf16,    1,   2)

/* Block formats: a row here and a function split_<name>() (split.h) are all that there
 * is to one; tables, kernels and tests are made from the list. The words of the
 * packed layout are those of struct pack_traits (pack.h).
 *
 *                     in a file   packed, and what codes and factors are worth
 *     id       name     block bytes  lo hi bias  d     factor min    table */
#define FMT_BLOCKS(X)                                                                   \
    X(Q4_0,    q4_0,    32,  18,   4, 0, 8,   F16,    0,  NONE,   NULL)                 \
    X(Q4_1,    q4_1,    32,  20,   4, 0, 0,   DM,     0,  M,      NULL)                 \
    X(Q5_0,    q5_0,    32,  22,   4, 1, 16,  F16,    0,  NONE,   NULL)                 \
    X(Q5_1,    q5_1,    32,  24,   4, 1, 0,   DM,     0,  M,      NULL)                 \
    X(Q8_0,    q8_0,    32,  34,   8, 0, 128, F16,    0,  NONE,   NULL)                 \
    X(Q2_K,    q2_k,    256, 84,   2, 0, 0,   DM,     16, NIBBLE, NULL)                 \
    X(Q3_K,    q3_k,    256, 110,  2, 1, 4,   F32,    16, NONE,   NULL)                 \
    X(Q4_K,    q4_k,    256, 144,  4, 0, 0,   DM,     32, BYTES,  NULL)                 \
    X(Q5_K,    q5_k,    256, 176,  4, 1, 0,   DM,     32, BYTES,  NULL)                 \
    X(Q6_K,    q6_k,    256, 210,  4, 2, 32,  F32,    16, NONE,   NULL)                 \
    X(IQ4_NL,  iq4_nl,  32,  18,   4, 0, 128, F16,    0,  NONE,   iq4_values)           \
    X(IQ4_XS,  iq4_xs,  256, 136,  4, 0, 128, F32,    32, NONE,   iq4_values)           \
    X(MXFP4,   mxfp4,   32,  17,   4, 0, 16,  E8M0,   0,  NONE,   fp4_values)           \
    X(NVFP4,   nvfp4,   64,  36,   4, 0, 16,  UE4M3,  16, NONE,   fp4_values)           \
    X(TQ1_0,   tq1_0,   256, 54,   2, 0, 1,   F32,    0,  NONE,   NULL)                 \
    X(TQ2_0,   tq2_0,   256, 66,   2, 0, 1,   F32,    0,  NONE,   NULL)                 \
    X(IQ1_S,   iq1_s,   256, 50,   2, 0, 16,  F32,    32, NONE,   iq1_values)           \
    X(IQ1_M,   iq1_m,   256, 56,   2, 1, 16,  F32,    16, NONE,   iq1_values)           \
    X(IQ2_XXS, iq2_xxs, 256, 66,   2, 1, 128, F32,    32, NONE,   iq2_values)           \
    X(IQ2_XS,  iq2_xs,  256, 74,   2, 1, 128, F32,    16, NONE,   iq2_values)           \
    X(IQ2_S,   iq2_s,   256, 82,   2, 1, 128, F32,    16, NONE,   iq2_values)           \
    X(IQ3_XXS, iq3_xxs, 256, 98,   4, 0, 128, F32,    32, NONE,   iq3_xxs_values)       \
    X(IQ3_S,   iq3_s,   256, 110,  4, 0, 16,  F32,    32, NONE,   iq3_s_values)
/* clang-format on */

#define FMT_MAP(X) FMT_FLOATS(X) FMT_BLOCKS(X)

enum fmt {
#define FMT_ENUM(id, ...) FMT_##id,
    FMT_MAP(FMT_ENUM)
#undef FMT_ENUM
    FMT_COUNT
};

struct fmt_traits {
    const char *name;
    int block;       /* elements per block; k is a multiple of it */
    int block_bytes; /* of one block of one row, in a file */
};
extern const struct fmt_traits fmt_traits[FMT_COUNT];

/* By its name in the table; FMT_COUNT: there is none. */
enum fmt fmt_named(const char *name);

/* Bytes of one row of k elements in a file; 0 if k is not a multiple of the block. */
size_t fmt_row_bytes(enum fmt f, int64_t k);

/* dst[k] = the values of one row as the file stores it. Bit-exact with the
 * format's definition; the base of every other path. */
void fmt_dequant_row(enum fmt f, float *dst, const void *src, int64_t k);

#define PACK_ROWS 16
#define PACK_VERSION 1

/* A weight matrix y[n] = W[n][k] x[k] in the packed layout: ceil(n/16) groups of
 * 16 rows, group_bytes apart; rows past n are zero weights. `data` is 64-byte
 * aligned and borrowed. */
struct packed {
    enum fmt fmt;
    int n, k;
    size_t group_bytes;
    const void *data;
};

/* Bytes of one group of 16 rows in the packed layout, a multiple of 64. */
size_t pack_group_bytes(enum fmt f, int k);
static inline int pack_groups(int n)
{
    return (n + PACK_ROWS - 1) / PACK_ROWS;
}

/* Packs groups [g0, g1). src points to row 0 as the file stores it, rows
 * row_bytes apart; rows past n are written as zero weights. dst is the address
 * of group 0. Threads may pack different groups at once. */
void pack_rows(enum fmt f, void *dst, const void *src, size_t row_bytes, int n, int k, int g0, int g1);

/* dst[k] = row r of a packed matrix, the same bits as fmt_dequant_row of the
 * source. Slow; embedding look-ups, tests and the reference kernels. */
void packed_dequant_row(const struct packed *w, int r, float *dst);

#endif
