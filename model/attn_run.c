/* attn_run.c - see attn_run.h. */
#include "model/attn_run.h"

#include <string.h>

#include "kernels/attn.h"

enum {
    SHARES_PER_THREAD = 4,     /* a fair share is this fraction of a thread's work */
    MAX_PARTS_BYTES = 64 << 20 /* unless one row needs more */
};

static int ceil_div(int64_t a, int64_t b)
{
    return (int)((a + b - 1) / b);
}

void attn_run_carve(struct forward *f, struct carve *c, int threads)
{
    const struct kv *kv = f->kv;
    size_t spans = (size_t)ceil_div(f->max_context, ATTN_SPAN);
    size_t row = spans * (size_t)f->hp->n_head * attn_part_floats(kv->dv);
    /* Long rows that may need sharing at once: with more, heads alone give tasks enough. */
    size_t rows = (size_t)ceil_div(2 * (int64_t)threads, kv->n_heads);
    rows = rows < (size_t)f->max_rows ? rows : (size_t)f->max_rows;
    if (rows * row > MAX_PARTS_BYTES / sizeof(float))
        rows = MAX_PARTS_BYTES / sizeof(float) / row;
    f->runs = carve_take(c, (size_t)f->max_rows, sizeof *f->runs);
    f->n_part_floats = threads > 1 && spans > 1 ? row * (rows > 1 ? rows : 1) : 0;
    f->parts = carve_take(c, f->n_part_floats, sizeof(float));
}

void attn_runs_make(struct forward *f)
{
    const struct batch_row *rows = f->b->rows;
    f->n_runs = 0;
    for (int i = 0, n; i < f->b->n_rows; i += n) {
        enum role role = i < f->b->n_gen ? ROLE_GEN : ROLE_PROMPT;
        int end = role == ROLE_GEN ? f->b->n_gen : f->b->n_rows;
        n = 1;
        if (rows[i].flags & ROW_DEAD)
            continue;
        while (i + n < end && rows[i + n].seq == rows[i].seq && rows[i + n].pos == rows[i].pos + n &&
               (rows[i + n].pos % KV_PAGE != 0 || !f->hp->causal) && !(rows[i + n].flags & ROW_DEAD))
            n++;
        f->runs[f->n_runs++] = (struct attn_run){
            .row0 = i, .n = n, .pos0 = rows[i].pos, .pages = f->b->seqs[rows[i].seq].pages, .role = role};
    }
}

size_t attn_run_scratch(const struct forward *f)
{
    const struct kv *kv = f->kv;
    int rows = f->hp->causal ? KV_PAGE : f->max_rows;
    return attn_scratch_bytes(rows, f->hp->n_head / kv->n_heads, kv->dk, kv->dv);
}

struct attn_loop {
    struct forward *f;
    const struct attn_shape *s;
    int n_group;
};

/* The run's queries of the heads [from, to) that share KV head `head`. */
static struct attn attn_of(const struct attn_loop *t, const struct attn_run *run, int head, int from, int to)
{
    const struct forward *f = t->f;
    const struct attn_shape *s = t->s;
    const struct kv *kv = f->kv;
    int q_head = head * t->n_group + from;
    size_t at = kv_head_offset(kv, s->layer, head);
    return (struct attn){
        .q = s->q + (size_t)run->row0 * s->ldq + (size_t)q_head * (size_t)kv->dk,
        .ldq = s->ldq,
        .out = s->out + (size_t)run->row0 * s->ldo + (size_t)q_head * (size_t)kv->dv,
        .ldo = s->ldo,
        .n_q = run->n,
        .pos0 = run->pos0,
        .n_group = to - from,
        .dk = kv->dk,
        .dv = kv->dv,
        .base = kv->base,
        .page_bytes = kv->page_bytes,
        .k_offset = at,
        .v_offset = at + kv->v_in_head,
        .latent = kv->v_in_head == 0,
        .pages = run->pages,
        .scale = f->attn_scale,
        .softcap = f->hp->attn_softcap,
        .window = s->window,
        .chunk = s->chunk,
        .causal = f->hp->causal,
        .n_kv = run->pos0 + run->n,
        .slopes = f->slopes ? f->slopes + q_head : NULL,
        .sinks = s->sinks ? s->sinks + q_head : NULL,
        .span0 = run->span0,
        .span1 = run->span1,
    };
}

static size_t part_floats(const struct attn_loop *t, const struct attn_run *run)
{
    return (size_t)run->n * attn_part_floats(t->f->kv->dv);
}

/* Share number i of the heads of a group, with its place among the run's parts. */
static struct attn attn_of_share(const struct attn_loop *t, const struct attn_run *run, int head, int i)
{
    int from = i * t->n_group / run->head_shares, to = (i + 1) * t->n_group / run->head_shares;
    struct attn a = attn_of(t, run, head, from, to);
    if (run->parts)
        a.part = run->parts +
                 (size_t)(head * t->n_group + from) * (size_t)(run->span1 - run->span0) * part_floats(t, run);
    return a;
}

