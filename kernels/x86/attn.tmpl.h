/* attn.tmpl.h - attention over KV pages, for the query heads that share one KV head.
 *
 * This file walks: passes over rows, spans and blocks of positions, the softmax, the sum
 * of the spans. The arithmetic comes from the file that includes this one, which defines
 *
 *   attn_form(t, a, row)       makes row->form of row->q
 *   attn_score_block           raw scores of the block's pages [first, end) into row->p
 *   attn_keep_weights          stores a vector of weights; returns what they were rounded to
 *   attn_value_block           part = part * keep + sum of p v over these pages
 *
 * the blocks either with tiles of its own (attn_bf16_amx.c) or through attn_rows.tmpl.h.
 * Sums run along columns and positions in lanes of their own, in order, so a row's bits
 * depend on its own query and position, and on nothing else.
 */
#ifndef CORDEE_KERNELS_X86_ATTN_TMPL_H
#define CORDEE_KERNELS_X86_ATTN_TMPL_H

/* V_LANES raw scores of the block that starts at base, from lane `at` on, scaled and
 * capped; -inf where the row sees nothing. */
INLINE vf attn_finish_scores(const struct attn *a, const struct attn_row *row, vf s, int base, int at)
{
    vf j = v_add(v_iota(), v_set((float)at)), hidden = v_set(-INFINITY);
    s = v_mul(s, v_set(a->scale));
    if (a->softcap > 0)
        s = v_mul(v_set(a->softcap), v_tanh(v_div(s, v_set(a->softcap))));
    if (a->slopes)
        s = v_add(s, v_mul(v_set(a->slopes[row->head]), v_add(j, v_set((float)(base - row->pos)))));
    if (row->from > at)
        s = v_if_less(j, v_set((float)row->from), hidden, s);
    return row->to < at + V_LANES ? v_if_less(j, v_set((float)row->to), s, hidden) : s;
}

/* e^x with the bits that the weights have. */
INLINE float attn_exp(float x)
{
    return v_reduce_max(v_exp(v_set(x)));
}

/* One step of the row's running softmax: scores of the block become weights. */
INLINE void attn_soften(enum kv_type t, const struct attn *a, struct attn_row *row, int base)
{
    int first = row->from / V_LANES, end = (row->to + V_LANES - 1) / V_LANES;
    vf most = v_set(row->max), sum = v_zero();
    if (row->from >= row->to)
        return;
    for (int g = first; g < end; g++) {
        vf s = attn_finish_scores(a, row, v_loadf(row->p + g * V_LANES), base, g * V_LANES);
        v_storef(row->p + g * V_LANES, s);
        most = v_max(most, s);
    }
    float max = v_reduce_max(most);
    for (int g = first; g < end; g++)
        sum = v_add(sum, attn_keep_weights(t, a, row, g, v_exp(v_sub(v_loadf(row->p + g * V_LANES), v_set(max)))));
    row->keep = row->max == max ? 1 : attn_exp(row->max - max);
    row->max = max;
    row->sum = row->sum * row->keep + v_reduce_add(sum);
}

/* The block at base, of which the span has [lo, hi). */
INLINE void attn_block(const struct attn_pass *w, enum kv_type t, int base, int lo, int hi)
{
    int first = (lo > base ? lo - base : 0) / KV_PAGE;
    int end = ((hi < base + ATTN_BLOCK ? hi - base : ATTN_BLOCK) + KV_PAGE - 1) / KV_PAGE;
    for (int r = 0; r < w->n_rows; r++) {
        struct attn_row *row = w->row + r;
        int from, to;
        attn_span(w->a, row->pos, &from, &to);
        row->from = from > base ? from - base : 0;
        row->to = to < base + ATTN_BLOCK ? to - base : ATTN_BLOCK;
    }
    attn_score_block(w, t, base, first, end);
    for (int r = 0; r < w->n_rows; r++)
        attn_soften(t, w->a, w->row + r, base);
    attn_value_block(w, t, base, first, end);
}

/* total += a part that starts at `part`. Parts must come in ascending order of spans. */
INLINE void attn_add_part(float *total_max, float *total_sum, float *out, const float *part, int dv)
{
    float max = part[0], sum = part[1], keep, times;
    if (sum == 0) /* it sees nothing of this span */
        return;
    if (*total_max > max) {
        keep = 1;
        times = attn_exp(max - *total_max);
    } else {
        keep = *total_max == max ? 1 : attn_exp(*total_max - max);
        times = 1;
        *total_max = max;
    }
    *total_sum = *total_sum * keep + sum * times;
    for (int c = 0; c < dv; c += V_LANES) {
        int n = dv - c < V_LANES ? dv - c : V_LANES;
        vf old = v_mul(v_loadf_n(out + c, n), v_set(keep));
        v_storef_n(out + c, v_fma(v_loadf(part + ATTN_PART_VALUES + c), v_set(times), old), n);
    }
}

INLINE void attn_begin_total(const struct attn *a, int head, float *max, float *sum, float *out)
{
    *max = a->sinks ? a->sinks[head] : -INFINITY;
    *sum = a->sinks ? 1 : 0;
    memset(out, 0, (size_t)a->dv * sizeof *out);
}

