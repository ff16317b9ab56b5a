/* pack.c - from rows in a file to groups of 16 interleaved rows, and back.
 *
 * Float formats: F32 and F16 are [k][16]; BF16 is [ceil(k/2)][16][2], the pairs
 * that the bf16 dot product of AVX-512 and AMX takes. Block formats: pack.h.
 * Head factors are kept as the file has them, except that 6-bit sub-scales grow
 * to signed bytes (at most 5 % of the size, for Q3_K) and a lone super-block
 * scale to f32, so that every part of a group starts on a vector.
 */
#include "kernels/pack.h"

#include <string.h>

#include "kernels/pack_traits.h"

size_t pack_group_bytes(enum fmt f, int k)
{
    const struct pack_traits *t = &pack_traits[f];
    if (t->unit)
        return (size_t)(k / CHUNK_COLS) * pack_chunk_bytes(t, CHUNK_COLS) + pack_chunk_bytes(t, k % CHUNK_COLS);
    size_t columns = f == FMT_BF16 ? (size_t)(k + 1) / 2 * 2 : (size_t)k;
    return (columns * PACK_ROWS * (size_t)fmt_traits[f].block_bytes + 63) & ~(size_t)63;
}

/* Where quad t of row r keeps its four fields of `bits` bits, and how far up. */
static size_t field_at(int bits, int t, int r, int *shift)
{
    *shift = t * bits % 8;
    return (size_t)(t * bits / 8 * 64 + r * 4);
}

/* The same low bits of each of the four bytes of a word. */
static uint32_t byte_mask(int bits)
{
    return ((1u << bits) - 1) * 0x01010101u;
}

static void or_word(uint8_t *p, uint32_t bits)
{
    uint32_t word;
    memcpy(&word, p, 4);
    word |= bits;
    memcpy(p, &word, 4);
}

/* The body entry was zeroed. */
static void put_codes(const struct pack_traits *t, uint8_t *body, const uint8_t *code, int r)
{
    uint8_t *high = body + PACK_BODY(t->lo_bits, 0);
    int shift;
    for (int quad = 0; quad < SUB_COLS / 4; quad++) {
        uint32_t word;
        memcpy(&word, code + 4 * quad, 4);
        size_t at = field_at(t->lo_bits, quad, r, &shift);
        or_word(body + at, (word & byte_mask(t->lo_bits)) << shift);
        if (t->hi_bits) {
            at = field_at(t->hi_bits, quad, r, &shift);
            or_word(high + at, (word >> t->lo_bits & byte_mask(t->hi_bits)) << shift);
        }
    }
}

static void get_codes(const struct pack_traits *t, uint8_t *code, const uint8_t *body, int r)
{
    const uint8_t *high = body + PACK_BODY(t->lo_bits, 0);
    int shift;
    for (int quad = 0; quad < SUB_COLS / 4; quad++) {
        uint32_t word, field;
        memcpy(&field, body + field_at(t->lo_bits, quad, r, &shift), 4);
        word = field >> shift & byte_mask(t->lo_bits);
        if (t->hi_bits) {
            memcpy(&field, high + field_at(t->hi_bits, quad, r, &shift), 4);
            word |= (field >> shift & byte_mask(t->hi_bits)) << t->lo_bits;
        }
        memcpy(code + 4 * quad, &word, 4);
    }
}

/* Sub-scales of a unit. */
static int n_factors(const struct pack_traits *t)
{
    int n = t->factor ? t->unit / t->factor : 0;
    return n < MAX_SUB_FACTORS ? n : MAX_SUB_FACTORS; /* the compiler cannot see the table */
}

static void put_head(const struct pack_traits *t, uint8_t *head, const struct parts *p, int r)
{
    uint16_t d = (uint16_t)p->d;
    switch (t->d) {
    case PACK_D_E8M0:
        head[r] = (uint8_t)d;
        break;
    case PACK_D_F32:
        memcpy(head + 4 * r, &p->d, 4);
        break;
    case PACK_D_DM:
        memcpy(head + PACK_D_BYTES + 2 * r, &p->m, 2);
        memcpy(head + 2 * r, &d, 2);
        break;
    case PACK_D_F16:
        memcpy(head + 2 * r, &d, 2);
    }
    int n = n_factors(t);
    uint8_t *scales = head + t->d_bytes, *mins = scales + PACK_ROWS * n;
    for (int i = 0; i < n; i++) {
        scales[PACK_ROWS * i + r] = (uint8_t)p->scale[i];
        if (t->min == PACK_MIN_NIBBLE)
            scales[PACK_ROWS * i + r] |= (uint8_t)(p->min[i] << 4);
        if (t->min == PACK_MIN_BYTES)
            mins[PACK_ROWS * i + r] = p->min[i];
    }
}

