/* matmul.c - cutting products into chunks, and calling the right kernel on each.
 *
 * An item is a group of one product's weights for all of its rows, and the groups of
 * all products are one row of items, so three small products cost one loop. A chunk is
 * a run of groups: long while much is left, since memory is read fastest in long runs,
 * short at the end. Kernels promise that [g0, g1) does not change bits.
 *
 * Kernels of a fixed panel shape (struct mul.panel_rows) get their prompt rows in
 * zero-padded panels in which a row stands at position % panel_rows, whatever
 * chunk of the prompt it came in; rows of one sequence and panel go together.
 */
#include "model/matmul.h"

#include <assert.h>
#include <string.h>

enum {
    LEAST_BYTES = 16384,   /* of weights times rows in a chunk: about 1 us, ten times a claim */
    INLINE_FLOATS = 12288, /* about 2 us of element-wise work: less than waking a thread costs */
};

void acts_carve(struct acts *a, struct carve *c, int max_rows, int max_k, form_mask forms)
{
    *a = (struct acts){.k = max_k};
    for (int f = 0; f < ACT_COUNT; f++)
        if (forms & 1u << f)
            a->form[f] = carve_take(c, (size_t)max_rows, act_row_bytes((enum act)f, max_k));
    acts_begin(a, max_k);
}

void acts_begin(struct acts *a, int k)
{
    a->k = k;
    for (int f = 0; f < ACT_COUNT; f++)
        a->stride[f] = act_row_bytes((enum act)f, k);
}

form_mask matmul_forms(const struct kernels *k, const struct weight *w, enum role role)
{
    return w->w.k > 0 ? 1u << k->mul[w->w.fmt][role].act : 0;
}

static size_t up64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* Scratch of one call: the kernel's own, then, for panels, the padded input rows
 * and the padded output rows of a chunk. */
static size_t call_scratch(const struct mul *mul, int k, int g_chunk)
{
    size_t bytes = up64(mul->scratch_bytes);
    if (mul->panel_rows > 0)
        bytes += (size_t)mul->panel_rows *
                 (act_row_bytes(mul->act, k) + up64(sizeof(float) * PACK_ROWS * (size_t)g_chunk));
    return bytes;
}

void matmul_scratch(const struct kernels *k, const struct weight *w, size_t *bytes)
{
    if (w->w.k == 0)
        return;
    const struct mul *mul = k->mul[w->w.fmt];
    int chunk =
        mul[ROLE_GEN].g_chunk > mul[ROLE_PROMPT].g_chunk ? mul[ROLE_GEN].g_chunk : mul[ROLE_PROMPT].g_chunk;
    for (int r = 0; r < ROLE_COUNT; r++)
        if (call_scratch(&mul[r], w->w.k, chunk) > *bytes)
            *bytes = call_scratch(&mul[r], w->w.k, chunk);
}

float *matmul_row(const struct matmul *mm, const struct acts *a, int i, form_mask forms, int worker)
{
    assert((size_t)a->k * sizeof(float) <= mm->scratch_bytes);
    return forms & 1u << ACT_F32 ? acts_row(a, i)
                                 : (float *)(mm->scratch + (size_t)worker * mm->scratch_bytes);
}

void matmul_prepare(const struct matmul *mm, struct acts *a, int i, form_mask forms, const float *x)
{
    for (int f = 0; f < ACT_COUNT; f++)
        if ((forms & 1u << f) && (f != ACT_F32 || acts_row(a, i) != x))
            mm->k->prepare[f](a->form[f] + (size_t)i * a->stride[f], x, (size_t)a->k, 1, a->k);
}

struct run {
    const struct matmul *mm;
    const struct rows *rows;
    const struct acts *in;
    const struct product *p;
    int n_products;
};

/* Rows of one panel: same sequence, same position / panel_rows. Returns how many
 * of the n rows from `first` on belong together. */
static int panel_take(const struct row_place *place, int first, int n, int panel)
{
    int i = first + 1;
    while (i < first + n && place[i].seq == place[first].seq &&
           place[i].pos / panel == place[first].pos / panel && place[i].pos > place[i - 1].pos)
        i++;
    return i - first;
}

static void mul_panels(const struct run *r, const struct product *p, const struct mul *mul, int row, int n,
                       int g0, int g1, char *scratch)
{
    size_t in_bytes = act_row_bytes(mul->act, p->w.k);
    char *a = scratch + up64(mul->scratch_bytes);
    float *y = (float *)(a + (size_t)mul->panel_rows * in_bytes);
    struct packed w = packed_slice(&p->w, g0, g1);
    size_t ldy = (size_t)(g1 - g0) * PACK_ROWS;

    for (int i = row, take; i < row + n; i += take) {
        take = panel_take(r->rows->place, i, row + n - i, mul->panel_rows);
        memset(a, 0, (size_t)mul->panel_rows * in_bytes);
        for (int j = i; j < i + take; j++)
            memcpy(a + (size_t)(r->rows->place[j].pos % mul->panel_rows) * in_bytes,
                   r->in->form[mul->act] + (size_t)j * r->in->stride[mul->act], in_bytes);
        mul->fn(y, ldy, &w, a, mul->panel_rows, 0, g1 - g0, scratch);
        for (int j = i; j < i + take; j++)
            memcpy(p->y + (size_t)(j - p->row0) * p->ldy + (size_t)g0 * PACK_ROWS,
                   y + (size_t)(r->rows->place[j].pos % mul->panel_rows) * ldy, sizeof(float) * (size_t)w.n);
    }
}

