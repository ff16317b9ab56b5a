/* lora.c - see lora.h.
 *
 * One call of lora_add() is four loops on the pool: copy the rows together, all
 * products with A, all products with B, add. A of site s leaves its rows in section
 * s of `mid`; B of site s writes its columns behind those of the sites before it.
 */
#include "model/lora.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/cpu.h"
#include "model/forward.h"
#include "model/lora_file.h"

/* The roles that adapters can change (lora_file.c refuses the others), and which of
 * them are sites of one call. */
static const struct {
    enum weight_role role;
    int call;
} roles[] = {
    {W_QKV, 0},  {W_Q, 0},       {W_K, 0},    {W_V, 0},          {W_Q_A, 0},      {W_KV_A, 0},
    {W_O, 1},    {W_Q_B_PROJ, 2}, {W_GATE, 3}, {W_UP, 3},         {W_GATE_UP, 3},  {W_DOWN, 4},
    {W_GATE_SHEXP, 5},           {W_UP_SHEXP, 5},                 {W_DOWN_SHEXP, 6},
};
enum { N_ROLES = sizeof roles / sizeof roles[0], N_CALLS = 7 };

struct matrix {
    const struct lora_file *file;
    const struct lora_part *part; /* NULL: the adapter leaves it alone */
    struct packed a, b;
};

/* The gathered rows [row0, row0 + n) of one adapter. */
struct group {
    int adapter, row0, n;
};

struct lora {
    int first, last, n_adapters, rank;
    int max_in, max_out; /* over calls */
    struct matrix *at;   /* [n_adapters][last - first][N_ROLES] */
    int n_matrices;
    char *block;
    uint64_t bytes;
    /* a step */
    struct group *groups; /* [n_adapters] */
    int *row;             /* [max_rows]: gathered row -> row */
    int n_groups, n_rows, max_rows;
    form_mask forms;
    struct acts in, mid; /* mid: [LORA_MAX_SITES][max_rows], rank elements each */
    float *out;          /* [max_rows][max_out] */
    struct product *products; /* [n_adapters * LORA_MAX_SITES] */
};

static struct matrix *matrix_at(const struct lora *l, int adapter, int layer, int role)
{
    return &l->at[(adapter * (l->last - l->first) + layer - l->first) * N_ROLES + role];
}

/* Columns of a role's matrix; 0: no adapter changes it in this layer. */
static int site_width(const struct lora *l, int layer, int role)
{
    int n = 0;
    for (int i = 0; i < l->n_adapters; i++)
        n = matrix_at(l, i, layer, role)->b.n > n ? matrix_at(l, i, layer, role)->b.n : n;
    return n;
}

/* ---- weights ------------------------------------------------------------------------- */

static uint64_t packed_bytes(const struct packed *p)
{
    return (uint64_t)pack_groups(p->n) * p->group_bytes;
}

static struct packed packed_shape(int n, int k)
{
    return (struct packed){.fmt = FMT_F32, .n = n, .k = k, .group_bytes = pack_group_bytes(FMT_F32, k)};
}

/* The matrices of one layer of one adapter. */
static void shape_layer(struct lora *l, const struct lora_file *file, int adapter, int layer)
{
    for (int r = 0; r < N_ROLES; r++) {
        struct matrix *m = matrix_at(l, adapter, layer, r);
        const struct lora_part *p = lora_file_part(file, roles[r].role, layer);
        if (!p)
            continue;
        *m = (struct matrix){file, p, packed_shape(l->rank, p->in), packed_shape(p->out, l->rank)};
        l->bytes += packed_bytes(&m->a) + packed_bytes(&m->b);
        l->max_in = p->in > l->max_in ? p->in : l->max_in;
    }
}

/* Columns that the widest call of a layer writes: each adapter may change other
 * matrices of it, and there must be room for all of them. */
static int layer_width(const struct lora *l, int layer)
{
    int wide[N_CALLS] = {0}, most = 0;
    for (int r = 0; r < N_ROLES; r++)
        wide[roles[r].call] += site_width(l, layer, r);
    for (int c = 0; c < N_CALLS; c++)
        most = wide[c] > most ? wide[c] : most;
    return most;
}

err lora_open(const struct source *src, int first, int last, struct lora **out, struct why *why)
{
    int n = source_n_adapters(src);
    *out = NULL;
    if (n == 0)
        return ERR_OK;
    struct lora *l = calloc(1, sizeof *l);
    if (!l)
        return why_set(why, ERR_NOMEM, "adapters");
    *l = (struct lora){.first = first, .last = last, .n_adapters = n, .n_matrices = n * (last - first) * N_ROLES};
    l->at = calloc((size_t)l->n_matrices + 1, sizeof *l->at);
    if (!l->at) {
        free(l);
        return why_set(why, ERR_NOMEM, "a table of %d adapters", n);
    }
    for (int i = 0; i < n; i++)
        if (lora_file_max_rank(source_adapter(src, i)) > l->rank)
            l->rank = lora_file_max_rank(source_adapter(src, i));
    for (int i = 0; i < n; i++)
        for (int layer = first; layer < last; layer++)
            shape_layer(l, source_adapter(src, i), i, layer);
    for (int layer = first; layer < last; layer++)
        if (layer_width(l, layer) > l->max_out)
            l->max_out = layer_width(l, layer);
    *out = l;
    return ERR_OK;
}

