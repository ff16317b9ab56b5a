/* front_prompt.c - see front_prompt.h. */
#include "coordinator/front/front_prompt.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

err front_prompt_make(const struct front_request *req, const struct tokenizer *tok, int n_vocab,
                      struct tok_ids *ids, struct why *why)
{
    err e;
    if (req->text) {
        unsigned flags = (req->add_special ? ENCODE_ADD_SPECIAL : 0u) |
                         (req->parse_special ? ENCODE_PARSE_SPECIAL : 0u);
        if (!tok)
            FAIL(ERR_UNSUPPORTED, "text needs a tokenizer; send token ids");
        TRY(tokenizer_encode(tok, req->text, req->text_len, flags, ids, why));
    } else if (req->n_ids > 0) {
        ids->id = malloc((size_t)req->n_ids * sizeof *ids->id);
        if (!ids->id)
            FAIL(ERR_NOMEM, "no memory for %d token ids", req->n_ids);
        memcpy(ids->id, req->ids, (size_t)req->n_ids * sizeof *ids->id);
        ids->n = ids->cap = (size_t)req->n_ids;
    }
    if (ids->n == 0)
        FAIL(ERR_INVAL, "the prompt is empty");
    if (ids->n > INT_MAX)
        FAIL(ERR_LIMIT, "the prompt has %zu tokens", ids->n);
    for (size_t i = 0; i < ids->n; i++)
        if (ids->id[i] < 0 || (n_vocab > 0 && ids->id[i] >= n_vocab))
            FAIL(ERR_INVAL, "prompt: token id %d is not in the vocabulary of %d", ids->id[i], n_vocab);
    e = ERR_OK;
out:
    return e;
}

err front_sampling_check(const struct front_request *req, int n_vocab, struct why *why)
{
    err e = ERR_OK;
    const struct sample_params *p = &req->sampling;
    n_vocab = n_vocab > 0 ? n_vocab : INT_MAX;
    /* Written so that NAN fails each. */
    if (!(p->temperature >= 0 && p->temperature <= 1000))
        FAIL(ERR_INVAL, "temperature must not be %g", (double)p->temperature);
    if (!(p->top_p > 0 && p->top_p <= 1) || !(p->min_p >= 0 && p->min_p <= 1) || p->top_k < 0)
        FAIL(ERR_INVAL, "top_p, min_p or top_k is out of range");
    if (!(p->repetition_penalty > 0 && p->repetition_penalty <= 1000) ||
        !(fabsf(p->presence_penalty) <= 1000) || !(fabsf(p->frequency_penalty) <= 1000))
        FAIL(ERR_INVAL, "a penalty is out of range");
    if (req->n_top < 0 || req->n_top > SAMPLE_MAX_TOP)
        FAIL(ERR_INVAL, "at most %d alternatives, not %d", SAMPLE_MAX_TOP, req->n_top);
    if (req->min_tokens < 0)
        FAIL(ERR_INVAL, "min_tokens is negative");
    for (int i = 0; i < p->n_bias; i++)
        if (p->bias[i].token < 0 || p->bias[i].token >= n_vocab || !isfinite(p->bias[i].bias))
            FAIL(ERR_INVAL, "logit_bias: token id %d is not in the vocabulary of %d", p->bias[i].token,
                 n_vocab);
    for (int i = 0; i < req->n_stop_ids; i++)
        if (req->stop_ids[i] < 0 || req->stop_ids[i] >= n_vocab)
            FAIL(ERR_INVAL, "stop id %d is not in the vocabulary of %d", req->stop_ids[i], n_vocab);
    for (int i = 0; i < req->n_resume; i++)
        if (req->resume[i] < 0 || req->resume[i] >= n_vocab)
            FAIL(ERR_INVAL, "resumed token id %d is not in the vocabulary of %d", req->resume[i], n_vocab);
out:
    return e;
}

err front_room(const struct front_request *req, size_t n_prompt, int context, int *max_tokens, struct why *why)
{
    *max_tokens = req->max_tokens < 0 ? INT_MAX : req->max_tokens;
    if (context <= 0)
        return ERR_OK;
    if (n_prompt + (*max_tokens > 0) > (size_t)context)
        return why_set(why, ERR_LIMIT, "the prompt has %zu tokens%s, the context is %d", n_prompt,
                       *max_tokens > 0 ? " and needs room for at least one more" : "", context);
    if (*max_tokens > context - (int)n_prompt)
        *max_tokens = context - (int)n_prompt;
    return ERR_OK;
}
