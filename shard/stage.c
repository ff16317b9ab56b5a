/* stage.c - a stage put together: weights, KV pages, forward pass, head, slots.
 *
 * All buffers of the forward pass and the head come from one carve, so
 * stage_measure() runs the very layout code that stage_open() runs.
 */
#include "shard/stage.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/arena.h"
#include "model/forward.h"
#include "model/head.h"
#include "model/kv.h"
#include "model/lora.h"
#include "model/weights.h"

struct stage {
    struct stage_range range;
    struct stage_limits lim;
    const struct arch_desc *desc;
    const struct hparams *hp;
    struct kernels k;
    struct weights *weights;
    struct lora *lora; /* NULL: no adapters */
    int n_adapters;
    struct kv kv;
    struct forward f;
    struct head head;
    char *block;            /* buffers of f and head */
    struct sampler **slots; /* [max_slots] */
};

static err check_limits(const struct source *src, struct stage_range r, const struct stage_limits *lim,
                        struct why *why)
{
    int n = source_hparams(src)->n_layer;
    if (r.first < 0 || r.first > r.last || r.last > n)
        return why_set(why, ERR_INVAL, "layers [%d, %d) of a model of %d", r.first, r.last, n);
    if ((r.embed && r.first != 0) || (r.head && r.last != n))
        return why_set(why, ERR_INVAL, "the embedding goes with layer 0, the head with the last layer");
    if (lim->max_rows < 1 || lim->max_slots < 1 || lim->max_context < 1 || lim->n_pages < 1 ||
        lim->kv_type >= KV_TYPE_COUNT)
        return why_set(why, ERR_INVAL, "stage limits: rows, slots, context and pages must be at least 1");
    return ERR_OK;
}

static struct weight_range weights_of(struct stage_range r)
{
    return (struct weight_range){.first = r.first, .last = r.last, .embed = r.embed, .head = r.head};
}

/* Everything but memory: shapes, tables, and what to carve. */
static err stage_shape(struct stage *s, const struct source *src, struct pool *pool, struct why *why)
{
    err e;
    s->desc = source_arch(src);
    s->hp = source_hparams(src);
    s->n_adapters = source_n_adapters(src);
    TRY(weights_open(src, weights_of(s->range), &s->weights, why));
    TRY(lora_open(src, s->range.first, s->range.last, &s->lora, why));
    TRY(kv_shape(s->desc, s->hp, s->range.last - s->range.first, s->lim.n_pages, s->lim.kv_type, &s->kv,
                 why));
    s->f = (struct forward){.desc = s->desc,
                            .hp = s->hp,
                            .weights = s->weights,
                            .lora = s->lora,
                            .k = &s->k,
                            .pool = pool,
                            .kv = &s->kv,
                            .first = s->range.first,
                            .last = s->range.last,
                            .max_rows = s->lim.max_rows,
                            .max_context = s->lim.max_context};
    TRY(forward_init(&s->f, why));
    if (s->range.head)
        TRY(head_init(&s->head, &s->f, why));
out:
    return e;
}

/* A stage that has its shape and nothing else; for stage_close() even when it failed. */
static err stage_new(const struct source *src, struct stage_range range, const struct stage_limits *lim,
                     const struct kernels *k, struct pool *pool, struct stage **out, struct why *why)
{
    err e;
    struct stage *s = *out = calloc(1, sizeof *s);
    if (!s)
        FAIL(ERR_NOMEM, "a stage");
    TRY(check_limits(src, range, lim, why));
    s->range = range;
    s->lim = *lim;
    s->k = *k;
    TRY(stage_shape(s, src, pool, why));
out:
    return e;
}

static void stage_carve(struct stage *s, struct carve *c, int threads)
{
    forward_carve(&s->f, c, threads);
    if (s->range.head)
        head_carve(&s->head, c, threads);
    s->slots = carve_take(c, (size_t)s->lim.max_slots, sizeof *s->slots);
}

err stage_measure(const struct source *src, struct stage_range range, const struct stage_limits *lim,
                  const struct kernels *k, int threads, struct stage_bytes *out, struct why *why)
{
    err e;
    struct carve c = {.base = NULL};
    struct stage *s;
    TRY(stage_new(src, range, lim, k, NULL, &s, why));
    stage_carve(s, &c, threads);
    *out = (struct stage_bytes){.weights = weights_bytes(s->weights) + lora_bytes(s->lora),
                                .kv = kv_bytes(&s->kv),
                                .scratch = c.used};
out:
    stage_close(s);
    return e;
}