INLINE void attn_end_total(float sum, float *out, int dv)
{
    vf inverse = v_set(sum > 0 ? 1 / sum : sum == sum ? 0 : sum);
    for (int c = 0; c < dv; c += V_LANES) {
        int n = dv - c < V_LANES ? dv - c : V_LANES;
        v_storef_n(out + c, v_mul(v_loadf_n(out + c, n), inverse), n);
    }
}

/* One span, left in the rows' parts. */
INLINE void attn_one_span(const struct attn_pass *w, enum kv_type t, int span)
{
    int lo = span * ATTN_SPAN > w->first ? span * ATTN_SPAN : w->first;
    int hi = (span + 1) * ATTN_SPAN < w->end ? (span + 1) * ATTN_SPAN : w->end;
    for (int r = 0; r < w->n_rows; r++) {
        w->row[r].max = -INFINITY;
        w->row[r].sum = 0;
        memset(w->row[r].part, 0, attn_part_floats(w->a->dv) * sizeof(float));
    }
    for (int base = lo / ATTN_BLOCK * ATTN_BLOCK; base < hi; base += ATTN_BLOCK)
        attn_block(w, t, base, lo, hi);
    for (int r = 0; r < w->n_rows; r++) {
        w->row[r].part[0] = w->row[r].max;
        w->row[r].part[1] = w->row[r].sum;
    }
}

/* Lays the pass's rows out in scratch: rows [r0, r0 + n_rows) of [n_q][n_group]. */
INLINE void attn_open_rows(struct attn_pass *w, enum kv_type t, int r0, char *scratch)
{
    const struct attn *a = w->a;
    size_t form = act_row_bytes(ACT_BF16, a->dk), part = attn_part_floats(a->dv);
    size_t room = attn_row_room((size_t)w->n_rows);
    w->page = scratch;
    w->row = (struct attn_row *)(void *)(scratch + attn_page_bytes(a->dk, a->dv));
    char *forms = (char *)(w->row + room);
    float *parts = (float *)(void *)(forms + room * form);
    for (int r = 0; r < w->n_rows; r++) {
        struct attn_row *row = w->row + r;
        int i = (r0 + r) / a->n_group, head = (r0 + r) % a->n_group;
        row->pos = a->pos0 + i;
        row->head = head;
        row->q = a->q + (size_t)i * a->ldq + (size_t)head * (size_t)a->dk;
        row->out = a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv;
        row->form = forms + (size_t)r * form;
        row->part = parts + (size_t)r * part;
        attn_form(t, a, row);
        if (!a->part)
            attn_begin_total(a, head, &row->total_max, &row->total_sum, row->out);
    }
}

INLINE void attn_one_pass(const struct attn *a, enum kv_type t, int r0, int n_rows, char *scratch)
{
    struct attn_pass w = {.a = a, .n_rows = n_rows};
    int ignored, n_all = a->n_q * a->n_group;
    size_t part = attn_part_floats(a->dv);
    attn_open_rows(&w, t, r0, scratch);
    attn_span(a, w.row[0].pos, &w.first, &ignored);
    attn_span(a, w.row[n_rows - 1].pos, &ignored, &w.end);
    int span = a->part ? a->span0 : w.first / ATTN_SPAN;
    int end = a->part ? a->span1 : (w.end - 1) / ATTN_SPAN + 1;
    for (; span < end; span++) {
        if (a->part)
            for (int r = 0; r < n_rows; r++)
                w.row[r].part = a->part + ((size_t)(span - a->span0) * (size_t)n_all + (size_t)(r0 + r)) * part;
        attn_one_span(&w, t, span);
        if (!a->part)
            for (int r = 0; r < n_rows; r++)
                attn_add_part(&w.row[r].total_max, &w.row[r].total_sum, w.row[r].out, w.row[r].part, a->dv);
    }
    if (!a->part)
        for (int r = 0; r < n_rows; r++)
            attn_end_total(w.row[r].total_sum, w.row[r].out, a->dv);
}

INLINE void attend(const struct attn *a, enum kv_type t, void *scratch)
{
    int n_all = a->n_q * a->n_group;
    for (int r = 0; r < n_all; r += ATTN_ROWS)
        attn_one_pass(a, t, r, n_all - r < ATTN_ROWS ? n_all - r : ATTN_ROWS, scratch);
}

#define ATTN(function, type)                              \
    void function(const struct attn *a, void *scratch)    \
    {                                                     \
        attend(a, type, scratch);                         \
    }

#define ATTN_MERGE(function)                                                                            \
    void function(const struct attn *a)                                                                 \
    {                                                                                                   \
        size_t rows = (size_t)a->n_q * (size_t)a->n_group, floats = attn_part_floats(a->dv);            \
        for (size_t r = 0; r < rows; r++) {                                                             \
            size_t i = r / (size_t)a->n_group, head = r % (size_t)a->n_group;                           \
            float max, sum, *out = a->out + i * a->ldo + head * (size_t)a->dv;                          \
            attn_begin_total(a, (int)head, &max, &sum, out);                                            \
            for (int span = a->span0; span < a->span1; span++)                                          \
                attn_add_part(&max, &sum, out, a->part + ((size_t)(span - a->span0) * rows + r) * floats, a->dv); \
            attn_end_total(sum, out, a->dv);                                                            \
        }                                                                                               \
    }

#endif
