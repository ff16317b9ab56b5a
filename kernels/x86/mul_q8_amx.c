/* mul_q8_amx.c - block formats times int8 activations: AMX, generated rows from a few up.
 *
 * Same bits as mul_q8_vnni.c, so the choice between the two, by the number of rows, is
 * free. Sums of a block's products are whole numbers and exact in any order; what is
 * done with them in float is mul_blocks() of mul_q8.tmpl.h, the very same code.
 *
 * The eight quads of a body entry are the eight rows of a tile, four and four where 16
 * columns have a factor of their own; activations are loaded as they were prepared,
 * 32 (16) bytes of up to 16 rows. The product is one tile of int32 for each 16 rows,
 * which comes back through memory.
 *
 * A tile load cannot take what a store has not yet written to the cache, and nothing
 * leaves a tile but by way of memory. So the work is cut into pieces of one chunk
 * and overlapped by order of instructions:
 *
 *   tiles    of (piece p, 16 rows)            the tile unit, from codes unpacked a piece ago
 *   unpack   the codes of piece p + 1         the vector units, while tiles are multiplied
 *   add      the sums of the step before      the vector units
 *
 * Accumulators are in memory, in the first-level cache: so any number of rows is done
 * without padding, and a weight is unpacked once for STEP_MAX_ROWS rows.
 */
#include "kernels/x86/tiles.h"
#include "kernels/x86/vec_avx512.h"
#define MAX_TILE 1
#include "kernels/table.h"
#include "kernels/x86/mul_q8.tmpl.h"

enum {
    FEW_ROWS = 4, /* up to here the vector units have little to do: VNNI reads memory as fast as it comes */
    STEP_MAX_ROWS = 64,
    ENTRIES = CHUNK_COLS / SUB_COLS,
    AHEAD_BYTES = 8192, /* as for many rows in mul_q8.tmpl.h */
};

#define SUMS_0 0
#define ACTS_0 1
#define SUMS_1 2
#define ACTS_1 3
#define SUMS_LAST 4
#define ACTS_LAST 5
#define CODES_0 6
#define CODES_1 7

/* Scratch: what lies between tiles and vectors. */
struct between {
    int8_t codes[2][ENTRIES][QUADS][V_BYTES];
    int32_t sums[2][2 * ENTRIES][TILE_ROWS][PACK_ROWS]; /* a tile for each entry, or two */
    float acc[STEP_MAX_ROWS][PACK_ROWS];
};
_Static_assert(sizeof(struct between) == AMX_Q8_SCRATCH_BYTES, "kernels.inc says how much scratch");

/* mul_blocks() asks for the sums of one row: w points to where its tile row came down. */
static inline void dot_quads(const struct pack_traits *t, const vi *w, const char *a, size_t lda, int rows, int from, int n,
                             vi *sum)
{
    (void)t, (void)a, (void)lda, (void)rows, (void)n;
    sum[0] = v_load((const char *)w + from / 4 * TILE_BYTES);
}

/* Tiles for each entry. */
INLINE int tiles_of(const struct pack_traits *t)
{
    return t->factor == 16 ? 2 : 1;
}

/* Columns [start, start + cols) of a group: one chunk, or the shorter last one. */
struct piece {
    const uint8_t *head;
    int start, cols;
};

INLINE struct piece piece_at(const struct pack_traits *t, const uint8_t *group, int k, int start)
{
    return (struct piece){pack_chunk(t, group, start), start, pack_chunk_cols(k, start)};
}

/* The codes of a piece as signed bytes. */
INLINE void unpack_piece(const struct pack_traits *t, int8_t codes[][QUADS][V_BYTES], const struct piece *p)
{
    const uint8_t *body = p->head + pack_chunk_head(t, p->cols);
    for (size_t ahead = 0; ahead < pack_chunk_bytes(t, CHUNK_COLS); ahead += 64)
        _mm_prefetch((const char *)p->head + AHEAD_BYTES + ahead, _MM_HINT_T1);
    for (int e = 0; e < p->cols / SUB_COLS; e++, body += t->body_bytes) {
        vi w[QUADS];
        unpack(t, body, 0, w);
        UNROLL
        for (int q = 0; q < QUADS; q++)
            _mm512_store_si512(codes[e][q], t->bias ? _mm512_sub_epi8(w[q], v_set8(t->bias)) : w[q]);
    }
}