/* The run that item i belongs to; its first item is in *first. */
static const struct attn_run *run_of(const struct forward *f, int i, bool merge, int *first)
{
    int lo = 0, hi = f->n_runs - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if ((merge ? f->runs[mid].first_merge : f->runs[mid].first_task) <= i)
            lo = mid;
        else
            hi = mid - 1;
    }
    *first = merge ? f->runs[lo].first_merge : f->runs[lo].first_task;
    return &f->runs[lo];
}

static void attn_task(void *ctx, int first, int last, int worker)
{
    const struct attn_loop *t = ctx;
    struct forward *f = t->f;
    for (int i = first, start; i < last; i++) {
        const struct attn_run *run = run_of(f, i, false, &start);
        int share = (i - start) % run->span_shares, rest = (i - start) / run->span_shares;
        struct attn a = attn_of_share(t, run, rest / run->head_shares, rest % run->head_shares);
        if (a.part) {
            int spans = run->span1 - run->span0;
            a.span0 = run->span0 + share * spans / run->span_shares;
            a.span1 = run->span0 + (share + 1) * spans / run->span_shares;
            a.part += (size_t)(a.span0 - run->span0) * (size_t)a.n_group * part_floats(t, run);
        }
        f->k->attn[f->kv->type][run->role](&a, f->mm.scratch + (size_t)worker * f->mm.scratch_bytes);
    }
}

static void merge_task(void *ctx, int first, int last, int worker)
{
    const struct attn_loop *t = ctx;
    (void)worker;
    for (int i = first, start; i < last; i++) {
        const struct attn_run *run = run_of(t->f, i, true, &start);
        struct attn a =
            attn_of_share(t, run, (i - start) / run->head_shares, (i - start) % run->head_shares);
        t->f->k->attn_merge(&a);
    }
}

/* Positions that the run's rows see, each by how many of them at most. */
static int64_t run_cost(const struct attn_loop *t, struct attn_run *run)
{
    struct attn a = attn_of(t, run, 0, 0, t->n_group);
    int first, end, ignored;
    attn_span(&a, run->pos0, &first, &ignored);
    attn_span(&a, run->pos0 + run->n - 1, &ignored, &end);
    run->span0 = first / ATTN_SPAN;
    run->span1 = (end - 1) / ATTN_SPAN + 1;
    return (int64_t)(end - first) * run->n;
}

/* Cuts a run whose (run, KV head) is `want` fair shares of work. few: there are so few
 * tasks that heads may be cut for balance. */
static void share_run(const struct attn_loop *t, struct attn_run *run, int want, bool few, size_t *used)
{
    struct forward *f = t->f;
    int spans = run->span1 - run->span0;
    size_t floats = (size_t)f->hp->n_head * (size_t)spans * part_floats(t, run);
    int heads = few ? (want < t->n_group ? want : t->n_group) : 1;

    if (run->role == ROLE_GEN && spans > 1)
        heads = 1;
    want = ceil_div(want, heads);
    run->head_shares = heads;
    if (want > 1 && spans > 1 && *used + floats <= f->n_part_floats) {
        run->span_shares = want < spans ? want : spans;
        run->parts = f->parts + *used;
        *used += floats;
    }
}

/* Cuts all runs; returns the number of tasks, and of tasks that add spans up. */
static int share_out(const struct attn_loop *t, int threads, int *n_merges)
{
    struct forward *f = t->f;
    int64_t total = 0;
    int n = 0;
    size_t used = 0;
    *n_merges = 0;
    for (int i = 0; i < f->n_runs; i++)
        total += run_cost(t, &f->runs[i]) * f->kv->n_heads;
    int64_t fair = total / (SHARES_PER_THREAD * threads) + 1;
    bool few = f->n_runs * f->kv->n_heads < threads;
    for (int i = 0; i < f->n_runs; i++) {
        struct attn_run *run = &f->runs[i];
        run->head_shares = run->span_shares = 1;
        run->parts = NULL;
        if (threads > 1)
            share_run(t, run, ceil_div(run_cost(t, run), fair), few, &used);
        run->first_task = n;
        run->first_merge = *n_merges;
        n += f->kv->n_heads * run->head_shares * run->span_shares;
        *n_merges += run->parts ? f->kv->n_heads * run->head_shares : 0;
    }
    return n;
}

void attn_run(struct forward *f, const struct attn_shape *s)
{
    struct attn_loop t = {.f = f, .s = s, .n_group = s->n_head / f->kv->n_heads};
    int n_merges, n_tasks = share_out(&t, pool_threads(f->pool), &n_merges);

    for (int i = 0; i < f->b->n_rows; i++)
        if (f->b->rows[i].flags & ROW_DEAD)
            memset(s->out + (size_t)i * s->ldo, 0, sizeof(float) * (size_t)s->n_head * (size_t)f->kv->dv);
    pool_run(f->pool, n_tasks, 1, attn_task, &t);
    if (n_merges > 0)
        pool_run(f->pool, n_merges, 1, merge_task, &t);
}
