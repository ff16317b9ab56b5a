/* head.c - see head.h. */
#include "model/head.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { FULL_BYTES = 32 << 20 };

err head_init(struct head *h, struct forward *f, struct why *why)
{
    const struct weight *w = &weights_model(f->weights)[W_HEAD];
    if (!weight_has(w) && f->hp->causal)
        return why_set(why, ERR_SHAPE, "the model has no output head");
    *h = (struct head){.f = f, .n_vocab = (int)w->n};
    if (!weight_has(w))
        return ERR_OK; /* an encoder: hidden states are what it is asked for */
    h->n_blocks = (h->n_vocab + HEAD_BLOCK - 1) / HEAD_BLOCK;
    h->ld_full = ((size_t)h->n_vocab + 15) & ~(size_t)15;
    h->n_full = (int)(FULL_BYTES / (2 * sizeof(float) * h->ld_full));
    h->n_full = h->n_full > HEAD_ROWS ? HEAD_ROWS : h->n_full < 1 ? 1 : h->n_full;
    return ERR_OK;
}

static int slice_rows(const struct head *h)
{
    return h->f->max_rows < HEAD_ROWS ? h->f->max_rows : HEAD_ROWS;
}

void head_carve(struct head *h, struct carve *c, int threads)
{
    const struct weight *w = &weights_model(h->f->weights)[W_HEAD];
    size_t rows = (size_t)slice_rows(h);
    struct forms m = {{0}};
    forms_add(h->f, &m, w);
    acts_carve(&h->in, c, (int)rows, h->f->hp->n_embd, m.of[ROLE_GEN] | m.of[ROLE_PROMPT]);
    h->block = carve_take(c, (size_t)threads * rows * HEAD_BLOCK, sizeof(float));
    h->parts = carve_take(c, rows * (size_t)h->n_blocks, sizeof *h->parts);
    h->top = carve_take(c, (size_t)threads * rows * SAMPLE_MAX_TOP, sizeof *h->top);
    h->n_top = carve_take(c, (size_t)threads * rows, sizeof *h->n_top);
    if (h->n_full > (int)rows)
        h->n_full = (int)rows;
    h->full = carve_take(c, (size_t)h->n_full * 2 * h->ld_full, sizeof(float));
    h->scratch = carve_take(c, (size_t)threads, sizeof *h->scratch);
    h->rows = carve_take(c, rows, sizeof *h->rows);
    h->place = carve_take(c, rows, sizeof *h->place);
}

/* ---- one slice ---- */

struct slice {
    struct head *h;
    struct rows rows;
    struct forms forms;
};

/* The final hidden state of a row of the batch. */
static void norm_row(const struct head *h, int row, float *out)
{
    const struct forward *f = h->f;
    const struct weight *w = weights_model(f->weights);
    const float *x = f->x + (size_t)row * f->ldx;
    if (weight_has(&w[W_HEAD_NORM]))
        forward_norm(f, out, x, &w[W_HEAD_NORM], &w[W_HEAD_NORM_B], f->hp->n_embd);
    else
        memcpy(out, x, sizeof(float) * (size_t)f->hp->n_embd);
}

static void norm_task(void *ctx, int first, int last, int worker)
{
    struct slice *s = ctx;
    struct forward *f = s->h->f;
    for (int i = first; i < last; i++) {
        form_mask forms = s->forms.of[i < s->rows.n_gen ? ROLE_GEN : ROLE_PROMPT];
        float *x = matmul_row(&f->mm, &s->h->in, i, forms, worker);
        norm_row(s->h, s->h->rows[i].row, x);
        matmul_prepare(&f->mm, &s->h->in, i, forms, x);
    }
}

/* Logits are what the model means by them: scaled, then capped. */
static void finish_logits(const struct hparams *hp, float *x, int n)
{
    if (hp->logit_scale != 1)
        for (int i = 0; i < n; i++)
            x[i] *= hp->logit_scale;
    if (hp->logit_softcap > 0)
        for (int i = 0; i < n; i++)
            x[i] = hp->logit_softcap * tanhf(x[i] / hp->logit_softcap);
}

/* Better: greater, or equal and of lower id. */
static bool better(struct token_logprob a, struct token_logprob b)
{
    return a.logprob > b.logprob || (a.logprob == b.logprob && a.token < b.token);
}

static void top_insert(struct token_logprob *top, int *n, int max, struct token_logprob t)
{
    int at = *n;
    if (at == max) {
        if (!better(t, top[max - 1]))
            return;
        at--;
    } else {
        ++*n;
    }
    for (; at > 0 && better(t, top[at - 1]); at--)
        top[at] = top[at - 1];
    top[at] = t;
}