/* sums[i] = activations times codes, tile by tile; a: of the first row, at the piece. */
INLINE void multiply_piece(const struct pack_traits *t, int32_t sums[][TILE_ROWS][PACK_ROWS],
                           const int8_t codes[][QUADS][V_BYTES], const char *a, size_t lda, int cols, bool last)
{
    int per_entry = tiles_of(t), n = cols / SUB_COLS * per_entry, i = 0;
    size_t code_bytes = QUADS * V_BYTES / (size_t)per_entry, act_bytes = SUB_COLS / (size_t)per_entry;
#define CODES(i) ((const char *)codes + (size_t)(i)*code_bytes)
#define ACTS(i) (a + (size_t)((i) / per_entry) * sizeof(struct act_q8) + (size_t)((i) % per_entry) * act_bytes)
    for (; !last && i + 1 < n; i += 2) { /* two abreast */
        tile_load(CODES_0, CODES(i), V_BYTES);
        tile_load(ACTS_0, ACTS(i), lda);
        tile_zero(SUMS_0);
        tile_dot_s8(SUMS_0, ACTS_0, CODES_0);
        tile_load(CODES_1, CODES(i + 1), V_BYTES);
        tile_load(ACTS_1, ACTS(i + 1), lda);
        tile_zero(SUMS_1);
        tile_dot_s8(SUMS_1, ACTS_1, CODES_1);
        tile_store(SUMS_0, sums[i], TILE_ROW_BYTES);
        tile_store(SUMS_1, sums[i + 1], TILE_ROW_BYTES);
    }
    for (; i < n; i++) {
        tile_load(CODES_0, CODES(i), V_BYTES);
        if (last) {
            tile_load(ACTS_LAST, ACTS(i), lda);
            tile_zero(SUMS_LAST);
            tile_dot_s8(SUMS_LAST, ACTS_LAST, CODES_0);
            tile_store(SUMS_LAST, sums[i], TILE_ROW_BYTES);
        } else {
            tile_load(ACTS_0, ACTS(i), lda);
            tile_zero(SUMS_0);
            tile_dot_s8(SUMS_0, ACTS_0, CODES_0);
            tile_store(SUMS_0, sums[i], TILE_ROW_BYTES);
        }
    }
#undef CODES
#undef ACTS
}

/* One step: a piece for up to 16 rows. */
struct step {
    struct piece piece;
    int row, rows, parity; /* parity: which of the two sums */
};

/* acc += the sums of a step times their factors, entry by entry for each row. */
INLINE void add_step(const struct pack_traits *t, struct between *b, const struct step *s, const char *a, size_t lda)
{
    vf scale[ENTRIES][2], offset[ENTRIES][2], d, m;
    int entries = s->piece.cols / SUB_COLS;
    const uint8_t *head = s->piece.head;
    for (int e = 0, col = 0; e < entries; e++) {
        unit_factors(t, head, 0, &d, &m);
        factors(t, head, 0, col, d, m, &scale[e][0], &offset[e][0]);
        if (t->factor == 16)
            factors(t, head, 0, col + 16, d, m, &scale[e][1], &offset[e][1]);
        col += SUB_COLS;
        if (col == t->unit) {
            col = 0;
            head += t->head_bytes;
        }
    }
    a += (size_t)(s->piece.start / SUB_COLS) * sizeof(struct act_q8) + (size_t)s->row * lda;
    for (int i = 0; i < s->rows; i++, a += lda) {
        vf acc[1][HALVES] = {{v_loadf(b->acc[s->row + i])}};
        for (int e = 0; e < entries; e++)
            mul_blocks(t, (const vi *)(const void *)b->sums[s->parity][e * tiles_of(t)][i], scale[e], offset[e],
                       a + (size_t)e * sizeof(struct act_q8), lda, 1, 0, acc);
        v_storef(b->acc[s->row + i], acc[0][0]);
    }
}

