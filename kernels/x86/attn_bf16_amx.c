/* attn_bf16_amx.c - prompt attention on AMX, over pages of bf16, f16 and q8_0. See attn.tmpl.h.
 *
 * Both products of a page are tiles as they lie (kernels.h):
 *
 *   scores  16 rows by 32 columns of queries times 32 columns by 16 positions of a K page
 *   values  16 rows by 32 positions of weights times 32 positions by 16 columns of a V page
 *
 * Scores leave their tile for row->p itself, whose rows lie a struct attn_row apart. Values
 * of a whole block (four pages) are summed in tiles and then added to the parts once.
 * Pages of f16 and q8_0 are rounded to bf16 in scratch, once for all rows of a pass; so are
 * pages of bf16 whose sizes fill no tile, or whose positions are not all there yet:
 * what nobody has written may be NaN, and the weight of zero that an unseen position has
 * would not make that vanish. What has been written is seen as it is: an infinity among a
 * sequence's values spoils the rows of the same sequence that share a tile with it.
 *
 * Rows past the last are computed as they come and never looked at. A row's own sums
 * meet nothing but zeros from positions that it does not see, so its bits do not
 * depend on which rows go along.
 */
#include "kernels/x86/tile_block.h"
#include "kernels/x86/vec_avx512.h"

#include <math.h>
#include <stdbool.h>

#include "kernels/attn.h"
#include "kernels/table.h"
#include "kernels/x86/attn_pairs.h"
#include "kernels/x86/math.tmpl.h"

enum {
    DEPTH = TILE_ROW_BYTES / 2,      /* bf16 values that a tile product sums over */
    KEY_LINE = 4 * KV_PAGE,          /* bytes of a pair of columns at all positions */
    PAGES = ATTN_BLOCK / KV_PAGE,    /* of a block */
    QUADS = 8,                       /* of a block of q8_0 */
};
_Static_assert(KV_PAGE == DEPTH, "the positions of a page are one tile deep");
_Static_assert(ATTN_ROW_TILE == TILE_ROWS, "rows come in whole tiles");
_Static_assert(KV_STRIP == 2 * TILE_ROWS, "a strip of values is two tiles");

/* Pages are rounded to true values: nothing is lifted. */
INLINE void attn_form(enum kv_type t, const struct attn *a, struct attn_row *row)
{
    (void)t;
    form_pairs(a, row, 1);
}

INLINE vf attn_keep_weights(enum kv_type t, const struct attn *a, struct attn_row *row, int g, vf p)
{
    (void)t;
    (void)a;
    return keep_pairs(row, g, p, 1);
}

/* ---- pages as bf16 pairs ----------------------------------------------------- */

/* n values of a page rounded to bf16, then zeros up to `room`; both multiples of 16. */
INLINE void round_values(enum kv_type t, char *to, const char *from, int n, int room)
{
    if (t == KV_BF16)
        memcpy(to, from, 2 * (size_t)n);
    else
        for (int i = 0; i < n; i += V_LANES)
            _mm256_storeu_si256((__m256i *)(void *)(to + 2 * i), (__m256i)_mm512_cvtneps_pbh(v_load_f16(from + 2 * i)));
    memset(to + 2 * (size_t)n, 0, 2 * (size_t)(room - n));
}

/* A block of q8_0: 16 lines of pairs, `line` bytes apart, of 32 lanes each. A scale belongs to
 * a lane (keys: lanes are positions) or to one of four neighbours in depth (values). */
INLINE void round_block(char *to, size_t line, const char *block, bool key)
{
    alignas(64) float scale[KV_PAGE];
    const char *code = block + 2 * KV_PAGE;
    for (int i = 0; i < KV_PAGE; i += V_LANES)
        v_storef(scale + i, v_load_f16(block + 2 * i));
    for (int q = 0; q < QUADS; q++, to += 2 * line)
        for (int half = 0; half < 2; half++, code += V_BYTES) {
            vi four = v_load(code);
            vf x[4];
            UNROLL
            for (int j = 0; j < 4; j++)
                x[j] = v_mul(signed_byte(four, j), key ? v_loadf(scale + half * V_LANES) : v_set(scale[4 * q + j]));
            store_pair(to + half * V_BYTES, x[0], x[1]);
            store_pair(to + line + half * V_BYTES, x[2], x[3]);
        }
}

/* Room for two latent rows, behind the pages. */
INLINE uint16_t *latent_room(const struct attn_pass *w)
{
    char *end = w->page + attn_page_bytes(w->a->dk, w->a->dv);
    return (uint16_t *)(void *)(end - 2 * act_row_bytes(ACT_BF16, w->a->dk));
}