err stage_open(const struct source *src, struct stage_range range, const struct stage_limits *lim,
               const struct kernels *k, struct pool *pool, struct stage **out, struct why *why)
{
    err e;
    struct carve measure = {.base = NULL}, carve;
    struct stage *s;
    TRY(stage_new(src, range, lim, k, pool, &s, why));
    TRY(weights_load(s->weights, pool, why));
    TRY(lora_load(s->lora, pool, why));
    TRY(forward_tables(&s->f, why));
    TRY(kv_init(s->desc, s->hp, range.last - range.first, lim->n_pages, lim->kv_type, &s->k, &s->kv, why));

    stage_carve(s, &measure, pool_threads(pool));
    s->slots = NULL;
    s->block = mem_alloc(measure.used + 64, 1);
    if (!s->block)
        FAIL(ERR_NOMEM, "buffers for %d rows need %.1f MiB", lim->max_rows, (double)measure.used / 0x1p20);
    carve = (struct carve){.base = s->block};
    stage_carve(s, &carve, pool_threads(pool));
    assert(carve.used == measure.used);
    *out = s;
    s = NULL;
out:
    stage_close(s);
    return e;
}

void stage_close(struct stage *s)
{
    if (!s)
        return;
    if (s->slots)
        for (int i = 0; i < s->lim.max_slots; i++)
            sampler_close(s->slots[i]);
    forward_fini(&s->f);
    kv_fini(&s->kv);
    weights_close(s->weights);
    lora_close(s->lora);
    free(s->block);
    free(s);
}

bool stage_mapped(const struct stage *s)
{
    return weights_mapped(s->weights);
}

void stage_adopt(struct stage *s)
{
    pool_bind_caller(s->f.pool);
}

/* ---- a step ---- */

static err check_seqs(const struct stage *s, const struct batch *b, struct why *why)
{
    for (int i = 0; i < b->n_seqs; i++) {
        const struct batch_seq *q = &b->seqs[i];
        for (uint32_t p = 0; p < q->n_pages; p++)
            if (q->pages[p] >= s->lim.n_pages)
                return why_set(why, ERR_INVAL, "step %u: page %u of %u", b->step, q->pages[p],
                               s->lim.n_pages);
        if (q->adapter > (uint32_t)s->n_adapters)
            return why_set(why, ERR_INVAL, "step %u: adapter %u of %d", b->step, q->adapter, s->n_adapters);
        if (s->range.head && q->slot >= (uint32_t)s->lim.max_slots)
            return why_set(why, ERR_INVAL, "step %u: slot %u of %d", b->step, q->slot, s->lim.max_slots);
    }
    return ERR_OK;
}

static err check_row(const struct stage *s, const struct batch *b, int i, struct why *why)
{
    const struct batch_row *r = &b->rows[i];
    int vocab = s->hp->n_vocab;
    if (r->seq >= b->n_seqs)
        return why_set(why, ERR_INVAL, "step %u row %d: sequence %u of %d", b->step, i, r->seq, b->n_seqs);
    if (!(r->flags & ROW_GENERATED) != (i >= b->n_gen))
        return why_set(why, ERR_INVAL, "step %u row %d: generated rows must come first", b->step, i);
    if (r->flags & ROW_DEAD)
        return ERR_OK;
    if (r->pos < 0 || r->pos >= s->lim.max_context || (uint32_t)r->pos / KV_PAGE >= b->seqs[r->seq].n_pages)
        return why_set(why, ERR_INVAL, "step %u row %d: position %d of %d with %u pages", b->step, i, r->pos,
                       s->lim.max_context, b->seqs[r->seq].n_pages);
    if (s->range.embed && (r->token < 0 || r->token >= vocab))
        return why_set(why, ERR_INVAL, "step %u row %d: token %d of %d", b->step, i, r->token, vocab);
    if (s->range.head && (r->flags & (ROW_SAMPLE | ROW_SCORE)) && s->head.n_vocab == 0)
        return why_set(why, ERR_INVAL, "step %u row %d: an encoder has no tokens to give", b->step, i);
    if (s->range.head && (r->flags & ROW_SCORE) && (r->target < 0 || r->target >= vocab) &&
        !(r->flags & ROW_SAMPLE))
        return why_set(why, ERR_INVAL, "step %u row %d: target %d of %d", b->step, i, r->target, vocab);
    if (s->range.head && (r->flags & ROW_SAMPLE) && !s->slots[b->seqs[r->seq].slot])
        return why_set(why, ERR_INVAL, "step %u row %d: slot %u is not open", b->step, i,
                       b->seqs[r->seq].slot);
    if (r->n_top > SAMPLE_MAX_TOP)
        return why_set(why, ERR_INVAL, "step %u row %d: %u alternatives; at most %d", b->step, i, r->n_top,
                       SAMPLE_MAX_TOP);
    return ERR_OK;
}

