/* seq.c - see seq.h. */
#include "coordinator/engine/seq.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TO(state) (1u << SEQ_##state)
static const unsigned may_go[SEQ_STATE_COUNT] = {
    [SEQ_WAITING] = TO(RUNNING) | TO(ENDED),
    [SEQ_RUNNING] = TO(YIELDING) | TO(ENDED),
    [SEQ_YIELDING] = TO(WAITING) | TO(ENDED),
};

static void *copy(const void *src, int n, size_t size)
{
    void *p = malloc(n > 0 ? (size_t)n * size : 1);
    if (p && n > 0)
        memcpy(p, src, (size_t)n * size);
    return p;
}

err seq_open(const struct gen_request *req, int max_context, int page_rows, struct seq **out, struct why *why)
{
    err e;
    struct seq *s = calloc(1, sizeof *s);
    if (!s)
        FAIL(ERR_NOMEM, "request of %d tokens", req->n_ids);
    s->n_prompt = req->n_ids;
    s->n_resume = req->n_resume;
    s->n_known = req->n_ids + req->n_resume;
    s->max_tokens = req->max_tokens > max_context - req->n_ids ? max_context : req->n_ids + req->max_tokens;
    for (int i = 0; req->n_resume > 0 && i < req->sampling.n_end; i++)
        if (req->sampling.end[i] == req->resume[req->n_resume - 1])
            s->max_tokens = s->n_known; /* it had ended already */
    /* The last token is never a row: nothing follows it. */
    s->embed = req->embed;
    s->n_rows = req->embed ? s->n_prompt : req->max_tokens > 0 ? s->max_tokens - 1 : req->score_prompt ? s->n_prompt : 0;
    s->sampling = req->sampling;
    s->score = req->score_prompt;
    s->score_from = s->next_score = req->score_from;
    s->logprobs = req->logprobs;
    s->n_top = req->n_top;
    s->priority = req->priority;
    s->slot = s->lane = -1;

    int capacity = s->max_tokens > s->n_known ? s->max_tokens : s->n_known;
    s->tokens = calloc((size_t)capacity, sizeof *s->tokens);
    s->pages = calloc((size_t)(capacity / page_rows + 1), sizeof *s->pages);
    s->sampling.bias = copy(req->sampling.bias, req->sampling.n_bias, sizeof *req->sampling.bias);
    s->sampling.end = copy(req->sampling.end, req->sampling.n_end, sizeof *req->sampling.end);
    if (!s->tokens || !s->pages || !s->sampling.bias || !s->sampling.end)
        FAIL(ERR_NOMEM, "request of %d tokens", req->n_ids);
    memcpy(s->tokens, req->ids, (size_t)req->n_ids * sizeof *req->ids);
    if (req->n_resume > 0)
        memcpy(s->tokens + req->n_ids, req->resume, (size_t)req->n_resume * sizeof *req->resume);
    *out = s;
    s = NULL;
    e = ERR_OK;
out:
    seq_close(s);
    return e;
}

void seq_close(struct seq *s)
{
    if (!s)
        return;
    free((void *)s->sampling.bias);
    free((void *)s->sampling.end);
    free(s->pages);
    free(s->tokens);
    free(s);
}

void seq_go(struct seq *s, enum seq_state to)
{
    assert(may_go[s->state] & (1u << to));
    s->state = to;
}

struct sched_seq seq_view(const struct seq *s, bool held)
{
    return (struct sched_seq){
        .n_prompt = s->n_prompt, .n_known = s->n_known, .n_pending = s->n_pending, .n_rows = s->n_rows,
        .next = s->next, .n_flight = s->n_flight, .n_pages = s->n_pages, .lane = s->lane,
        .last_step = s->last_step, .priority = s->priority, .arrival = s->arrival,
        .open_bytes = s->opened ? 0 : seq_open_bytes(s), .held = held || s->state != SEQ_RUNNING,
        .whole = s->embed,
    };
}

bool seq_is_end(const struct seq *s, int32_t token)
{
    for (int i = 0; i < s->sampling.n_end; i++)
        if (s->sampling.end[i] == token)
            return true;
    return false;
}

bool seq_is_complete(const struct seq *s)
{
    if (s->embed || (s->score && s->next_score < s->n_prompt))
        return false;
    return s->n_known >= s->max_tokens;
}

enum finish seq_finish(const struct seq *s)
{
    return s->n_known > s->n_prompt && seq_is_end(s, s->tokens[s->n_known - 1]) ? FINISH_STOP : FINISH_LENGTH;
}

struct wire_sampler seq_sampler(const struct seq *s)
{
    const struct sample_params *p = &s->sampling;
    return (struct wire_sampler){
        .temperature = p->temperature, .top_p = p->top_p, .min_p = p->min_p,
        .repetition_penalty = p->repetition_penalty, .presence_penalty = p->presence_penalty,
        .frequency_penalty = p->frequency_penalty, .top_k = p->top_k, .min_tokens = p->min_tokens,
        .seed = p->seed, .choice = p->choice, .n_bias = (uint32_t)p->n_bias, .n_end = (uint32_t)p->n_end,
        /* Only the repetition penalty looks at the prompt. */
        .n_prompt = p->repetition_penalty != 1.0f ? (uint32_t)s->n_prompt : 0,
        .bias = p->bias, .end = p->end, .prompt = s->tokens,
    };
}

size_t seq_open_bytes(const struct seq *s)
{
    struct wire_sampler w = seq_sampler(s);
    return 64 + 24 + w.n_bias * 8ul + w.n_end * 4ul + w.n_prompt * 4ul;
}

void seq_rewind(struct seq *s)
{
    s->slot = s->lane = -1;
    s->opened = false;
    s->next = s->n_pending = s->n_pages = s->n_shared = s->n_announced = 0;
    assert(s->n_flight == 0);
}
