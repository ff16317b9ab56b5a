/* fake_stage.c - see fake_stage.h. */
#include "tests/cluster/fake_stage.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

struct fake_slot {
    struct sample_params params;
    int32_t end[64];
    uint64_t history; /* of generated tokens that passed */
    int32_t last_pos;
};

struct stage {
    struct stage_range range;
    struct stage_limits lim;
    uint64_t *kv; /* [layers][n_pages][KV_PAGE] */
    struct fake_slot *slots;
    unsigned jitter_us, jitter_state;
    long prompt_rows;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t h = a * 0x9e3779b97f4a7c15u ^ (b + 0x7f4a7c15u) * 0xbf58476d1ce4e5b9u;
    h ^= h >> 29;
    h *= 0x94d049bb133111ebu;
    return h ^ h >> 32;
}

static void put_x(float *x, uint64_t h)
{
    for (int i = 0; i < FAKE_EMBD; i++)
        x[i] = (float)(h >> (16 * i) & 0xffff);
}

static uint64_t get_x(const float *x)
{
    uint64_t h = 0;
    for (int i = 0; i < FAKE_EMBD; i++)
        h |= (uint64_t)x[i] << (16 * i);
    return h;
}

static uint64_t layer(uint64_t x, uint64_t before, int l, bool generated)
{
    return mix(mix(x, before), (uint64_t)l * 2 + generated);
}

static uint64_t remember(uint64_t history, int32_t token, int32_t pos)
{
    return mix(history, (uint64_t)token << 32 | (uint32_t)pos);
}

static int32_t draw(uint64_t h, const struct sample_params *p, uint64_t history, int32_t pos)
{
    uint64_t pick = mix(mix(h, p->seed), mix(p->choice, history));
    return (int32_t)(mix(pick, (uint64_t)pos) % FAKE_VOCAB);
}

static float price(uint64_t h, int32_t token)
{
    return -(float)(mix(h, (uint64_t)token) % 4096) / 256.0f;
}

static int32_t best(uint64_t h)
{
    return (int32_t)(mix(h, 77) % FAKE_VOCAB);
}

struct stage *fake_stage_open(struct stage_range range, const struct stage_limits *lim, unsigned jitter_us)
{
    struct stage *s = calloc(1, sizeof *s);
    s->range = range;
    s->lim = *lim;
    s->kv = malloc((size_t)FAKE_LAYERS * lim->n_pages * KV_PAGE * sizeof *s->kv);
    memset(s->kv, 0xa5, (size_t)FAKE_LAYERS * lim->n_pages * KV_PAGE * sizeof *s->kv);
    s->slots = calloc((size_t)lim->max_slots, sizeof *s->slots);
    s->jitter_us = jitter_us;
    s->jitter_state = (unsigned)range.first * 7919 + 1;
    return s;
}

void fake_stage_close(struct stage *s)
{
    free(s->kv);
    free(s->slots);
    free(s);
}

long fake_prompt_rows(const struct stage *s)
{
    return s->prompt_rows;
}

static uint64_t *cell(struct stage *s, int l, const struct batch_seq *q, int32_t pos)
{
    assert((uint32_t)pos / KV_PAGE < q->n_pages);
    size_t page = q->pages[pos / KV_PAGE];
    assert(page < s->lim.n_pages);
    return &s->kv[((size_t)l * s->lim.n_pages + page) * KV_PAGE + (size_t)pos % KV_PAGE];
}

static void answer(struct stage *s, const struct batch_row *row, uint32_t name, uint64_t h, struct row_result *out)
{
    struct fake_slot *slot = &s->slots[name];
    bool sample = row->flags & ROW_SAMPLE;
    *out = (struct row_result){
        .slot = name, .pos = row->pos, .argmax = best(h), .n_top = row->n_top,
        .flags = row->flags & (ROW_SAMPLE | ROW_SCORE | ROW_DEAD),
    };
    out->token = sample ? draw(h, &slot->params, slot->history, row->pos) : row->target;
    out->logprob = price(h, out->token);
    if (slot->params.seed == FAKE_POISON_SEED && row->pos >= FAKE_POISON_POS)
        out->logprob = NAN;
    for (int i = 0; i < row->n_top; i++)
        out->top[i] = (struct token_logprob){(best(h) + i) % FAKE_VOCAB, -(float)i};
}

