/* load.c - see load.h. */
#include "tests/cluster/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"

static int32_t prompts[LOAD][LOAD_CONTEXT];

static void must(err e, const struct why *why)
{
    if (e) {
        fprintf(stderr, "%s: %s\n", err_name(e), why->text);
        abort();
    }
}

void load_open(struct load_model *m, const char *path, enum precision precision, enum kv_type kv_type)
{
    struct why why = {""};
    *m = (struct load_model){.kv_type = kv_type};
    must(source_open(path, &m->src, &why), &why);
    m->hp = source_hparams(m->src);
    m->context = m->hp->n_ctx_train > 0 && m->hp->n_ctx_train < LOAD_CONTEXT ? m->hp->n_ctx_train : LOAD_CONTEXT;
    kernels_init(&m->kernels, cpu_isa(), precision);
}

void load_close(struct load_model *m)
{
    load_drop_stages(m);
    source_close(m->src);
}

struct engine_options load_limits(const struct load_model *m)
{
    return (struct engine_options){
        .max_rows = 64, .max_slots = LOAD, .max_context = m->context, .n_pages = 96, .max_queue = 64,
        .n_vocab = m->hp->n_vocab, .n_embd = m->hp->n_embd, .timeout_ms = 60000,
    };
}

struct stage *load_stage(struct load_model *m, const struct engine_options *eo, int i, int n)
{
    struct why why = {""};
    int layers = m->hp->n_layer;
    struct stage_range range = {layers * i / n, layers * (i + 1) / n, i == 0, i == n - 1};
    struct stage_limits lim = {
        .max_rows = eo->max_rows, .max_slots = eo->max_slots, .max_context = eo->max_context,
        .n_pages = eo->n_pages, .kv_type = m->kv_type,
    };
    int at = m->n_stages++;
    must(pool_open(1, &m->pools[at], &why), &why);
    must(stage_open(m->src, range, &lim, &m->kernels, m->pools[at], &m->stages[at], &why), &why);
    return m->stages[at];
}

void load_drop_stages(struct load_model *m)
{
    while (m->n_stages > 0) {
        int at = --m->n_stages;
        stage_close(m->stages[at]);
        pool_close(m->pools[at]);
    }
}

void load_requests(const struct load_model *m, struct gen_request *req)
{
    static const int lengths[LOAD] = {1, 7, 33, 64, 100, 128, 70, 90};
    uint32_t state = 12345;
    for (int i = 0; i < LOAD; i++) {
        int n = lengths[i] < m->context - LOAD_TOKENS ? lengths[i] : m->context - LOAD_TOKENS;
        for (int k = 0; k < n; k++) {
            state = state * 1664525u + 1013904223u;
            prompts[i][k] = (int32_t)((state >> 8) % (uint32_t)m->hp->n_vocab);
            if (i >= 4 && k < 64)
                prompts[i][k] = (k * 53 + 7) % m->hp->n_vocab;
        }
        req[i] = (struct gen_request){
            .ids = prompts[i], .n_ids = n, .max_tokens = i == 5 ? 0 : LOAD_TOKENS,
            .sampling = {.top_p = 1, .repetition_penalty = 1, .seed = (uint64_t)i + 100},
            .logprobs = true, .n_top = i % 3, .score_prompt = i == 2 || i == 5 || i == 6,
        };
        if (i % 2) {
            req[i].sampling.temperature = 0.9f;
            req[i].sampling.top_p = 0.95f;
            req[i].sampling.repetition_penalty = 1.2f;
            req[i].sampling.presence_penalty = 0.3f;
        }
    }
}

static bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

bool load_same(const char *what, int i, const struct taken *want, const struct taken *got)
{
    int n = want->n_tokens;
    if (got->n_tokens != n || got->n_scores != want->n_scores) {
        fprintf(stderr, "%s: request %d: %d tokens and %d scores instead of %d and %d\n", what, i, got->n_tokens,
                got->n_scores, n, want->n_scores);
        return false;
    }
    for (int k = 0; k < n; k++)
        if (got->tokens[k] != want->tokens[k] || !same_bits(got->logprobs[k], want->logprobs[k])) {
            fprintf(stderr, "%s: request %d: token %d is %d (%a) instead of %d (%a)\n", what, i, k, got->tokens[k],
                    (double)got->logprobs[k], want->tokens[k], (double)want->logprobs[k]);
            return false;
        }
    for (int k = 1; k < want->n_scores; k++)
        if (!same_bits(got->scores[k], want->scores[k])) {
            fprintf(stderr, "%s: request %d: score %d is %a instead of %a\n", what, i, k, (double)got->scores[k],
                    (double)want->scores[k]);
            return false;
        }
    return true;
}
