/* panel_maddubs.tmpl.h - several activation rows without VNNI.
 *
 * With 16 registers the eight vectors of a block's codes and the sums of more than
 * two rows do not fit, so here codes are unpacked into memory: a chunk of 256 columns by 16
 * rows, which stays in the first-level cache while all activation rows pass over it.
 * A tile of rows then needs registers for its sums and one vector of codes only.
 *
 * Sums stay in 16 bits as long as products fit (dot_maddubs.tmpl.h); 8-bit codes
 * are halved into nibbles, whose products always fit: two multiplications for four
 * columns where carrying signs over needs three instructions of the same unit.
 *
 * Integer sums are exact and floats are added block by block as in
 * mul_blocks(): the bits are those of the direct way.
 */
#include "kernels/x86/dot_maddubs.tmpl.h"

enum {
    PANEL_ROWS_AT_ONCE = 64,
    PANEL_BLOCKS = CHUNK_COLS / SUB_COLS,
};

struct panel {
    uint8_t code[PANEL_BLOCKS][QUADS][2][64]; /* nibbles: low and high, else the first */
    float scale[PANEL_BLOCKS][2][PACK_ROWS], offset[PANEL_BLOCKS][2][PACK_ROWS]; /* [1]: of columns 16 to 31 */
};

INLINE void panel_factors(const struct pack_traits *t, struct panel *p, int block, const uint8_t *head, int h, int col)
{
    vf d, min, scale, offset;
    unit_factors(t, head, h, &d, &min);
    for (int half = 0; half < (t->factor == 16 ? 2 : 1); half++) {
        factors(t, head, h, col + 16 * half, d, min, &scale, &offset);
        v_storef(p->scale[block][half] + h * V_LANES, scale);
        if (t->min != PACK_MIN_NONE)
            v_storef(p->offset[block][half] + h * V_LANES, offset);
    }
}

/* One chunk of a group taken apart. */
INLINE void panel_fill(const struct pack_traits *t, struct panel *p, const uint8_t *chunk, int cols)
{
    const uint8_t *body = chunk + pack_chunk_head(t, cols), *ahead = chunk + PREFETCH_BYTES(t, PANEL_ROWS_AT_ONCE);
    for (int block = 0; block < cols / SUB_COLS; block++, body += t->body_bytes) {
        int col = block * SUB_COLS;
        prefetch(ahead + block * PREFETCH_LINES(t) * 64, PREFETCH_LINES(t), false);
        UNROLL
        for (int h = 0; h < HALVES; h++) {
            vi w[QUADS], nibble = v_set8(15);
            panel_factors(t, p, block, chunk + col / t->unit * t->head_bytes, h, col % t->unit);
            unpack(t, body, h, w);
            UNROLL
            for (int q = 0; q < QUADS; q++) {
                if (quads_in_16_bits(t) == 0) {
                    v_store(p->code[block][q][1] + h * V_BYTES, v_and((vi)((vu)w[q] >> 4), nibble));
                    w[q] = v_and(w[q], nibble);
                }
                v_store(p->code[block][q][0] + h * V_BYTES, w[q]);
            }
        }
    }
}

/* part[i][h] = 16-bit sums of plane `plane` of the quads [from, to) with the rows of a. */
INLINE void dot_plane(uint8_t code[QUADS][2][64], int plane, const char *a, size_t lda, int rows, int from, int to,
                      vi part[][HALVES])
{
    UNROLL
    for (int q = from; q < to; q++) {
        vi w[HALVES];
        UNROLL
        for (int h = 0; h < HALVES; h++)
            w[h] = v_load(code[q][plane] + h * V_BYTES);
        UNROLL
        for (int i = 0; i < rows; i++) {
            vi four = v_now(bcast_quad(block_at(a, lda, i), q)); /* else kept from plane to plane, in memory */
            UNROLL
            for (int h = 0; h < HALVES; h++) {
                vi product = v_maddubs(w[h], four);
                part[i][h] = v_now(q == from ? product : v_add16(part[i][h], product));
            }
        }
    }
}

/* sum[i][h] += the pairs of part, times what `ones` holds. */
INLINE void widen(vi part[][HALVES], vi ones, int rows, vi sum[][HALVES])
{
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int h = 0; h < HALVES; h++)
            sum[i][h] = v_add32(sum[i][h], v_madd16(part[i][h], ones));
    }
}

/* sum[i][h] = the integer sum of value * q over the quads [from, from + n). */
INLINE void dot_panel(const struct pack_traits *t, uint8_t code[QUADS][2][64], const char *a, size_t lda, int rows,
                      int from, int n, vi sum[][HALVES])
{
    vi part[PANEL_TILE][HALVES];
    int run = quads_in_16_bits(t), step = run == 0 || run > n ? n : run;
    UNROLL
    for (int q = from; q < from + n; q += step) {
        dot_plane(code, 0, a, lda, rows, q, q + step, part);
        if (q == from) {
            UNROLL
            for (int i = 0; i < rows; i++) {
                UNROLL
                for (int h = 0; h < HALVES; h++)
                    sum[i][h] = bias_start(t, block_at(a, lda, i), from, n);
            }
        }
        widen(part, v_set32(0x00010001), rows, sum);
    }
    if (run == 0) {
        dot_plane(code, 1, a, lda, rows, from, from + n, part);
        widen(part, v_set32(0x00100010), rows, sum);
    }
}