static void get_head(const struct pack_traits *t, struct parts *p, const uint8_t *head, int r)
{
    uint16_t d = 0;
    switch (t->d) {
    case PACK_D_E8M0:
        p->d = head[r];
        break;
    case PACK_D_F32:
        memcpy(&p->d, head + 4 * r, 4);
        break;
    case PACK_D_DM:
        memcpy(&p->m, head + PACK_D_BYTES + 2 * r, 2);
        memcpy(&d, head + 2 * r, 2);
        p->d = d;
        break;
    case PACK_D_F16:
        memcpy(&d, head + 2 * r, 2);
        p->d = d;
    }
    int n = n_factors(t);
    const uint8_t *scales = head + t->d_bytes, *mins = scales + PACK_ROWS * n;
    for (int i = 0; i < n; i++) {
        uint8_t s = scales[PACK_ROWS * i + r];
        p->scale[i] = t->min == PACK_MIN_NIBBLE ? (int8_t)(s & 15) : (int8_t)s;
        p->min[i] = t->min == PACK_MIN_NIBBLE ? s >> 4 : t->min == PACK_MIN_BYTES ? mins[PACK_ROWS * i + r] : 0;
    }
}

void parts_from_packed(enum fmt f, struct parts *p, const void *group, int k, int u, int r)
{
    const struct pack_traits *t = &pack_traits[f];
    int col = u * t->unit % CHUNK_COLS, start = u * t->unit - col;
    const uint8_t *chunk = pack_chunk(t, group, start);
    const uint8_t *body = chunk + pack_chunk_head(t, pack_chunk_cols(k, start)) + col / SUB_COLS * t->body_bytes;
    get_head(t, p, chunk + col / t->unit * t->head_bytes, r);
    for (int c = 0; c < t->unit; c += SUB_COLS, body += t->body_bytes)
        get_codes(t, p->code + c, body, r);
}

static void pack_block_row(enum fmt f, uint8_t *chunk, const uint8_t *src, int k, int r)
{
    const struct pack_traits *t = &pack_traits[f];
    struct parts p;
    for (int start = 0, cols; start < k; start += cols) {
        cols = pack_chunk_cols(k, start);
        uint8_t *head = chunk, *body = chunk + pack_chunk_head(t, cols);
        for (int u = 0; u < cols / t->unit; u++, src += fmt_traits[f].block_bytes, head += t->head_bytes) {
            parts_from_file(f, &p, src);
            put_head(t, head, &p, r);
            for (int c = 0; c < t->unit; c += SUB_COLS, body += t->body_bytes)
                put_codes(t, body, p.code + c, r);
        }
        chunk += pack_chunk_bytes(t, cols);
    }
}

/* A zero weight is not always a zero code (Q4_0: 8), but with all factors zero
 * any code is worth 0 (MXFP4: 2^-128 times 0), so a row past n needs no bytes
 * but the zeros that clear the group. */
void pack_rows(enum fmt f, void *dst, const void *src, size_t row_bytes, int n, int k, int g0, int g1)
{
    size_t group_bytes = pack_group_bytes(f, k);
    for (int g = g0; g < g1; g++) {
        uint8_t *group = (uint8_t *)dst + (size_t)g * group_bytes;
        memset(group, 0, group_bytes);
        for (int r = 0; r < PACK_ROWS && g * PACK_ROWS + r < n; r++) {
            const uint8_t *row = (const uint8_t *)src + (size_t)(g * PACK_ROWS + r) * row_bytes;
            switch (f) {
            case FMT_F32:
                for (int i = 0; i < k; i++)
                    memcpy(group + 4 * (i * PACK_ROWS + r), row + 4 * (size_t)i, 4);
                break;
            case FMT_F16:
                for (int i = 0; i < k; i++)
                    memcpy(group + 2 * (i * PACK_ROWS + r), row + 2 * (size_t)i, 2);
                break;
            case FMT_BF16:
                for (int i = 0; i < k; i++)
                    memcpy(group + 2 * (i / 2 * 2 * PACK_ROWS + r * 2 + i % 2), row + 2 * (size_t)i, 2);
                break;
            default:
                pack_block_row(f, group, row, k, r);
            }
        }
    }
}