static void reduce_row(const struct slice *s, int i, int block, const float *x, int n, int worker)
{
    struct head *h = s->h;
    struct head_row *r = &h->rows[i];
    struct head_part *part = &h->parts[(size_t)i * (size_t)h->n_blocks + (size_t)block];
    int32_t first = block * HEAD_BLOCK;

    *part = (struct head_part){.max = -INFINITY};
    h->f->k->lse(x, n, &part->max, &part->sum);
    part->argmax = first + h->f->k->argmax(x, n);
    part->best = x[part->argmax - first];
    if (r->target >= first && r->target < first + n)
        r->target_logit = x[r->target - first];
    if (r->full)
        memcpy(r->full + first, x, sizeof(float) * (size_t)n);
    if (r->n_top == 0)
        return;
    size_t list = (size_t)worker * (size_t)slice_rows(h) + (size_t)i;
    struct token_logprob *top = h->top + list * SAMPLE_MAX_TOP;
    int *n_top = &h->n_top[list];
    if (*n_top == r->n_top && part->best < top[r->n_top - 1].logprob)
        return; /* most blocks */
    for (int c = 0; c < n; c++)
        if (*n_top < r->n_top || x[c] >= top[r->n_top - 1].logprob)
            top_insert(top, n_top, r->n_top, (struct token_logprob){first + c, x[c]});
}

static void block_task(void *ctx, int first, int last, int worker)
{
    const struct slice *s = ctx;
    struct head *h = s->h;
    const struct weight *w = weights_model(h->f->weights);
    float *y = h->block + (size_t)worker * (size_t)slice_rows(h) * HEAD_BLOCK;
    for (int b = first; b < last; b++) {
        struct product p = {
            .y = y, .ldy = HEAD_BLOCK, .n_gen = s->rows.n_gen, .n_prompt = s->rows.n - s->rows.n_gen};
        int g0 = b * (HEAD_BLOCK / PACK_ROWS), g1 = g0 + HEAD_BLOCK / PACK_ROWS;
        int groups = pack_groups(h->n_vocab);
        p.w = packed_slice(&w[W_HEAD].w, g0, g1 < groups ? g1 : groups);
        if (weight_has(&w[W_HEAD_B]))
            p.bias = w[W_HEAD_B].v + (size_t)b * HEAD_BLOCK;
        matmul_on(&h->f->mm, &s->rows, &h->in, &p, worker);
        for (int i = 0; i < s->rows.n; i++) {
            finish_logits(h->f->hp, y + (size_t)i * HEAD_BLOCK, p.w.n);
            reduce_row(s, i, b, y + (size_t)i * HEAD_BLOCK, p.w.n, worker);
        }
    }
}

/* Joins the blocks of row i in order. */
static void join_parts(const struct head *h, int i)
{
    struct head_row *r = &h->rows[i];
    const struct head_part *p = &h->parts[(size_t)i * (size_t)h->n_blocks];
    float max = -INFINITY, sum = 0;
    r->best_logit = -INFINITY;
    r->argmax = 0;
    for (int b = 0; b < h->n_blocks; b++) {
        max = p[b].max > max ? p[b].max : max;
        if (p[b].best > r->best_logit) {
            r->best_logit = p[b].best;
            r->argmax = p[b].argmax;
        }
    }
    for (int b = 0; b < h->n_blocks; b++)
        if (p[b].sum > 0)
            sum += p[b].sum * (float)exp((double)(p[b].max - max));
    r->lse = max + (float)log((double)sum);
}

/* Norm, logits and reductions of rows [0, n) of h->rows. */
static void run_slice(struct head *h, int n, int n_gen)
{
    struct forward *f = h->f;
    struct slice s = {.h = h, .rows = {.n = n, .n_gen = n_gen, .place = h->place}};
    int threads = pool_threads(f->pool);

    for (int i = 0; i < n; i++)
        h->place[i] = f->place[h->rows[i].row];
    memset(h->n_top, 0, sizeof(int) * (size_t)threads * (size_t)slice_rows(h));
    acts_begin(&h->in, f->hp->n_embd);
    forms_add(f, &s.forms, &weights_model(f->weights)[W_HEAD]);
    rows_run(f->pool, n, 4 * (int64_t)f->hp->n_embd, norm_task, &s);
    pool_run(f->pool, h->n_blocks, 1, block_task, &s);
    for (int i = 0; i < n; i++)
        join_parts(h, i);
}

/* ---- a batch ---- */

struct draws {
    struct head *h;
    struct sampler **samplers;
};

static const struct sampler *sampler_of(const struct head *h, struct sampler **samplers, int row)
{
    return samplers[h->f->b->seqs[h->f->b->rows[row].seq].slot];
}

