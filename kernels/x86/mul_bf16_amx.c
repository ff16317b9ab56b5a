/* mul_bf16_amx.c - prompt rows on AMX: block formats, BF16 and F16 times bf16 activations.
 *
 * A tile product is 16 rows by 32 columns of activations times 32 columns by 16
 * outputs of weights, in 16 cycles: 16 times the rate of f32 in vectors. To feed it,
 *
 *   weights      PANEL_COLS columns of two groups are rounded to bf16 in scratch, a tile
 *                for each 32 columns (the pair layout that BF16 is packed in: those are
 *                read where they lie). 32 KiB, which stay in the first-level cache while
 *                all rows of the call go by; unpacking is paid once for up to BEST_ROWS rows.
 *   activations  come from the second level, 16 rows by 64 bytes at a time: copied into
 *                whole tiles of 1 KiB where the copy pays (PACK_GROUPS), else in place.
 *   accumulators 32 rows by 32 outputs stay in four tiles over the depth of the panel, so
 *                four products need four loads, half of them from the nearest cache.
 *
 * Order of additions: the hardware's inside a tile (tiles_emulated.h), tiles in order
 * inside a panel, panels in order into y; panels start at multiples of PANEL_COLS.
 * Rows and columns that a last tile lacks are zero. So the bits of a row depend on
 * that row and the weights alone. Weights are the values of packed_dequant_row(),
 * rounded to nearest even: in every format but F16 at most as wrong as the activations
 * are, and F16 loses three of its eleven bits (docs/kernels.md).
 */
#include "kernels/x86/tile_block.h"
#include "kernels/x86/vec_avx512.h"

#include <stdbool.h>

#include "kernels/table.h"
#include "kernels/x86/pairs.h"
#include "kernels/x86/unpack.tmpl.h"

enum {
    PANEL_COLS = AMX_PANEL_COLS,
    BEST_ROWS = AMX_BEST_ROWS,
    DEPTH = SUB_COLS,                    /* columns of a tile */
    PANEL_BYTES = PANEL_COLS / DEPTH * TILE_BYTES, /* of 16 rows */
    PACK_GROUPS = 8, /* copying a row costs about as much as multiplying it with half a group */
    AHEAD_LINES = 16, /* of the next weights, asked for with each 32 rows */
};

/* Where scratch keeps what. */
struct panels {
    uint8_t *rows;    /* [BEST_ROWS / 16][PANEL_BYTES] */
    uint8_t *weights; /* [2][PANEL_BYTES] */
    float *sums;      /* [2][2][16][16]: row tile, group */
};
_Static_assert(AMX_SCRATCH_BYTES == (BEST_ROWS / TILE_ROWS + 2) * PANEL_BYTES + 4 * TILE_BYTES, "the parts of scratch");

/* ---- weights into tiles ---------------------------------------------------- */

/* Bytes 4r + j of w as floats: signed, or unsigned where there is no bias. */
INLINE vf byte_values(const struct pack_traits *t, vi w, int j)
{
    if (t->bias == 0)
        return v_from_int((vi)((vu)w >> (8 * j) & 255));
    return signed_byte(w, j);
}

/* One body entry is one tile. d * scale * value is exact in f32 (at most 22 bits), so
 * fusing the addition of the offset changes nothing. */
INLINE void expand_entry(const struct pack_traits *t, uint8_t *tile, const uint8_t *head, const uint8_t *body, int col)
{
    vf d, m, scale[2], offset[2];
    vi w[QUADS];
    unit_factors(t, head, 0, &d, &m);
    factors(t, head, 0, col, d, m, &scale[0], &offset[0]);
    scale[1] = scale[0];
    offset[1] = offset[0];
    if (t->factor == 16)
        factors(t, head, 0, col + 16, d, m, &scale[1], &offset[1]);
    unpack(t, body, 0, w);
    UNROLL
    for (int q = 0; q < QUADS; q++) {
        vf value[4];
        vi code = t->bias ? _mm512_sub_epi8(w[q], v_set8(t->bias)) : w[q];
        UNROLL
        for (int j = 0; j < 4; j++) {
            vf v = byte_values(t, code, j);
            value[j] = t->min == PACK_MIN_NONE ? v_mul(v, scale[q / 4]) : v_fma(v, scale[q / 4], offset[q / 4]);
        }
        store_pair(tile + 2 * q * TILE_ROW_BYTES, value[0], value[1]);
        store_pair(tile + (2 * q + 1) * TILE_ROW_BYTES, value[2], value[3]);
    }
}

