/* request.c - see request.h. */
#include "coordinator/engine/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"

static err check_ids(const char *what, const int32_t *ids, int n, int n_vocab, struct why *why)
{
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= n_vocab)
            return why_set(why, ERR_INVAL, "%s %d is %d, the vocabulary has %d tokens", what, i, ids[i], n_vocab);
    return ERR_OK;
}

static err check_sampling(const struct sample_params *p, int n_vocab, struct why *why)
{
    err e;
    if (!isfinite(p->temperature) || p->temperature < 0)
        FAIL(ERR_INVAL, "temperature must be 0 or more");
    if (!(p->top_p >= 0 && p->top_p <= 1) || !(p->min_p >= 0 && p->min_p <= 1))
        FAIL(ERR_INVAL, "top_p and min_p must be from 0 to 1");
    if (!isfinite(p->repetition_penalty) || p->repetition_penalty <= 0)
        FAIL(ERR_INVAL, "repetition_penalty must be more than 0");
    if (!isfinite(p->presence_penalty) || !isfinite(p->frequency_penalty))
        FAIL(ERR_INVAL, "presence_penalty and frequency_penalty must be finite");
    if (p->top_k < 0 || p->min_tokens < 0)
        FAIL(ERR_INVAL, "top_k and min_tokens must be 0 or more");
    if (p->n_bias < 0 || p->n_bias > WIRE_MAX_BIAS)
        FAIL(ERR_LIMIT, "logit_bias has %d entries, at most %d", p->n_bias, WIRE_MAX_BIAS);
    if (p->n_end < 0 || p->n_end > WIRE_MAX_END)
        FAIL(ERR_LIMIT, "%d end tokens, at most %d", p->n_end, WIRE_MAX_END);
    for (int i = 0; i < p->n_bias; i++)
        if (p->bias[i].token < 0 || p->bias[i].token >= n_vocab || !isfinite(p->bias[i].bias))
            FAIL(ERR_INVAL, "logit_bias for token %d is out of range", p->bias[i].token);
    TRY(check_ids("end token", p->end, p->n_end, n_vocab, why));
out:
    return e;
}

err request_check(const struct gen_request *req, int n_vocab, int context, struct why *why)
{
    err e;
    if (req->n_ids < 1)
        FAIL(ERR_INVAL, "the prompt is empty");
    if (req->max_tokens < 0 || req->n_resume < 0 || req->n_resume > req->max_tokens)
        FAIL(ERR_INVAL, "max_tokens %d with %d tokens generated before", req->max_tokens, req->n_resume);
    if (req->score_from < 0 || req->score_from >= req->n_ids)
        FAIL(ERR_INVAL, "scores from prompt token %d on, the prompt has %d", req->score_from, req->n_ids);
    if (req->n_top < 0 || req->n_top > SAMPLE_MAX_TOP)
        FAIL(ERR_INVAL, "%d alternatives, at most %d", req->n_top, SAMPLE_MAX_TOP);
    int least = req->max_tokens > 0 ? 1 : 0;
    if (req->n_resume > least)
        least = req->n_resume;
    if (req->n_ids > context - least)
        FAIL(ERR_LIMIT, "the prompt has %d tokens and needs room for %d more, the context is %d", req->n_ids, least,
             context);
    TRY(check_ids("prompt token", req->ids, req->n_ids, n_vocab, why));
    TRY(check_ids("resumed token", req->resume, req->n_resume, n_vocab, why));
    TRY(check_sampling(&req->sampling, n_vocab, why));
out:
    return e;
}

/* ---- fairness ------------------------------------------------------------------- */

struct fair_key *fair_key_get(struct fair_key **list, const char *name)
{
    uint64_t least = UINT64_MAX;
    if (!name)
        name = "";
    for (struct fair_key *k = *list; k; k = k->next) {
        if (!strcmp(k->name, name)) {
            k->n_live++;
            return k;
        }
        least = k->served < least ? k->served : least;
    }
    size_t bytes = strlen(name) + 1;
    struct fair_key *k = calloc(1, sizeof *k + bytes);
    if (!k)
        return NULL;
    memcpy(k->name, name, bytes);
    k->served = least == UINT64_MAX ? 0 : least;
    k->n_live = 1;
    k->next = *list;
    *list = k;
    return k;
}

void fair_key_drop(struct fair_key **list, struct fair_key *key)
{
    if (--key->n_live > 0)
        return;
    while (*list != key)
        list = &(*list)->next;
    *list = key->next;
    free(key);
}