static err check_batch(const struct stage *s, const struct batch *b, struct why *why)
{
    err e;
    if (b->n_rows < 1 || b->n_rows > s->lim.max_rows || b->n_gen < 0 || b->n_gen > b->n_rows)
        FAIL(ERR_INVAL, "step %u: %d rows (%d generated) on a stage of %d", b->step, b->n_rows, b->n_gen,
             s->lim.max_rows);
    TRY(check_seqs(s, b, why));
    for (int i = 0; i < b->n_rows; i++)
        TRY(check_row(s, b, i, why));
    e = ERR_OK;
out:
    return e;
}

static void push_generated(struct stage *s, const struct batch *b)
{
    for (int i = 0; i < b->n_gen; i++) {
        struct sampler *slot = s->slots[b->seqs[b->rows[i].seq].slot];
        if (slot && !(b->rows[i].flags & ROW_DEAD))
            sampler_push(slot, b->rows[i].token, b->rows[i].pos);
    }
}

err stage_step(struct stage *s, const struct batch *b, const float *x_in, float *x_out,
               struct row_result *results, int *n_results, struct why *why)
{
    struct forward *f = &s->f;
    size_t row = (size_t)s->hp->n_embd;
    err e;

    assert(!x_in == s->range.embed && !x_out == s->range.head);
    TRY(check_batch(s, b, why));
    forward_begin(f, b);
    if (s->range.embed)
        forward_embed(f);
    else
        for (int i = 0; i < b->n_rows; i++)
            memcpy(f->x + (size_t)i * f->ldx, x_in + (size_t)i * row, row * sizeof *x_in);
    forward_layers(f);
    if (s->range.head) {
        push_generated(s, b);
        head_run(&s->head, s->slots, results, n_results);
    } else {
        for (int i = 0; i < b->n_rows; i++)
            memcpy(x_out + (size_t)i * row, f->x + (size_t)i * f->ldx, row * sizeof *x_out);
    }
out:
    return e;
}

err stage_slot_open(struct stage *s, uint32_t slot, const struct sample_params *params, const int32_t *prompt,
                    int n_prompt, struct why *why)
{
    struct sampler *made = NULL;
    if (!s->range.head || slot >= (uint32_t)s->lim.max_slots)
        return why_set(why, ERR_INVAL, "slot %u of %d", slot, s->range.head ? s->lim.max_slots : 0);
    err e = sampler_open(params, prompt, n_prompt, s->hp->n_vocab, s->lim.max_context, &made, why);
    if (e == ERR_OK) {
        sampler_close(s->slots[slot]);
        s->slots[slot] = made;
    }
    return e;
}

void stage_slot_close(struct stage *s, uint32_t slot)
{
    if (!s->range.head || slot >= (uint32_t)s->lim.max_slots)
        return;
    sampler_close(s->slots[slot]);
    s->slots[slot] = NULL;
}

uint64_t stage_digest(const struct stage *s, uint32_t page)
{
    if (page >= s->lim.n_pages || !s->kv.base)
        return 0;
    return XXH3_64bits(s->kv.base + (size_t)page * s->kv.page_bytes, s->kv.page_bytes);
}

void stage_hidden(const struct stage *s, int row, float *out)
{
    if (s->range.head)
        head_hidden(&s->head, row, out);
    else
        memcpy(out, s->f.x + (size_t)row * s->f.ldx, sizeof(float) * (size_t)s->hp->n_embd);
}

void stage_logits(struct stage *s, int row, float *out)
{
    assert(s->range.head && s->head.n_vocab > 0);
    head_logits(&s->head, row, out);
}
