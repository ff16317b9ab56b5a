/* attn_run.c - see attn_run.h. */
#include "model/attn_run.h"

#include <string.h>

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
    int n_group, n_parts;
};

static void attn_task(void *ctx, int first, int last, int worker)
{
    const struct attn_loop *t = ctx;
    struct forward *f = t->f;
    const struct attn_shape *s = t->s;
    const struct kv *kv = f->kv;
    for (int i = first; i < last; i++) {
        int part = i % t->n_parts, head = i / t->n_parts % kv->n_heads;
        const struct attn_run *run = &f->runs[i / t->n_parts / kv->n_heads];
        int from = part * t->n_group / t->n_parts, to = (part + 1) * t->n_group / t->n_parts;
        int q_head = head * t->n_group + from;
        size_t at = kv_head_offset(kv, s->layer, head);
        struct attn a = {
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
            .k_stride = kv->k_stride,
            .v_stride = kv->v_stride,
            .pages = run->pages,
            .scale = f->attn_scale,
            .softcap = f->hp->attn_softcap,
            .window = s->window,
            .chunk = s->chunk,
            .causal = f->hp->causal,
            .n_kv = run->pos0 + run->n,
            .slopes = f->slopes ? f->slopes + q_head : NULL,
            .sinks = s->sinks ? s->sinks + q_head : NULL,
        };
        f->k->attn[kv->type][run->role](&a, f->mm.scratch + (size_t)worker * f->mm.scratch_bytes);
    }
}

void attn_run(struct forward *f, const struct attn_shape *s)
{
    struct attn_loop t = {.f = f, .s = s, .n_group = s->n_head / f->kv->n_heads, .n_parts = 1};
    int tasks = f->n_runs * f->kv->n_heads, threads = pool_threads(f->pool);

    if (tasks > 0 && tasks < threads) {
        t.n_parts = (threads + tasks - 1) / tasks;
        t.n_parts = t.n_parts < t.n_group ? t.n_parts : t.n_group;
    }
    for (int i = 0; i < f->b->n_rows; i++)
        if (f->b->rows[i].flags & ROW_DEAD)
            memset(s->out + (size_t)i * s->ldo, 0, sizeof(float) * (size_t)s->n_head * (size_t)f->kv->dv);
    pool_run(f->pool, tasks * t.n_parts, 1, attn_task, &t);
}