static void mul_rows(const struct run *r, const struct product *p, enum role role, int row, int n, int g0,
                     int g1, char *scratch)
{
    const struct mul *mul = &r->mm->k->mul[p->w.fmt][role];
    if (n == 0)
        return;
    if (mul->panel_rows > 0) {
        mul_panels(r, p, mul, row, n, g0, g1, scratch);
        return;
    }
    for (int i = row; i < row + n; i += mul->m_best) {
        int m = row + n - i < mul->m_best ? row + n - i : mul->m_best;
        mul->fn(p->y + (size_t)(i - p->row0) * p->ldy, p->ldy, &p->w,
                r->in->form[mul->act] + (size_t)i * r->in->stride[mul->act], m, g0, g1, scratch);
    }
}

static void add_bias(const struct product *p, int g0, int g1)
{
    int from = g0 * PACK_ROWS, to = p->w.n < g1 * PACK_ROWS ? p->w.n : g1 * PACK_ROWS;
    for (int i = 0; i < p->n_gen + p->n_prompt; i++) {
        float *y = p->y + (size_t)i * p->ldy;
        for (int c = from; c < to; c++)
            y[c] += p->bias[c];
    }
}

/* Groups [g0, g1) of a product, all its rows. */
static void run_groups(const struct run *r, const struct product *p, int g0, int g1, char *scratch)
{
    mul_rows(r, p, ROLE_GEN, p->row0, p->n_gen, g0, g1, scratch);
    mul_rows(r, p, ROLE_PROMPT, p->row0 + p->n_gen, p->n_prompt, g0, g1, scratch);
    if (p->bias)
        add_bias(p, g0, g1);
}

/* The product that item `at` is a group of. */
static int product_at(const struct run *r, int at)
{
    const int *starts = r->mm->starts;
    int lo = 0, hi = r->n_products - 1;
    while (lo < hi) { /* the last product that starts at or before it */
        int mid = (lo + hi + 1) / 2;
        if (starts[mid] <= at)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

static void run_task(void *ctx, int first, int last, int worker)
{
    const struct run *r = ctx;
    const int *starts = r->mm->starts;
    char *scratch = r->mm->scratch + (size_t)worker * r->mm->scratch_bytes;
    for (int i = product_at(r, first); first < last; i++) {
        int end = starts[i + 1] < last ? starts[i + 1] : last;
        run_groups(r, &r->p[i], first - starts[i], end - starts[i], scratch);
        first = end;
    }
}

/* Groups that a chunk may have at most. Prompt rows reuse a chunk's expanded weights
 * from the cache, so their kernels say how many fit; generated rows only stream. */
static int most_groups(const struct matmul *mm, const struct product *p, int n)
{
    int most = 1 << 20;
    for (int i = 0; i < n; i++) {
        const struct mul *mul = mm->k->mul[p[i].w.fmt];
        if (p[i].n_prompt > 0 && mul[ROLE_PROMPT].g_chunk < most)
            most = mul[ROLE_PROMPT].g_chunk;
        bool again = p[i].n_gen > mul[ROLE_GEN].m_best; /* several passes: from the cache, then */
        if ((again || mul[ROLE_GEN].panel_rows > 0) && mul[ROLE_GEN].g_chunk < most)
            most = mul[ROLE_GEN].g_chunk; /* panels: what the scratch is made for */
    }
    return most > 1 ? most : 1;
}

/* Groups below which a chunk is not worth a claim. */
static int least_groups(const struct product *p, int n)
{
    size_t bytes = 1;
    for (int i = 0; i < n; i++) {
        size_t group = p[i].w.group_bytes * (size_t)(p[i].n_gen + p[i].n_prompt);
        bytes = group > bytes ? group : bytes;
    }
    return bytes < LEAST_BYTES ? (int)(LEAST_BYTES / bytes) : 1;
}

void matmul_run(struct matmul *mm, const struct rows *rows, const struct acts *in, const struct product *p,
                int n_products)
{
    struct run r = {.mm = mm, .rows = rows, .in = in, .p = p, .n_products = n_products};
    assert(n_products <= mm->max_products);
    int most = most_groups(mm, p, n_products), least = least_groups(p, n_products);
    mm->starts[0] = 0;
    for (int i = 0; i < n_products; i++) {
        assert(p[i].w.k == in->k);
        mm->starts[i + 1] = mm->starts[i] + pack_groups(p[i].w.n);
    }
    pool_run_shrinking(mm->pool, mm->starts[n_products], least < most ? least : most, most, run_task, &r);
}

void matmul_on(const struct matmul *mm, const struct rows *rows, const struct acts *in,
               const struct product *p, int worker)
{
    struct run r = {.mm = mm, .rows = rows, .in = in, .p = p, .n_products = 1};
    int groups = pack_groups(p->w.n), most = most_groups(mm, p, 1);
    for (int g = 0; g < groups; g += most)
        run_groups(&r, p, g, groups - g > most ? g + most : groups,
                   mm->scratch + (size_t)worker * mm->scratch_bytes);
}

void rows_run(struct pool *pool, int n, int64_t floats_per_row, pool_fn *fn, void *ctx)
{
    if (n <= 0)
        return;
    if (n == 1 || n * floats_per_row <= INLINE_FLOATS) {
        fn(ctx, 0, n, 0);
        return;
    }
    int64_t chunk = INLINE_FLOATS / 2 / (floats_per_row > 0 ? floats_per_row : 1);
    pool_run(pool, n, chunk > 1 ? (int)chunk : 1, fn, ctx);
}
