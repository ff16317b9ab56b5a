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
 * A block's pages of keys, then its pages of values: each page is contiguous and read from
 * its start to its end, and while that is done the next ones are asked for (attn_ask): all by the
 * first tile, or one by each of two, since memory would rest while the second reads what is there.
 * A row that does not see a page skips it.
 */
#ifndef CORDEE_KERNELS_X86_ATTN_ROWS_TMPL_H
#define CORDEE_KERNELS_X86_ATTN_ROWS_TMPL_H

/* Which of `all` the tile that starts with row r of n asks for. */
INLINE struct attn_next attn_share(struct attn_next all, int r, int n)
{
    if (n > ATTN_TILE && n <= 2 * ATTN_TILE) /* slower: the second page and the fourth will do */
        return (struct attn_next){all.page + (r ? 3 : 1), 1};
    return (struct attn_next){all.page, r ? 0 : ATTN_ASK};
}

/* step(rows) for all rows, as many at a time as [count, most] allows. */
#define ATTN_HEIGHTS(count, step) \
    if (ATTN_TILE >= 4 && (count) >= 4) {  \
        step(4)                   \
    } else if ((count) >= 2) {    \
        step(2)                   \
    } else {                      \
        step(1)                   \
    }

/* What is read of the block at base: keys of the pages [first, end), then their values; then
 * the keys that follow, or, where nothing does, the last page again. */
INLINE void attn_list_pages(const struct attn_pass *w, int base, int first, int end, const char **order)
{
    const struct attn *a = w->a;
    int n = end - first;
    for (int i = 0; i < n; i++) {
        order[i] = attn_k(a, base + (first + i) * KV_PAGE);
        order[n + i] = a->latent ? order[i] : attn_v(a, base + (first + i) * KV_PAGE);
    }
    for (int i = 0; i < ATTN_ASK; i++) {
        int j = base + ATTN_BLOCK + i * KV_PAGE;
        order[2 * n + i] = j < w->end ? attn_k(a, j) : order[2 * n + i - 1];
    }
}

/* order: the page's keys, and what is read after them. */
INLINE void attn_score_page(const struct attn_pass *w, enum kv_type t, const char *const *order, int page)
{
    const char *k = order[0];
    const struct attn_next all = {order + 1, ATTN_ASK}, none = {NULL, 0};
    bool expand = attn_expands(t, w->a, w->n_rows);
    if (expand)
        k = attn_expand_k(t, w->a, w->page, k, all);
    for (int r = 0; r < w->n_rows;) {
#define STEP(rows)                                                                              \
    if (expand)                                                                                 \
        attn_score_tile(attn_expanded(t), k, none, w->a->dk, w->row + r, rows, page * KV_PAGE); \
    else                                                                                        \
        attn_score_tile(t, k, attn_share(all, r, w->n_rows), w->a->dk, w->row + r, rows,        \
                        page * KV_PAGE);                                                        \
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

INLINE void attn_value_page(const struct attn_pass *w, enum kv_type t, const char *const *order, int page)
{
    const char *v = order[0];
    const struct attn_next all = {order + 1, ATTN_ASK}, none = {NULL, 0};
    bool expand = attn_expands(t, w->a, w->n_rows);
    if (expand)
        v = attn_expand_v(t, w->a, w->page, v, all);
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
#define STEP(rows)                                                                               \
    if (expand)                                                                                  \
        attn_value_tile(attn_expanded(t), v, none, w->a->dv, row, rows, page * KV_PAGE, j0, j1); \
    else                                                                                         \
        attn_value_tile(t, v, attn_share(all, r, w->n_rows), w->a->dv, row, rows,                \
                        page * KV_PAGE, j0, j1);                                                 \
    for (int i = 0; i < rows; i++)                                                               \
        row[i].keep = 1;                                                                         \
    r += rows;
        ATTN_HEIGHTS(alike, STEP)
#undef STEP
    }
}

INLINE void attn_score_block(const struct attn_pass *w, enum kv_type t, int base, int first, int end)
{
    const char *order[2 * (ATTN_BLOCK / KV_PAGE) + ATTN_ASK];
    attn_list_pages(w, base, first, end, order);
    for (int page = first; page < end; page++)
        attn_score_page(w, t, order + page - first, page);
}

INLINE void attn_value_block(const struct attn_pass *w, enum kv_type t, int base, int first, int end)
{
    const char *order[2 * (ATTN_BLOCK / KV_PAGE) + ATTN_ASK];
    attn_list_pages(w, base, first, end, order);
    for (int page = first; page < end; page++)
        attn_value_page(w, t, order + end - first + page - first, page);
}

#endif
