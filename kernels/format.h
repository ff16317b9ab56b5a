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

/*        id       name      block  bytes  (of a block in a file) */
#define FMT_MAP(X)                        \
    X(F32, "f32", 1, 4)                   \
    X(F16, "f16", 1, 2)                   \
    X(BF16, "bf16", 1, 2)                 \
    X(Q4_0, "q4_0", 32, 18)               \
    X(Q4_1, "q4_1", 32, 20)               \
    X(Q5_0, "q5_0", 32, 22)               \
    X(Q5_1, "q5_1", 32, 24)               \
    X(Q8_0, "q8_0", 32, 34)               \
    X(Q2_K, "q2_k", 256, 84)              \
    X(Q3_K, "q3_k", 256, 110)             \
    X(Q4_K, "q4_k", 256, 144)             \
    X(Q5_K, "q5_k", 256, 176)             \
    X(Q6_K, "q6_k", 256, 210)             \
    X(IQ4_NL, "iq4_nl", 32, 18)           \
    X(IQ4_XS, "iq4_xs", 256, 136)         \
    X(MXFP4, "mxfp4", 32, 17)

enum fmt {
#define FMT_ENUM(id, name, block, bytes) FMT_##id,
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