err stage_step(struct stage *s, const struct batch *b, const float *x_in, float *x_out, struct row_result *results,
               int *n_results, struct why *why)
{
    (void)why;
    int n = 0;
    assert(!x_in == s->range.embed && !x_out == s->range.head);
    for (int i = 0; i < b->n_rows; i++) {
        const struct batch_row *row = &b->rows[i];
        const struct batch_seq *q = &b->seqs[row->seq];
        assert(!(row->flags & ROW_GENERATED) == (i >= b->n_gen));
        if (row->flags & ROW_DEAD) {
            if (x_out)
                put_x(x_out + (size_t)i * FAKE_EMBD, 0);
            continue; /* and no result: the worker has to cope */
        }
        s->prompt_rows += !(row->flags & ROW_GENERATED);
        uint64_t h = x_in ? get_x(x_in + (size_t)i * FAKE_EMBD) : mix((uint64_t)row->token, (uint64_t)row->pos);
        for (int l = s->range.first; l < s->range.last; l++) {
            uint64_t before = row->pos ? *cell(s, l, q, row->pos - 1) : 0;
            h = *cell(s, l, q, row->pos) = layer(h, before, l, row->flags & ROW_GENERATED);
        }
        if (x_out)
            put_x(x_out + (size_t)i * FAKE_EMBD, h);
        if (!s->range.head)
            continue;
        struct fake_slot *slot = &s->slots[q->slot];
        if ((row->flags & ROW_GENERATED) && row->pos > slot->last_pos) {
            slot->history = remember(slot->history, row->token, row->pos);
            slot->last_pos = row->pos;
        }
        if (row->flags & (ROW_SAMPLE | ROW_SCORE))
            answer(s, row, q->slot, h, &results[n++]);
    }
    if (n_results)
        *n_results = n;
    if (s->jitter_us) {
        s->jitter_state = s->jitter_state * 1103515245u + 12345u;
        sleep_us(s->jitter_state / 65536 % s->jitter_us);
    }
    return ERR_OK;
}

err stage_slot_open(struct stage *s, uint32_t slot, const struct sample_params *params, const int32_t *prompt,
                    int n_prompt, struct why *why)
{
    (void)prompt, (void)n_prompt, (void)why;
    assert(s->range.head && slot < (uint32_t)s->lim.max_slots);
    s->slots[slot] = (struct fake_slot){.params = *params, .last_pos = -1};
    return ERR_OK;
}

void stage_adopt(struct stage *s)
{
    (void)s;
}

void stage_slot_close(struct stage *s, uint32_t slot)
{
    (void)s, (void)slot;
}

void stage_hidden(const struct stage *s, int row, float *out)
{
    (void)s, (void)row, (void)out;
    assert(false); /* no encoder */
}

int fake_reference(const struct gen_request *req, int n, int32_t *tokens, float *logprobs)
{
    uint64_t kv[FAKE_LAYERS] = {0}, history = 0;
    int total = req->n_ids + req->max_tokens < n ? req->n_ids + req->max_tokens : n;
    memcpy(tokens, req->ids, (size_t)req->n_ids * sizeof *tokens);
    logprobs[0] = 0;
    for (int pos = 0; pos + 1 < total; pos++) {
        bool generated = pos >= req->n_ids;
        uint64_t h = mix((uint64_t)tokens[pos], (uint64_t)pos);
        for (int l = 0; l < FAKE_LAYERS; l++)
            h = kv[l] = layer(h, kv[l], l, generated);
        if (generated)
            history = remember(history, tokens[pos], pos);
        if (pos + 1 >= req->n_ids)
            tokens[pos + 1] = draw(h, &req->sampling, history, pos);
        logprobs[pos + 1] = price(h, tokens[pos + 1]);
        for (int i = 0; pos + 1 >= req->n_ids && i < req->sampling.n_end; i++)
            if (tokens[pos + 1] == req->sampling.end[i])
                return pos + 2;
    }
    return total;
}