/* m <= STEP_MAX_ROWS rows of one group. */
INLINE void mul_group(const struct pack_traits *t, float *y, size_t ldy, const uint8_t *group, int k, const char *a,
                      size_t lda, int m, int n_out, struct between *b)
{
    struct step step = {.parity = 0}, before = {.rows = 0};
    for (int i = 0; i < m; i++)
        v_storef(b->acc[i], v_zero());
    struct piece piece = piece_at(t, group, k, 0), next;
    unpack_piece(t, b->codes[0], &piece);
    for (int start = 0; start < k; start += CHUNK_COLS, piece = next) {
        int codes = start / CHUNK_COLS % 2;
        next = piece;
        for (int row = 0; row < m; row += TILE_ROWS, before = step) {
            step = (struct step){piece, row, m - row < TILE_ROWS ? m - row : TILE_ROWS, !before.parity};
            multiply_piece(t, b->sums[step.parity], b->codes[codes],
                           a + (size_t)row * lda + (size_t)(start / SUB_COLS) * sizeof(struct act_q8), lda, piece.cols,
                           step.rows < TILE_ROWS);
            if (row == 0 && start + CHUNK_COLS < k) {
                next = piece_at(t, group, k, start + CHUNK_COLS);
                unpack_piece(t, b->codes[!codes], &next);
            }
            if (before.rows > 0)
                add_step(t, b, &before, a, lda);
        }
    }
    add_step(t, b, &before, a, lda);
    int n = n_out < PACK_ROWS ? n_out : PACK_ROWS;
    for (int i = 0; i < m; i++)
        v_storef_n(y + (size_t)i * ldy, v_loadf(b->acc[i]), n);
}

static void configure(const struct pack_traits *t, int m)
{
    struct tile_config c = {0};
    int quads = QUADS / tiles_of(t), last = m % TILE_ROWS;
    if (m >= TILE_ROWS) {
        tile_shape(&c, SUMS_0, TILE_ROWS, TILE_ROW_BYTES);
        tile_shape(&c, SUMS_1, TILE_ROWS, TILE_ROW_BYTES);
        tile_shape(&c, ACTS_0, TILE_ROWS, 4 * quads);
        tile_shape(&c, ACTS_1, TILE_ROWS, 4 * quads);
    }
    if (last > 0) {
        tile_shape(&c, SUMS_LAST, last, TILE_ROW_BYTES);
        tile_shape(&c, ACTS_LAST, last, 4 * quads);
    }
    tile_shape(&c, CODES_0, quads, TILE_ROW_BYTES);
    tile_shape(&c, CODES_1, quads, TILE_ROW_BYTES);
    tiles_configure(&c);
}

INLINE void mul_q8_tiles(const struct pack_traits *t, mul_fn *few, float *y, size_t ldy, const struct packed *w,
                         const char *a, int m, int g0, int g1, void *scratch)
{
    size_t lda = act_row_bytes(ACT_Q8, w->k);
    for (int i = 0, rows; i < m; i += rows, a += (size_t)rows * lda, y += (size_t)rows * ldy) {
        rows = m - i < STEP_MAX_ROWS ? m - i : STEP_MAX_ROWS;
        if (rows <= FEW_ROWS) {
            few(y, ldy, w, a, rows, g0, g1, scratch);
            continue;
        }
        configure(t, rows);
        for (int g = g0; g < g1; g++)
            mul_group(t, y + (size_t)g * PACK_ROWS, ldy, (const uint8_t *)w->data + (size_t)g * w->group_bytes, w->k, a, lda,
                      rows, w->n - g * PACK_ROWS, scratch);
        tiles_release();
    }
}

#define ROW(id, low, ...)                                                                                     \
    void AMX_FN(mul_q8_##low)(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0,     \
                              int g1, void *scratch)                                                          \
    {                                                                                                         \
        mul_q8_tiles(&pack_traits[FMT_##id], mul_q8_##low##_vnni, y, ldy, w, a, m, g0, g1, scratch);          \
    }
FMT_BLOCKS(ROW)
#undef ROW