struct fill {
    struct lora *l;
    float *scratch; /* [threads][scratch_each]: PACK_ROWS rows */
    size_t scratch_each;
};

/* Group g of A or B; rows and columns past the adapter's own rank are zeros. */
static void fill_group(const struct matrix *m, bool b, int g, float *rows)
{
    const struct packed *to = b ? &m->b : &m->a;
    int have = b ? m->part->out : m->part->rank, n = to->n - g * PACK_ROWS;
    n = n < PACK_ROWS ? n : PACK_ROWS;
    memset(rows, 0, sizeof *rows * PACK_ROWS * (size_t)to->k);
    for (int i = 0; i < n && g * PACK_ROWS + i < have; i++) {
        float *row = rows + (size_t)i * (size_t)to->k;
        if (b)
            lora_part_b_row(m->file, m->part, g * PACK_ROWS + i, row);
        else
            lora_part_a_row(m->part, g * PACK_ROWS + i, row);
    }
    pack_rows(FMT_F32, (char *)(uintptr_t)to->data + (size_t)g * to->group_bytes, rows,
              (size_t)to->k * sizeof *rows, n, to->k, 0, 1);
}

static void fill_task(void *ctx, int first, int last, int worker)
{
    const struct fill *f = ctx;
    float *rows = f->scratch + (size_t)worker * f->scratch_each;
    for (int i = first; i < last; i++)
        for (int b = 0; b < 2 && f->l->at[i].part; b++)
            for (int g = 0; g < pack_groups(b ? f->l->at[i].b.n : f->l->at[i].a.n); g++)
                fill_group(&f->l->at[i], b, g, rows);
}

err lora_load(struct lora *l, struct pool *pool, struct why *why)
{
    err e;
    struct fill f = {.l = l};
    uint64_t have = cpu_available_bytes(), at = 0;

    if (!l)
        return ERR_OK;
    f.scratch_each = (size_t)PACK_ROWS * (size_t)((l->max_in > l->rank ? l->max_in : l->rank) + 16);
    f.scratch = mem_alloc(f.scratch_each * (size_t)pool_threads(pool), sizeof(float));
    if (l->bytes > have || !f.scratch || !(l->block = mem_alloc_raw(l->bytes + 64, 1)))
        FAIL(ERR_NOMEM, "the adapters of layers %d to %d need %.1f MiB and %.1f MiB are free", l->first, l->last,
             (double)l->bytes / 0x1p20, (double)have / 0x1p20);
    for (int i = 0; i < l->n_matrices; i++) {
        struct matrix *m = &l->at[i];
        m->a.data = l->block + at;
        at += packed_bytes(&m->a);
        m->b.data = l->block + at;
        at += packed_bytes(&m->b);
    }
    assert(at == l->bytes);
    pool_run(pool, l->n_matrices, 1, fill_task, &f);
    e = ERR_OK;
out:
    free(f.scratch);
    return e;
}

void lora_close(struct lora *l)
{
    if (!l)
        return;
    free(l->block);
    free(l->at);
    free(l);
}

uint64_t lora_bytes(const struct lora *l)
{
    return l ? l->bytes : 0;
}

/* ---- buffers -------------------------------------------------------------------------- */

void lora_needs(const struct lora *l, const struct kernels *k, int *products, size_t *scratch)
{
    for (int i = 0; i < l->n_matrices; i++) {
        matmul_scratch(k, &(struct weight){.w = l->at[i].a}, scratch);
        matmul_scratch(k, &(struct weight){.w = l->at[i].b}, scratch);
    }
    if (l->n_adapters * LORA_MAX_SITES > *products)
        *products = l->n_adapters * LORA_MAX_SITES;
}

void lora_carve(struct lora *l, struct carve *c, const struct kernels *k, int max_rows)
{
    struct weight any = {.w = packed_shape(1, 1)};
    l->max_rows = max_rows;
    l->forms = matmul_forms(k, &any, ROLE_GEN);
    l->groups = carve_take(c, (size_t)l->n_adapters, sizeof *l->groups);
    l->row = carve_take(c, (size_t)max_rows, sizeof *l->row);
    l->out = carve_take(c, (size_t)max_rows * (size_t)l->max_out, sizeof *l->out);
    l->products = carve_take(c, (size_t)l->n_adapters * LORA_MAX_SITES, sizeof *l->products);
    acts_carve(&l->in, c, max_rows, l->max_in, l->forms);
    acts_carve(&l->mid, c, max_rows * LORA_MAX_SITES, l->rank, l->forms | 1u << ACT_F32);
}