/* acc[i][16] += block `block` of the panel times activation block i. */
INLINE void panel_block(const struct pack_traits *t, struct panel *p, int block, const char *a, size_t lda, int rows,
                        float acc[][PACK_ROWS])
{
    vi low[PANEL_TILE][HALVES], high[PANEL_TILE][HALVES];
    dot_panel(t, p->code[block], a, lda, rows, 0, t->factor == 16 ? 4 : 8, low);
    if (t->factor == 16)
        dot_panel(t, p->code[block], a, lda, rows, 4, 4, high);
    UNROLL
    for (int h = 0; h < HALVES; h++) {
        vf scale[2], offset[2] = {v_zero(), v_zero()};
        for (int half = 0; half < (t->factor == 16 ? 2 : 1); half++) {
            scale[half] = v_loadf(p->scale[block][half] + h * V_LANES);
            if (t->min != PACK_MIN_NONE)
                offset[half] = v_loadf(p->offset[block][half] + h * V_LANES);
        }
        UNROLL
        for (int i = 0; i < rows; i++) {
            float *to = acc[i] + h * V_LANES;
            v_storef(to, add_block(t, low[i][h], high[i][h], scale, offset, block_at(a, lda, i), v_loadf(to)));
        }
    }
}

INLINE void panel_tile(const struct pack_traits *t, struct panel *p, int blocks, const char *a, size_t lda, int rows,
                       float acc[][PACK_ROWS])
{
    for (int block = 0; block < blocks; block++, a += sizeof(struct act_q8))
        panel_block(t, p, block, a, lda, rows, acc);
}

/* Columns [col, col + cols) of all m rows, m <= PANEL_ROWS_AT_ONCE. */
INLINE void panel_pass(const struct pack_traits *t, struct panel *p, int cols, const char *a, size_t lda, int m,
                       float acc[][PACK_ROWS])
{
    int i = 0;
    for (; i + PANEL_TILE <= m; i += PANEL_TILE)
        panel_tile(t, p, cols / SUB_COLS, a + (size_t)i * lda, lda, PANEL_TILE, acc + i);
    for (; i < m; i++)
        panel_tile(t, p, cols / SUB_COLS, a + (size_t)i * lda, lda, 1, acc + i);
}

INLINE void panel_group(const struct pack_traits *t, float *y, size_t ldy, const uint8_t *group, int k, const char *a,
                        size_t lda, int m, int n_out)
{
    float acc[PANEL_ROWS_AT_ONCE][PACK_ROWS] __attribute__((aligned(64)));
    struct panel p __attribute__((aligned(64)));
    memset(acc, 0, (size_t)m * sizeof acc[0]);
    for (int col = 0; col < k; col += CHUNK_COLS) {
        int cols = pack_chunk_cols(k, col);
        panel_fill(t, &p, pack_chunk(t, group, col), cols);
        panel_pass(t, &p, cols, a + (size_t)(col / SUB_COLS) * sizeof(struct act_q8), lda, m, acc);
    }
    for (int i = 0; i < m; i++)
        memcpy(y + (size_t)i * ldy, acc[i], sizeof(float) * (size_t)(n_out < PACK_ROWS ? n_out : PACK_ROWS));
}

INLINE void mul_panels(const struct pack_traits *t, float *y, size_t ldy, const struct packed *w, const void *a,
                       int m, int g0, int g1)
{
    size_t lda = act_row_bytes(ACT_Q8, w->k);
    for (int g = g0; g < g1; g++)
        for (int i = 0; i < m; i += PANEL_ROWS_AT_ONCE)
            panel_group(t, y + (size_t)i * ldy + (size_t)g * PACK_ROWS, ldy,
                        (const uint8_t *)w->data + (size_t)g * w->group_bytes, w->k, (const char *)a + (size_t)i * lda,
                        lda, m - i < PANEL_ROWS_AT_ONCE ? m - i : PANEL_ROWS_AT_ONCE, w->n - g * PACK_ROWS);
}

/* Rows from which unpacking into memory pays. */
INLINE int panel_from(const struct pack_traits *t)
{
    return quads_in_16_bits(t) ? 3 : 16;
}

#define MUL_Q8_PANEL(function, format)                                                                       \
    void function(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0, int g1,        \
                  void *scratch)                                                                             \
    {                                                                                                        \
        (void)scratch;                                                                                       \
        if (m < panel_from(&pack_traits[format]))                                                                                  \
            mul_q8(&pack_traits[format], y, ldy, w, a, m, g0, g1);                                           \
        else                                                                                                 \
            mul_panels(&pack_traits[format], y, ldy, w, a, m, g0, g1);                                       \
    }
