/* driver.c - see driver.h. */
#include "driver.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "tests/tools/emulated_tiles.h"

static void check(err e, const struct why *why)
{
    if (e != ERR_OK)
        fail_msg("%s: %s", err_name(e), why->text);
}

static struct stage_range range_of(const struct chain *c, int i)
{
    int n = c->o.stages, layers = c->hp->n_layer;
    return (struct stage_range){
        .first = layers * i / n, .last = layers * (i + 1) / n, .embed = i == 0, .head = i == n - 1};
}

void chain_open(struct chain *c, const char *path, const struct chain_options *o)
{
    struct why why = {""};
    *c = (struct chain){.o = *o};
    kernels_init(&c->k, c->o.isa, c->o.precision);
    if (o->emulate_tiles && !emulate_tiles(&c->k))
        skip();
    c->o.stages = o->stages ? o->stages : 1;
    c->o.threads = o->threads ? o->threads : 1;
    c->o.max_rows = o->max_rows ? o->max_rows : 64;
    check(source_open(path, &c->src, &why), &why);
    for (int i = 0; i < CHAIN_ADAPTERS && c->o.adapters[i]; i++)
        check(source_add_adapter(c->src, (char[]){(char)('a' + i), 0}, c->o.adapters[i], &why), &why);
    c->hp = source_hparams(c->src);
    check(pool_open(c->o.threads, &c->pool, &why), &why);

    struct stage_limits lim = {.max_rows = c->o.max_rows,
                               .max_slots = CHAIN_SEQS,
                               .max_context = CHAIN_CONTEXT,
                               .n_pages = CHAIN_SEQS * CHAIN_CONTEXT / KV_PAGE,
                               .kv_type = c->o.kv_type};
    for (int i = 0; i < c->o.stages; i++) {
        struct stage_bytes measured;
        check(stage_measure(c->src, range_of(c, i), &lim, &c->k, c->o.threads, &measured, &why), &why);
        check(stage_open(c->src, range_of(c, i), &lim, &c->k, c->pool, &c->stages[i], &why), &why);
    }
    for (int i = 0; i < 2; i++)
        c->x[i] = mem_alloc((size_t)c->o.max_rows * (size_t)c->hp->n_embd, sizeof(float));
    c->rows = calloc((size_t)c->o.max_rows, sizeof *c->rows);
    c->results = calloc((size_t)c->o.max_rows, sizeof *c->results);
    assert_true(c->x[0] && c->x[1] && c->rows && c->results);
    /* Pages of different sequences interleave, as in a server that has been up for a while. */
    for (int s = 0; s < CHAIN_SEQS; s++)
        for (int p = 0; p < CHAIN_CONTEXT / KV_PAGE; p++)
            c->pages[s][p] = (uint32_t)(p * CHAIN_SEQS + (s * 7 + p * 3) % CHAIN_SEQS);
}

void chain_close(struct chain *c)
{
    for (int i = 0; i < c->o.stages; i++)
        stage_close(c->stages[i]);
    free(c->x[0]);
    free(c->x[1]);
    free(c->rows);
    free(c->results);
    pool_close(c->pool);
    source_close(c->src);
}

void chain_slot(struct chain *c, int seq, const struct sample_params *params)
{
    struct sample_params greedy = {.top_p = 1, .repetition_penalty = 1};
    struct why why = {""};
    check(
        stage_slot_open(c->stages[c->o.stages - 1], (uint32_t)seq, params ? params : &greedy, NULL, 0, &why),
        &why);
}

int chain_row(struct chain *c, int seq, int32_t token, int pos, unsigned flags, int32_t target)
{
    assert_true(c->n_rows < c->o.max_rows && pos < CHAIN_CONTEXT);
    c->rows[c->n_rows] = (struct batch_row){
        .token = token, .pos = pos, .target = target, .seq = (uint16_t)seq, .flags = (uint8_t)flags};
    c->n_gen += (flags & ROW_GENERATED) != 0;
    return c->n_rows++;
}

void chain_run(struct chain *c)
{
    struct why why = {""};
    for (int s = 0; s < CHAIN_SEQS; s++)
        c->seqs[s] =
            (struct batch_seq){.slot = (uint32_t)s,
                               .n_pages = CHAIN_CONTEXT / KV_PAGE,
                               .pages = c->pages[s],
                               .adapter = c->adapter[s]};
    struct batch b = {.step = c->step++,
                      .n_rows = c->n_rows,
                      .n_gen = c->n_gen,
                      .n_seqs = CHAIN_SEQS,
                      .rows = c->rows,
                      .seqs = c->seqs};
    c->last = b;
    for (int i = 0; i < c->o.stages; i++) {
        bool head = i == c->o.stages - 1;
        check(stage_step(c->stages[i], &c->last, i == 0 ? NULL : c->x[i % 2], head ? NULL : c->x[(i + 1) % 2],
                         head ? c->results : NULL, head ? &c->n_results : NULL, &why),
              &why);
    }
    c->n_rows = c->n_gen = 0;
}

void chain_logits(struct chain *c, int row, float *out)
{
    stage_logits(c->stages[c->o.stages - 1], row, out);
}

int32_t chain_prompt(struct chain *c, int seq, const int32_t *ids, int n, int chunk, float *logprobs,
                     float *logprob)
{
    struct row_result last = {.token = -1};
    if (chunk <= 0 || chunk > c->o.max_rows)
        chunk = c->o.max_rows;
    for (int at = 0; at < n; at += chunk) {
        int end = at + chunk < n ? at + chunk : n;
        for (int i = at; i < end; i++) {
            bool final = i == n - 1;
            chain_row(c, seq, ids[i], i, final ? ROW_SAMPLE : ROW_SCORE, final ? -1 : ids[i + 1]);
        }
        chain_run(c);
        assert_int_equal(c->n_results, end - at);
        for (int i = 0; i < c->n_results; i++)
            if (logprobs && c->results[i].pos + 1 < n)
                logprobs[c->results[i].pos + 1] = c->results[i].logprob;
        last = c->results[c->n_results - 1];
    }
    if (logprob)
        *logprob = last.logprob;
    return last.token;
}

int32_t chain_next(struct chain *c, int seq, int32_t token, int pos, float *logprob)
{
    chain_row(c, seq, token, pos, ROW_GENERATED | ROW_SAMPLE, -1);
    chain_run(c);
    assert_int_equal(c->n_results, 1);
    if (logprob)
        *logprob = c->results[0].logprob;
    return c->results[0].token;
}

struct path path_of(const char *fmt, ...)
{
    struct path p;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(p.text, sizeof p.text, fmt, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof p.text);
    return p;
}

const char *golden_dir(void)
{
    return getenv("CORDEE_CONFORMANCE");
}

const char *golden_model(void)
{
    return getenv("CORDEE_MODEL");
}
