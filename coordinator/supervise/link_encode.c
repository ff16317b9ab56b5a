/* link_encode.c - see link_encode.h.
 *
 * Rank 0 gets nothing to decide: all end tokens are in stop_ids, the seed is drawn,
 * text stays here (no_text). Tokens so far go along as `resume`, and the prompt is
 * scored again only while some of its scores were not told.
 */
#include "coordinator/supervise/link_encode.h"

#include <stdlib.h>

#include "proto/frame.h"

/* n token ids as the wire's unsigned ones; ids are never negative here. */
static uint32_t *wire_ids(const int32_t *ids)
{
    return (uint32_t *)(uintptr_t)ids;
}

static void sampling_fill(Cordee__Sampling *s, const struct sample_params *p)
{
    cordee__sampling__init(s);
    s->has_temperature = s->has_top_k = s->has_top_p = s->has_min_p = s->has_repetition_penalty = true;
    s->has_presence_penalty = s->has_frequency_penalty = s->has_seed = true;
    s->temperature = p->temperature;
    s->top_k = (uint32_t)p->top_k;
    s->top_p = p->top_p;
    s->min_p = p->min_p;
    s->repetition_penalty = p->repetition_penalty;
    s->presence_penalty = p->presence_penalty;
    s->frequency_penalty = p->frequency_penalty;
    s->seed = p->seed;
}

static void generate_fill(Cordee__Generate *g, const struct journal_entry *en)
{
    const struct gen_request *r = &en->req;
    cordee__generate__init(g);
    g->ids = wire_ids(r->ids);
    g->n_ids = (size_t)r->n_ids;
    g->has_max_tokens = g->has_min_tokens = g->has_ignore_eos = g->has_no_text = true;
    g->max_tokens = (uint32_t)r->max_tokens;
    g->min_tokens = (uint32_t)r->sampling.min_tokens;
    g->ignore_eos = g->no_text = true; /* all end tokens are in stop_ids */
    g->stop_ids = wire_ids(r->sampling.end);
    g->n_stop_ids = (size_t)r->sampling.n_end;
    g->has_logprobs = r->logprobs || r->score_prompt;
    g->logprobs = (uint32_t)r->n_top;
    g->has_echo = true;
    g->echo = r->score_prompt && en->n_prompt_told < r->n_ids;
    g->has_echo_from = r->score_from > 0;
    g->echo_from = (uint32_t)r->score_from;
    g->has_embed = g->embed = r->embed;
    g->has_priority = g->has_choice = true;
    g->priority = r->priority;
    g->choice = r->sampling.choice;
    g->resume = wire_ids(en->tokens);
    g->n_resume = (size_t)en->n_tokens;
    g->key = (char *)(uintptr_t)r->key;
    g->adapter = (char *)(uintptr_t)r->adapter;
}

err link_encode(const struct journal_entry *en, struct buf *out, struct why *why)
{
    err e;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Generate g;
    Cordee__Sampling s;
    size_t n_bias = (size_t)en->req.sampling.n_bias;
    Cordee__Bias *bias = calloc(n_bias + 1, sizeof *bias), **list = calloc(n_bias + 1, sizeof *list);
    if (!bias || !list)
        FAIL(ERR_NOMEM, "no memory for %zu biases", n_bias);
    generate_fill(&g, en);
    sampling_fill(&s, &en->req.sampling);
    for (size_t i = 0; i < n_bias; i++) {
        cordee__bias__init(&bias[i]);
        bias[i].token = (uint32_t)en->req.sampling.bias[i].token;
        bias[i].bias = en->req.sampling.bias[i].bias;
        list[i] = &bias[i];
    }
    s.bias = list;
    s.n_bias = n_bias;
    g.sampling = &s;
    env.has_id = true;
    env.id = en->wire;
    env.body_case = CORDEE__ENVELOPE__BODY_GENERATE;
    env.generate = &g;
    TRY(frame_put_body(out, &env, why));
out:
    free(bias);
    free(list);
    return e;
}