static void draw_task(void *ctx, int first, int last, int worker)
{
    struct draws *d = ctx;
    struct head *h = d->h;
    for (int i = first; i < last; i++) {
        struct head_row *r = &h->rows[i];
        if (r->full)
            r->drawn = sampler_draw(sampler_of(h, d->samplers, r->row), r->full, r->full + h->ld_full,
                                    h->f->b->rows[r->row].pos, &h->scratch[worker]);
    }
}

/* The best n over all threads' lists, as log-probabilities. */
static void fill_top(const struct head *h, int i, struct row_result *out)
{
    struct token_logprob top[SAMPLE_MAX_TOP];
    int n = 0, threads = pool_threads(h->f->pool);
    for (int t = 0; t < threads; t++) {
        size_t list = (size_t)t * (size_t)slice_rows(h) + (size_t)i;
        for (int j = 0; j < h->n_top[list]; j++)
            top_insert(top, &n, h->rows[i].n_top, h->top[list * SAMPLE_MAX_TOP + (size_t)j]);
    }
    out->n_top = (uint8_t)n;
    for (int j = 0; j < n; j++)
        out->top[j] = (struct token_logprob){top[j].token, top[j].logprob - h->rows[i].lse};
}

static void fill_result(const struct head *h, int i, struct row_result *out)
{
    const struct head_row *r = &h->rows[i];
    const struct batch_row *row = &h->f->b->rows[r->row];
    float logit = r->target_logit;

    *out = (struct row_result){.slot = h->f->b->seqs[row->seq].slot, .pos = row->pos, .argmax = r->argmax};
    out->flags = row->flags & (ROW_SAMPLE | ROW_SCORE);
    out->token = r->target;
    if (row->flags & ROW_SAMPLE) {
        out->token = r->full ? r->drawn : r->argmax;
        logit = r->full ? r->full[r->drawn] : r->best_logit;
    }
    out->logprob = logit - r->lse;
    fill_top(h, i, out);
}

static void dead_result(const struct batch *b, int row, struct row_result *out)
{
    *out = (struct row_result){
        .slot = b->seqs[b->rows[row].seq].slot, .pos = b->rows[row].pos, .token = -1, .argmax = -1};
    out->flags = b->rows[row].flags & (ROW_SAMPLE | ROW_SCORE | ROW_DEAD);
}

/* Takes rows from *next on into the slice until it is full; returns how many. */
static int fill_slice(struct head *h, struct sampler **samplers, int *next, int *n_gen)
{
    const struct batch *b = h->f->b;
    int n = 0, full = 0;
    *n_gen = 0;
    for (; *next < b->n_rows && n < slice_rows(h); ++*next) {
        const struct batch_row *row = &b->rows[*next];
        if (!(row->flags & (ROW_SAMPLE | ROW_SCORE)) || (row->flags & ROW_DEAD))
            continue;
        bool whole = (row->flags & ROW_SAMPLE) && !sampler_is_argmax(sampler_of(h, samplers, *next), row->pos);
        if (whole && full == h->n_full)
            break;
        h->rows[n] = (struct head_row){.row = *next, .n_top = row->n_top};
        h->rows[n].target = row->flags & ROW_SAMPLE ? -1 : row->target;
        h->rows[n].full = whole ? h->full + (size_t)full++ * 2 * h->ld_full : NULL;
        *n_gen += *next < b->n_gen;
        n++;
    }
    return n;
}

void head_run(struct head *h, struct sampler **samplers, struct row_result *results, int *n_results)
{
    const struct batch *b = h->f->b;
    struct draws d = {.h = h, .samplers = samplers};
    int out = 0, done = 0; /* rows of the batch whose result is written */

    for (int next = 0, n, n_gen; (n = fill_slice(h, samplers, &next, &n_gen)) > 0 || done < b->n_rows;) {
        if (n > 0) {
            run_slice(h, n, n_gen);
            pool_run(h->f->pool, n, 1, draw_task, &d);
        }
        for (int i = 0; done < next; done++) {
            if (i < n && h->rows[i].row == done)
                fill_result(h, i++, &results[out++]);
            else if ((b->rows[done].flags & ROW_DEAD) && (b->rows[done].flags & (ROW_SAMPLE | ROW_SCORE)))
                dead_result(b, done, &results[out++]);
        }
    }
    *n_results = out;
}

void head_hidden(const struct head *h, int row, float *out)
{
    norm_row(h, row, out);
}

void head_logits(struct head *h, int row, float *out)
{
    h->rows[0] = (struct head_row){.row = row, .target = -1, .full = h->full};
    run_slice(h, 1, row < h->f->b->n_gen);
    memcpy(out, h->full, sizeof(float) * (size_t)h->n_vocab);
}