/* ---- a step ----------------------------------------------------------------------------- */

static int adapter_of(const struct forward *f, int row)
{
    return f->b->rows[row].flags & ROW_DEAD ? -1 : (int)f->b->seqs[f->b->rows[row].seq].adapter - 1;
}

void lora_begin(struct forward *f)
{
    struct lora *l = f->lora;
    l->n_rows = l->n_groups = 0;
    for (int a = 0; a < l->n_adapters; a++) {
        struct group g = {.adapter = a, .row0 = l->n_rows};
        for (int i = 0; i < f->b->n_rows; i++)
            if (adapter_of(f, i) == a)
                l->row[l->n_rows++] = i;
        g.n = l->n_rows - g.row0;
        if (g.n > 0)
            l->groups[l->n_groups++] = g;
    }
}

/* One call: the sites that some adapter of the batch changes. */
struct call {
    struct forward *f;
    const struct acts *in;
    int layer, n;
    struct {
        int role, col; /* index into roles; first column in out */
        const struct lora_site *site;
    } at[LORA_MAX_SITES];
};

static void gather_task(void *ctx, int first, int last, int worker)
{
    const struct call *t = ctx;
    struct lora *l = t->f->lora;
    (void)worker;
    for (int i = first; i < last; i++)
        matmul_prepare(&t->f->mm, &l->in, i, l->forms, acts_row(t->in, l->row[i]));
}

static void prepare_task(void *ctx, int first, int last, int worker)
{
    const struct call *t = ctx;
    struct lora *l = t->f->lora;
    (void)worker;
    for (int i = first; i < last; i++)
        for (int s = 0; s < t->n; s++)
            matmul_prepare(&t->f->mm, &l->mid, s * l->max_rows + i, l->forms,
                           acts_row(&l->mid, s * l->max_rows + i));
}

/* All products with A (b false) or with B. */
static void multiply(const struct call *t, bool b)
{
    struct lora *l = t->f->lora;
    struct rows rows = {.n = l->n_rows, .n_gen = l->n_rows};
    int n = 0;
    for (int s = 0; s < t->n; s++)
        for (int i = 0; i < l->n_groups; i++) {
            const struct group *g = &l->groups[i];
            const struct matrix *m = matrix_at(l, g->adapter, t->layer, t->at[s].role);
            int section = s * l->max_rows + g->row0;
            if (!m->part)
                continue;
            struct product p = {.w = b ? m->b : m->a, .n_gen = g->n};
            p.row0 = b ? section : g->row0;
            p.y = b ? l->out + (size_t)g->row0 * (size_t)l->max_out + t->at[s].col : acts_row(&l->mid, section);
            p.ldy = b ? (size_t)l->max_out : l->mid.stride[ACT_F32] / sizeof(float);
            l->products[n++] = p;
        }
    if (n > 0)
        matmul_run(&t->f->mm, &rows, b ? &l->mid : &l->in, l->products, n);
}

static void add_task(void *ctx, int first, int last, int worker)
{
    const struct call *t = ctx;
    const struct lora *l = t->f->lora;
    (void)worker;
    for (int i = first; i < last; i++)
        for (int s = 0; s < t->n; s++) {
            const struct lora_site *site = t->at[s].site;
            const struct matrix *m = matrix_at(l, adapter_of(t->f, l->row[i]), t->layer, t->at[s].role);
            if (m->part)
                t->f->k->axpy(site->y + (size_t)l->row[i] * site->ldy,
                              l->out + (size_t)i * (size_t)l->max_out + t->at[s].col, m->part->scale, m->part->out);
        }
}

static int role_index(enum weight_role role)
{
    int i = 0;
    while (roles[i].role != role)
        i++;
    return i;
}

void lora_add(struct forward *f, int layer, const struct acts *in, const struct lora_site *sites, int n)
{
    struct lora *l = f->lora;
    struct call t = {.f = f, .in = in, .layer = layer};
    int col = 0;

    if (!l || l->n_rows == 0)
        return;
    assert(n <= LORA_MAX_SITES);
    for (int s = 0; s < n; s++) {
        int role = role_index(sites[s].role), width = site_width(l, layer, role);
        if (width == 0)
            continue;
        t.at[t.n].role = role;
        t.at[t.n].col = col;
        t.at[t.n++].site = &sites[s];
        col += width;
    }
    if (t.n == 0)
        return;
    acts_begin(&l->in, in->k);
    acts_begin(&l->mid, l->rank);
    rows_run(f->pool, l->n_rows, in->k, gather_task, &t);
    multiply(&t, false);
    if (l->forms != 1u << ACT_F32)
        rows_run(f->pool, l->n_rows, (int64_t)l->rank * t.n, prepare_task, &t);
    multiply(&t, true);
    rows_run(f->pool, l->n_rows, col, add_task, &t);
}
