/* pack.h - what the packed layout of each block format looks like, as data.
 *
 * Every block format is the same thing with other numbers: unsigned codes of
 * lo + hi bits, a value per code (code - bias, or a table), and factors. A row
 * is cut into units (32 or 256 columns). A group of 16 packed rows is a run of
 * chunks of 256 columns (the last one may have fewer), each
 *
 *   head  an entry of head_bytes for each unit: the factors of 16 rows side by side
 *   body  an entry of body_bytes for each 32 columns: the codes of 16 rows
 *
 * so that a product reads one sequential stream, which is what the hardware's
 * prefetchers follow best, and every vector of codes is aligned.
 *
 * The 32 columns of a body entry are 8 quads of 4; byte 4 * row + j of a 64-byte
 * vector belongs to column 4 * quad + j, which is what VNNI and AMX want. Quad t
 * keeps its low bits in vector t * lo / 8 at bit t * lo % 8, and its high bits the
 * same way in the vectors that follow: unpacking is a shift and a mask for
 * all 64 bytes at once. docs/kernels.md has drawings.
 *
 * The rows are in format.h. F32, F16 and BF16 have no codes; see pack.c.
 */
#ifndef CORDEE_KERNELS_PACK_H
#define CORDEE_KERNELS_PACK_H

#include "kernels/format.h"

#define SUB_COLS 32 /* columns of one body entry; also of one activation block */
#define CHUNK_COLS 256
#define MAX_UNIT 256
#define MAX_SUB_FACTORS 16

enum pack_d {
    PACK_D_F16,  /* f16 d[16] */
    PACK_D_DM,   /* f16 d[16], f16 m[16] */
    PACK_D_F32,  /* f32 d[16]: pads a lone d of a long unit to a whole vector */
    PACK_D_E8M0, /* u8 exponent[16] */
    PACK_D_UE4M3 /* nothing: the sub-scales are floats (e4m3, halved) */
};

/* value = d * scale * (code - bias) + offset */
enum pack_min {
    PACK_MIN_NONE,   /* no offset */
    PACK_MIN_M,      /* offset = m */
    PACK_MIN_BYTES,  /* offset = -(m * min), min in bytes of their own */
    PACK_MIN_NIBBLE, /* the same, min in the high half of the scale's byte */
};

struct pack_traits {
    int16_t unit;         /* columns of a head entry; 0: not a block format */
    uint8_t lo_bits;      /* 8, 4 or 2 */
    uint8_t hi_bits;      /* 0, 1 or 2 */
    uint8_t bias;         /* 0 or a power of two: a code's value is code - bias, or table[code] */
    uint8_t d;            /* enum pack_d */
    uint8_t factor;       /* columns that share a sub-scale byte; 0: none */
    uint8_t min;          /* enum pack_min */
    const int8_t *table;  /* [16] or NULL */
    int16_t d_bytes;      /* of a head entry: d and m ... */
    int16_t head_bytes;   /* ... and all of it */
    int16_t body_bytes;   /* 8 * 64 * (lo + hi) / 8 */
};

/* What the codes of some formats are worth. */
extern const int8_t iq4_values[16]; /* the non-linear 4-bit grid */
extern const int8_t fp4_values[16]; /* FP4 (E2M1) times two */
extern const int8_t iq1_values[16], iq2_values[16], iq3_xxs_values[16], iq3_s_values[16];

/* One unit of one row taken apart: raw factors and codes in column order. */
struct parts {
    uint32_t d;                   /* bits of an f16, an f32 or an exponent, as pack_traits.d says */
    uint16_t m;                   /* bits of an f16 */
    int8_t scale[MAX_SUB_FACTORS];
    uint8_t min[MAX_SUB_FACTORS];
    uint8_t code[MAX_UNIT];
};

/* From a file block; from unit u of row r (0..15) of a packed group. */
void parts_from_file(enum fmt f, struct parts *p, const void *block);
void parts_from_packed(enum fmt f, struct parts *p, const void *group, int k, int u, int r);

/* d * scale and the offset of the columns from `col` on. */
float parts_scale(enum fmt f, const struct parts *p, int col);
float parts_offset(enum fmt f, const struct parts *p, int col);

/* The integer a code stands for. */
static inline int code_value(const struct pack_traits *t, uint8_t code)
{
    return t->table ? t->table[code] : code - t->bias;
}

/* Bytes in front of the body of a chunk of `cols` columns; of all of the chunk. */
static inline size_t pack_chunk_head(const struct pack_traits *t, int cols)
{
    return ((size_t)(cols / t->unit * t->head_bytes) + 63) & ~(size_t)63;
}

static inline size_t pack_chunk_bytes(const struct pack_traits *t, int cols)
{
    return pack_chunk_head(t, cols) + (size_t)(cols / SUB_COLS * t->body_bytes);
}

/* Columns of the chunk that starts at column col. */
static inline int pack_chunk_cols(int k, int col)
{
    return k - col < CHUNK_COLS ? k - col : CHUNK_COLS;
}

/* The chunk that starts at column col, a multiple of CHUNK_COLS. */
static inline const uint8_t *pack_chunk(const struct pack_traits *t, const void *group, int col)
{
    return (const uint8_t *)group + (size_t)(col / CHUNK_COLS) * pack_chunk_bytes(t, CHUNK_COLS);
}

#endif