/* Lines of 32 columns by 32 positions: of the page where it lies, or in w->page. */
INLINE const char *key_page(const struct attn_pass *w, enum kv_type t, int j)
{
    const struct attn *a = w->a;
    const char *k = attn_k(a, j);
    int cols = (a->dk + DEPTH - 1) / DEPTH * DEPTH;
    if (a->latent) {
        for (int i = 0; i < KV_PAGE; i++)
            latent_key(w->page, i, latent_row(t, a, k, i, latent_room(w)), a->dk);
        memset(w->page + a->dk / 2 * KEY_LINE, 0, (size_t)((cols - a->dk) / 2 * KEY_LINE));
    } else if (t == KV_Q8_0) {
        for (int b = 0; b < a->dk / 32; b++)
            round_block(w->page + b * DEPTH / 2 * KEY_LINE, KEY_LINE, k + b * KV_PAGE * KV_Q8_BLOCK, true);
    } else if (t == KV_BF16 && cols == a->dk) {
        return k;
    } else {
        round_values(t, w->page, k, a->dk * KV_PAGE, cols * KV_PAGE);
    }
    return w->page;
}

/* Zeros in place of positions outside [from, to). */
INLINE void hide(char *page, int cols, int from, int to)
{
    for (int j = 0; j < KV_PAGE; j += 2)
        if (j < from || j + 1 >= to) {
            vi mask = v_set32((j >= from && j < to ? 0xffff : 0) | (j + 1 >= from && j + 1 < to ? ~0xffff : 0));
            for (int c = 0; c < cols; c += V_LANES) {
                char *at = page + 2 * kv_v_element(cols, j, c);
                _mm512_store_si512(at, v_and(v_load(at), mask));
            }
        }
}

/* A V page of `cols` columns, whole tiles: where it lies, or in `room`. */
INLINE const char *value_page(const struct attn_pass *w, enum kv_type t, int j, int cols, char *room)
{
    const struct attn *a = w->a;
    const char *v = a->latent ? attn_k(a, j) : attn_v(a, j);
    bool whole = w->first <= j && w->end >= j + KV_PAGE;
    if (a->latent) {
        uint16_t *rows = latent_room(w), *next = rows + act_row_bytes(ACT_BF16, a->dk) / 2;
        memset(room, 0, KV_PAGE * 2 * (size_t)cols);
        for (int i = 0; i < KV_PAGE; i += 2)
            latent_values(room, cols, i, latent_row(t, a, v, i, rows), latent_row(t, a, v, i + 1, next), a->dv);
    } else if (t == KV_Q8_0) {
        for (int b = 0; b < a->dv / 32; b++)
            round_block(room + b * KV_PAGE * 2 * KV_STRIP, 4 * KV_STRIP, v + b * KV_PAGE * KV_Q8_BLOCK, false);
    } else if (t == KV_BF16 && whole && kv_cols(a->dv) == cols) {
        return v;
    } else {
        for (int c = 0; c < cols; c += KV_STRIP)
            for (int i = 0; i < KV_PAGE; i += 2)
                round_values(t, room + 2 * kv_v_element(cols, i, c), v + 2 * kv_v_element(a->dv, i, c),
                             2 * kv_strip_cols(a->dv, c), 2 * kv_strip_cols(cols, c));
    }
    if (!whole)
        hide(room, cols, w->first - j, w->end - j);
    return room;
}

/* ---- products ------------------------------------------------------------------ */

/* Scores of 16 rows (32 if tall) for the 32 positions of a page. */
INLINE void score_rows(const struct attn *a, struct attn_row *row, const char *k, int at, bool tall)
{
    size_t form = act_row_bytes(ACT_BF16, a->dk);
    const char *q = row->form;
    tile_block_zero(tall, true);
    for (int c = 0; c < a->dk; c += DEPTH, q += TILE_ROW_BYTES, k += DEPTH / 2 * KEY_LINE) {
        tile_load(COLS_0, k, KEY_LINE);
        tile_load(ROWS_0, q, form);
        tile_dot_bf16(ACC_00, ROWS_0, COLS_0);
        tile_load(COLS_1, k + TILE_ROW_BYTES, KEY_LINE);
        tile_dot_bf16(ACC_01, ROWS_0, COLS_1);
        if (tall) {
            tile_load(ROWS_1, q + TILE_ROWS * form, form);
            tile_dot_bf16(ACC_10, ROWS_1, COLS_0);
            tile_dot_bf16(ACC_11, ROWS_1, COLS_1);
        }
    }
    tile_store(ACC_00, row->p + at, sizeof *row);
    tile_store(ACC_01, row->p + at + TILE_ROWS, sizeof *row);
    if (tall) {
        tile_store(ACC_10, row[TILE_ROWS].p + at, sizeof *row);
        tile_store(ACC_11, row[TILE_ROWS].p + at + TILE_ROWS, sizeof *row);
    }
}