/* Columns [col, col + cols) of a group of a block format. */
INLINE void expand_blocks(const struct pack_traits *t, uint8_t *tile, const uint8_t *group, int k, int col, int cols)
{
    for (int c = col; c < col + cols; c += SUB_COLS, tile += TILE_BYTES) {
        int in_chunk = c % CHUNK_COLS, start = c - in_chunk;
        const uint8_t *head = pack_chunk(t, group, start), *body = head + pack_chunk_head(t, pack_chunk_cols(k, start));
        expand_entry(t, tile, head + in_chunk / t->unit * t->head_bytes, body + in_chunk / SUB_COLS * t->body_bytes,
                     in_chunk % t->unit);
    }
}

/* The same of F16, [k][16] halves; columns past the end are zero. */
INLINE void expand_f16(uint8_t *tile, const uint8_t *group, int col, int cols)
{
    const uint8_t *p = group + (size_t)col * PACK_ROWS * sizeof(uint16_t);
    for (int c = 0; c < (cols + DEPTH - 1) / DEPTH * DEPTH; c += 2, tile += TILE_ROW_BYTES) {
        vf even = c < cols ? v_load_f16(p + (size_t)c * PACK_ROWS * 2) : v_zero();
        vf odd = c + 1 < cols ? v_load_f16(p + (size_t)(c + 1) * PACK_ROWS * 2) : v_zero();
        store_pair(tile, even, odd);
    }
}

/* A panel of a group as tiles: in `room`, or where they lie. */
INLINE const uint8_t *weight_panel(enum fmt f, const uint8_t *group, int k, int col, int cols, uint8_t *room)
{
    if (f == FMT_BF16) { /* [ceil(k / 2)][16][2]: whole tiles but for the last */
        const uint8_t *at = group + (size_t)col * PACK_ROWS * sizeof(uint16_t);
        if (cols % DEPTH == 0)
            return at;
        size_t bytes = (size_t)(cols + 1) / 2 * TILE_ROW_BYTES;
        memset(room, 0, (size_t)(cols + DEPTH - 1) / DEPTH * TILE_BYTES);
        memcpy(room, at, bytes);
    } else if (f == FMT_F16)
        expand_f16(room, group, col, cols);
    else
        expand_blocks(&pack_traits[f], room, group, k, col, cols);
    return room;
}

/* The bytes of a group that hold columns [col, col + cols). */
INLINE const char *weight_bytes(enum fmt f, const uint8_t *group, int k, int col, int cols, size_t *bytes)
{
    const struct pack_traits *t = &pack_traits[f];
    if (t->unit == 0) {
        *bytes = (size_t)cols * PACK_ROWS * sizeof(uint16_t);
        return (const char *)group + (size_t)col * PACK_ROWS * sizeof(uint16_t);
    }
    const uint8_t *first = pack_chunk(t, group, col), *last = pack_chunk(t, group, (col + cols - 1) / CHUNK_COLS * CHUNK_COLS);
    *bytes = (size_t)(last - first) + pack_chunk_bytes(t, pack_chunk_cols(k, (col + cols - 1) / CHUNK_COLS * CHUNK_COLS));
    return (const char *)first;
}

/* ---- activations into tiles ------------------------------------------------- */

/* Row tiles of a panel: the first n_in_place where prepare_bf16 left them, the others copied. */
struct row_tiles {
    const uint8_t *rows;
    size_t lda;
    const uint8_t *copied;
    int n_in_place;
};

/* One row tile and how far its rows and its next 32 columns are. */
struct row_tile {
    const uint8_t *at;
    size_t stride, step;
};

static struct row_tile row_tile(const struct row_tiles *r, int i)
{
    if (i < r->n_in_place)
        return (struct row_tile){r->rows + (size_t)i * TILE_ROWS * r->lda, r->lda, TILE_ROW_BYTES};
    return (struct row_tile){r->copied + (size_t)i * PANEL_BYTES, TILE_ROW_BYTES, TILE_BYTES};
}

