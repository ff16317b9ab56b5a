/* attn_rows.tmpl.h - blocks of attention a page at a time, in tiles of a few rows.
 *
 * The including file defines, before:
 *
 *   ATTN_TILE                  the most rows that share a vector of keys or values
 *   attn_expands(t, a, n)      whether n rows had better meet an expanded page
 *   attn_expand_k, _v          a page as the tiles of `attn_expanded(t)` want it
 *   attn_score_tile            row[0 .. n).p + at = q . k for the positions of a page
 *   attn_value_tile            part = part * keep + sum of p v over [j0, j1) of a page
 *
 * A block's pages of keys, then its pages of values: each page is contiguous and while
 * one is read the next is asked for, into the second-level cache (into the first, f16 ran
 * at half the speed). A row that does not see a page skips it.
 */
#ifndef CORDEE_KERNELS_X86_ATTN_ROWS_TMPL_H
#define CORDEE_KERNELS_X86_ATTN_ROWS_TMPL_H

/* step(rows) for all rows, as many at a time as [count, most] allows. */
#define ATTN_HEIGHTS(count, step) \
    if (ATTN_TILE >= 4 && (count) >= 4) {  \
        step(4)                   \
    } else if ((count) >= 2) {    \
        step(2)                   \
    } else {                      \
        step(1)                   \
    }

/* From one page's K or V to what is read next of the same context. */
INLINE ptrdiff_t attn_ahead(const struct attn_pass *w, int base, int page, bool values, const char *here)
{
    int j = base + page * KV_PAGE, block_end = base + ATTN_BLOCK < w->end ? base + ATTN_BLOCK : w->end;
    if (j + KV_PAGE < block_end)
        return (values ? attn_v(w->a, j + KV_PAGE) : attn_k(w->a, j + KV_PAGE)) - here;
    if (!values)
        return attn_v(w->a, base > w->first ? base : w->first) - here;
    return base + ATTN_BLOCK < w->end ? attn_k(w->a, base + ATTN_BLOCK) - here : 0;
}

INLINE void attn_score_page(const struct attn_pass *w, enum kv_type t, int base, int page)
{
    const char *k = attn_k(w->a, base + page * KV_PAGE);
    bool expand = attn_expands(t, w->a, w->n_rows);
    ptrdiff_t ahead = expand ? 0 : attn_ahead(w, base, page, false, k);
    if (expand)
        k = attn_expand_k(t, w->a, w->page, k);
    for (int r = 0; r < w->n_rows;) {
#define STEP(rows)                                                                           \
    if (expand)                                                                           \
        attn_score_tile(attn_expanded(t), k, 0, w->a->dk, w->row + r, rows, page * KV_PAGE); \
    else                                                                                     \
        attn_score_tile(t, k, ahead, w->a->dk, w->row + r, rows, page * KV_PAGE);            \
    r += rows;
        ATTN_HEIGHTS(w->n_rows - r, STEP)
#undef STEP
    }
}

/* What a row sees of a page of the block. */
INLINE void attn_page_span(const struct attn_row *row, int page, int *j0, int *j1)
{
    int at = page * KV_PAGE;
    *j0 = row->from > at ? row->from - at : 0;
    *j1 = row->to < at + KV_PAGE ? row->to - at : KV_PAGE;
}

INLINE void attn_value_page(const struct attn_pass *w, enum kv_type t, int base, int page)
{
    const char *v = w->a->latent ? attn_k(w->a, base + page * KV_PAGE) : attn_v(w->a, base + page * KV_PAGE);
    bool expand = attn_expands(t, w->a, w->n_rows);
    ptrdiff_t ahead = expand ? 0 : attn_ahead(w, base, page, true, v);
    if (expand)
        v = attn_expand_v(t, w->a, w->page, v);
    for (int r = 0; r < w->n_rows;) {
        struct attn_row *row = w->row + r;
        int j0, j1, from, to, alike = 1;
        attn_page_span(row, page, &j0, &j1);
        if (j0 >= j1) {
            r++;
            continue;
        }
        for (; alike < ATTN_TILE && r + alike < w->n_rows; alike++) {
            attn_page_span(row + alike, page, &from, &to);
            if (from != j0 || to != j1)
                break;
        }
#define STEP(rows)                                                                                     \
    if (expand)                                                                                     \
        attn_value_tile(attn_expanded(t), v, 0, w->a->dv, row, rows, page * KV_PAGE, j0, j1);          \
    else                                                                                               \
        attn_value_tile(t, v, ahead, w->a->dv, row, rows, page * KV_PAGE, j0, j1);                     \
    for (int i = 0; i < rows; i++)                                                                     \
        row[i].keep = 1;                                                                               \
    r += rows;
        ATTN_HEIGHTS(alike, STEP)
#undef STEP
    }
}

INLINE void attn_score_block(const struct attn_pass *w, enum kv_type t, int base, int first, int end)
{
    for (int page = first; page < end; page++)
        attn_score_page(w, t, base, page);
}

INLINE void attn_value_block(const struct attn_pass *w, enum kv_type t, int base, int first, int end)
{
    for (int page = first; page < end; page++)
        attn_value_page(w, t, base, page);
}

#endif