INLINE void attn_score_block(const struct attn_pass *w, enum kv_type t, int base, int first, int end)
{
    for (int page = first; page < end; page++) {
        const char *k = key_page(w, t, base + page * KV_PAGE);
        for (int r = 0; r < w->n_rows; r += 2 * TILE_ROWS)
            if (w->n_rows - r > TILE_ROWS)
                score_rows(w->a, w->row + r, k, page * KV_PAGE, true);
            else
                score_rows(w->a, w->row + r, k, page * KV_PAGE, false);
    }
}

/* sums[row tile][column tile][16][16] = weights times the values of 16 columns (32 if wide)
 * from v[..] on, over the pages [first, end). */
INLINE void value_tiles(const struct attn_row *row, const char *const v[PAGES], int first, int end, size_t line,
                        bool tall, bool wide, float *sums)
{
    tile_block_zero(tall, wide);
    for (int page = first; page < end; page++) {
        const char *p = (const char *)row->p + page * TILE_ROW_BYTES;
        tile_load(COLS_0, v[page], line);
        tile_load(ROWS_0, p, sizeof *row);
        tile_dot_bf16(ACC_00, ROWS_0, COLS_0);
        if (wide) {
            tile_load(COLS_1, v[page] + TILE_ROW_BYTES, line);
            tile_dot_bf16(ACC_01, ROWS_0, COLS_1);
        }
        if (tall) {
            tile_load(ROWS_1, p + TILE_ROWS * sizeof *row, sizeof *row);
            tile_dot_bf16(ACC_10, ROWS_1, COLS_0);
        }
        if (tall && wide)
            tile_dot_bf16(ACC_11, ROWS_1, COLS_1);
    }
    tile_block_store(sums, tall, wide);
}

/* part = part * keep + sums, for the rows that saw something. */
INLINE void add_values(struct attn_row *row, int rows, int c, bool wide, const float *sums)
{
    for (int i = 0; i < rows; i++, row++) {
        float *to = row->part + ATTN_PART_VALUES + c;
        const float *from = sums + i / TILE_ROWS * (TILE_BYTES / 2) + i % TILE_ROWS * TILE_ROWS;
        if (row->from >= row->to)
            continue;
        v_storef(to, v_fma(v_loadf(to), v_set(row->keep), v_loadf(from)));
        if (wide)
            v_storef(to + V_LANES, v_fma(v_loadf(to + V_LANES), v_set(row->keep), v_loadf(from + TILE_BYTES / 4)));
    }
}

/* A weight of zero wherever attn_soften() had nothing to write. */
INLINE void clear_unseen(struct attn_row *row, int first, int end)
{
    int seen = row->from / V_LANES, seen_end = (row->to + V_LANES - 1) / V_LANES;
    for (int g = first * KV_PAGE / V_LANES; g < end * KV_PAGE / V_LANES; g++)
        if (g < seen || g >= seen_end)
            memset((char *)row->p + g * V_LANES * 2, 0, V_LANES * 2);
}

INLINE void value_rows(const struct attn_pass *w, int r, const char *const page[PAGES], int first, int end, int cols,
                       bool tall)
{
    alignas(64) float sums[TILE_BLOCK_FLOATS];
    struct attn_row *row = w->row + r;
    int rows = w->n_rows - r < 2 * TILE_ROWS ? w->n_rows - r : 2 * TILE_ROWS;
    const char *v[PAGES];
    for (int i = 0; i < rows; i++)
        clear_unseen(row + i, first, end);
    for (int c = 0; c < cols; c += 2 * TILE_ROWS) {
        bool wide = c + TILE_ROWS < cols;
        size_t line = 4 * (size_t)kv_strip_cols(cols, c);
        for (int p = first; p < end; p++)
            v[p] = page[p] + 2 * kv_v_element(cols, 0, c);
        if (wide)
            value_tiles(row, v, first, end, line, tall, true, sums);
        else
            value_tiles(row, v, first, end, line, tall, false, sums);
        add_values(row, rows, c, wide, sums);
    }
}

INLINE void attn_value_block(const struct attn_pass *w, enum kv_type t, int base, int first, int end)
{
    int cols = (w->a->dv + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    const char *page[PAGES];
    for (int p = first; p < end; p++)
        page[p] = value_page(w, t, base + p * KV_PAGE, cols, w->page + (size_t)p * KV_PAGE * 2 * (size_t)cols);
    for (int r = 0; r < w->n_rows; r += 2 * TILE_ROWS)
        if (w->n_rows - r > TILE_ROWS)
            value_rows(w, r, page, first, end, cols, true);
        else
            value_rows(w, r, page, first, end, cols, false);
}

#include "kernels/x86/attn.tmpl.h"

#define ROW(type, low)                                        \
    void AMX_FN(attn_##low)(const struct attn *a, void *scratch) \
    {                                                         \
        tile_block_configure();                               \
        attend(a, type, scratch);                             \
        tiles_release();                                      \
    }
ROW(KV_BF16, bf16)
ROW(KV_F16, f16)
ROW(KV_Q8_0, q8_0)
#undef ROW