/* Copies the columns of rows [16 i, 16 i + n) to their tiles; what is missing is zero. */
static void copy_rows(uint8_t *tiles, const uint8_t *rows, size_t lda, int n, int cols)
{
    for (int c = 0; c < cols; c += DEPTH, rows += TILE_ROW_BYTES, tiles += TILE_BYTES) {
        int here = cols - c < DEPTH ? cols - c : DEPTH;
        __mmask32 mask = (__mmask32)(((uint64_t)1 << here) - 1);
        for (int r = 0; r < n; r++)
            _mm512_store_si512(tiles + r * TILE_ROW_BYTES, _mm512_maskz_loadu_epi16(mask, rows + (size_t)r * lda));
        for (int r = n; r < TILE_ROWS; r++)
            _mm512_store_si512(tiles + r * TILE_ROW_BYTES, _mm512_setzero_si512());
    }
}

static struct row_tiles tile_rows(uint8_t *room, const uint8_t *rows, size_t lda, int m, int cols, int groups)
{
    bool in_place = groups < PACK_GROUPS && cols % DEPTH == 0;
    struct row_tiles r = {rows, lda, room, in_place ? m / TILE_ROWS : 0};
    for (int i = r.n_in_place; i * TILE_ROWS < m; i++) {
        int n = m - i * TILE_ROWS < TILE_ROWS ? m - i * TILE_ROWS : TILE_ROWS;
        copy_rows(room + (size_t)i * PANEL_BYTES, rows + (size_t)i * TILE_ROWS * lda, lda, n, cols);
    }
    return r;
}

/* ---- the product ------------------------------------------------------------- */

/* sums = rows_0 (and rows_1) times weights_0 (and weights_1), `depth` tiles of columns.
 * The second weights are only there if `wide`, the second rows if `tall`: constants. */
INLINE void tile_block(float *sums, const struct row_tile *rows_0, const struct row_tile *rows_1, const uint8_t *weights_0,
                       const uint8_t *weights_1, int depth, bool tall, bool wide)
{
    const uint8_t *a0 = rows_0->at, *a1 = rows_1->at;
    tile_block_zero(tall, wide);
    for (int i = 0; i < depth; i++, a0 += rows_0->step, a1 += rows_1->step) {
        tile_load(COLS_0, weights_0 + (size_t)i * TILE_BYTES, TILE_ROW_BYTES);
        tile_stream(ROWS_0, a0, rows_0->stride);
        tile_dot_bf16(ACC_00, ROWS_0, COLS_0);
        if (wide) {
            tile_load(COLS_1, weights_1 + (size_t)i * TILE_BYTES, TILE_ROW_BYTES);
            tile_dot_bf16(ACC_01, ROWS_0, COLS_1);
        }
        if (tall) {
            tile_stream(ROWS_1, a1, rows_1->stride);
            tile_dot_bf16(ACC_10, ROWS_1, COLS_0);
        }
        if (tall && wide)
            tile_dot_bf16(ACC_11, ROWS_1, COLS_1);
    }
    tile_block_store(sums, tall, wide);
}

/* y (+)= the sums of up to 32 rows and 32 outputs. */
static void add_sums(float *y, size_t ldy, const float *sums, int m, int n, bool first)
{
    for (int i = 0; i < m; i++, y += ldy) {
        const float *row = sums + i / TILE_ROWS * (TILE_BYTES / 2) + i % TILE_ROWS * PACK_ROWS;
        for (int j = 0; j < n; j += PACK_ROWS, row += TILE_BYTES / 4) {
            int here = n - j < PACK_ROWS ? n - j : PACK_ROWS;
            vf sum = v_loadf(row);
            v_storef_n(y + j, first ? sum : v_add(v_loadf_n(y + j, here), sum), here);
        }
    }
}

/* What the next call of panel_product() will read, a little with each step. */
struct ahead {
    const char *at[2];
    size_t bytes, done;
};

static void ask_ahead(struct ahead *a)
{
    for (int i = 0; i < AHEAD_LINES / 2 && a->done < a->bytes; i++, a->done += 64) {
        _mm_prefetch(a->at[0] + a->done, _MM_HINT_T1);
        _mm_prefetch(a->at[1] + a->done, _MM_HINT_T1);
    }
}

/* y (+)= m rows times one panel of n outputs: 1 to 32, in one or two groups. */
static void panel_product(float *y, size_t ldy, const struct row_tiles *rows, int m, const uint8_t *const weights[2], int n,
                          int depth, bool first, float *sums, struct ahead *ahead)
{
    for (int i = 0; i < m; i += 2 * TILE_ROWS) {
        struct row_tile low = row_tile(rows, i / TILE_ROWS), high = low;
        bool tall = m - i > TILE_ROWS, wide = n > PACK_ROWS;
        if (tall)
            high = row_tile(rows, i / TILE_ROWS + 1);
        if (tall && wide)
            tile_block(sums, &low, &high, weights[0], weights[1], depth, true, true);
        else if (tall)
            tile_block(sums, &low, &high, weights[0], weights[1], depth, true, false);
        else if (wide)
            tile_block(sums, &low, &high, weights[0], weights[1], depth, false, true);
        else
            tile_block(sums, &low, &high, weights[0], weights[1], depth, false, false);
        add_sums(y + (size_t)i * ldy, ldy, sums, m - i < 2 * TILE_ROWS ? m - i : 2 * TILE_ROWS, n, first);
        ask_ahead(ahead);
    }
}

/* At most BEST_ROWS rows. */
INLINE void mul_some_rows(enum fmt f, float *y, size_t ldy, const struct packed *w, const uint8_t *a, size_t lda, int m,
                          int g0, int g1, const struct panels *p)
{
    for (int c = 0; c < w->k; c += PANEL_COLS) {
        int cols = w->k - c < PANEL_COLS ? w->k - c : PANEL_COLS;
        struct row_tiles rows = tile_rows(p->rows, a + (size_t)c * sizeof(uint16_t), lda, m, cols, g1 - g0);
        for (int g = g0; g < g1; g += 2) {
            const uint8_t *group = (const uint8_t *)w->data + (size_t)g * w->group_bytes;
            bool two = g + 1 < g1;
            const uint8_t *weights[2] = {weight_panel(f, group, w->k, c, cols, p->weights)};
            weights[1] = two ? weight_panel(f, group + w->group_bytes, w->k, c, cols, p->weights + PANEL_BYTES) : weights[0];
            struct ahead ahead = {.bytes = 0};
            if (g + 3 < g1) {
                ahead.at[0] = weight_bytes(f, group + 2 * w->group_bytes, w->k, c, cols, &ahead.bytes);
                ahead.at[1] = ahead.at[0] + w->group_bytes;
            }
            int left = w->n - g * PACK_ROWS, n = left < PACK_ROWS * (1 + two) ? left : PACK_ROWS * (1 + two);
            panel_product(y + (size_t)g * PACK_ROWS, ldy, &rows, m, weights, n, (cols + DEPTH - 1) / DEPTH, c == 0,
                          p->sums, &ahead);
        }
    }
}

INLINE void mul_bf16(enum fmt f, float *y, size_t ldy, const struct packed *w, const uint8_t *a, int m, int g0, int g1,
                     uint8_t *scratch)
{
    size_t lda = act_row_bytes(ACT_BF16, w->k);
    struct panels p = {.rows = scratch, .weights = scratch + BEST_ROWS / TILE_ROWS * PANEL_BYTES};
    p.sums = (float *)(p.weights + 2 * PANEL_BYTES);
    tile_block_configure();
    for (int i = 0; i < m; i += BEST_ROWS)
        mul_some_rows(f, y + (size_t)i * ldy, ldy, w, a + (size_t)i * lda, lda, m - i < BEST_ROWS ? m - i : BEST_ROWS, g0,
                      g1, &p);
    tiles_release();
}

#define ROW(id, low, ...)                                                                                     \
    void AMX_FN(mul_bf16_##low)(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0,   \
                                int g1, void *scratch)                                                        \
    {                                                                                                         \
        mul_bf16(FMT_##id, y, ldy, w, a, m, g0, g1, scratch);                                                 \
    }
ROW(F16, f16)
ROW(BF16, bf16)
FMT_BLOCKS(ROW)
#undef ROW
