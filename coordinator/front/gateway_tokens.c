/* gateway_tokens.c - POST /tokenize, POST /detokenize, GET /tokenizer_info: the
 * remote tokenizer of evaluation harnesses. Special tokens in the text count, as
 * harnesses look up the end token's id by its name. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/front/gateway_route.h"

static err tokenize(const struct route_request *r, const struct openai_tokenize *req, struct buf *body,
                    struct why *why)
{
    err e;
    const struct tokenizer *tok = front_tokenizer(r->g->o.front);
    struct tok_ids ids = { 0 };
    struct openai_text *strs = NULL;
    unsigned flags = ENCODE_PARSE_SPECIAL | (req->add_special_tokens ? ENCODE_ADD_SPECIAL : 0u);
    TRY(tokenizer_encode(tok, req->prompt.text, req->prompt.len, flags, &ids, why));
    if (ids.n > INT_MAX)
        FAIL(ERR_LIMIT, "the text has %zu tokens", ids.n);
    if (req->return_token_strs) {
        strs = calloc(ids.n + 1, sizeof *strs);
        if (!strs)
            FAIL(ERR_NOMEM, "no memory for %zu tokens", ids.n);
        for (size_t i = 0; i < ids.n; i++)
            strs[i].text = tokenizer_piece(tok, ids.id[i], &strs[i].len);
    }
    openai_put_tokenized(body, ids.id, strs, (int)ids.n, front_backend(r->g->o.front)->facts.max_context);
out:
    free(strs);
    tok_ids_fini(&ids);
    return e;
}

void route_tokenize(const struct route_request *r)
{
    struct openai_tokenize req = { 0 };
    struct fault fault = { 0 };
    struct buf body = { 0 };
    size_t len;
    const char *json = http_body(r->x, &len);
    err e = openai_tokenize_parse(json, len, &req, &fault);
    if (e == ERR_OK && !gateway_model_known(r, req.model))
        goto out; /* answered */
    if (e == ERR_OK)
        e = tokenize(r, &req, &body, &fault.why);
    if (e != ERR_OK)
        gateway_reply_fault(r->x, e, &fault);
    else
        gateway_reply_json(r->x, 200, &body);
out:
    buf_fini(&body);
    openai_tokenize_fini(&req);
}

void route_detokenize(const struct route_request *r)
{
    struct openai_detokenize req = { 0 };
    struct fault fault = { 0 };
    struct buf text = { 0 }, body = { 0 };
    size_t len;
    const char *json = http_body(r->x, &len);
    err e = openai_detokenize_parse(json, len, &req, &fault);
    if (e == ERR_OK && !gateway_model_known(r, req.model))
        goto out; /* answered */
    if (e == ERR_OK)
        e = tokenizer_decode(front_tokenizer(r->g->o.front), req.tokens, (size_t)req.n_tokens, false, &text,
                             &fault.why);
    if (e == ERR_OK) {
        openai_put_detokenized(&body, (struct openai_text){ text.data, text.len });
        gateway_reply_json(r->x, 200, &body);
    } else {
        gateway_reply_fault(r->x, e, &fault);
    }
out:
    buf_fini(&text);
    buf_fini(&body);
    openai_detokenize_fini(&req);
}

static struct openai_text piece_of(const struct tokenizer *tok, int id)
{
    struct openai_text t = { 0 };
    if (id >= 0)
        t.text = tokenizer_piece(tok, id, &t.len);
    return t;
}

void route_tokenizer_info(const struct route_request *r)
{
    const struct tokenizer *tok = front_tokenizer(r->g->o.front);
    const char *tmpl = r->g->o.chat_template;
    struct openai_text none = { 0 }, chat = { tmpl, tmpl ? strlen(tmpl) : 0 };
    struct buf body = { 0 };
    openai_put_tokenizer_info(&body, piece_of(tok, tokenizer_bos(tok)), piece_of(tok, tokenizer_eos(tok)), none,
                              chat, front_backend(r->g->o.front)->facts.max_context);
    gateway_reply_json(r->x, 200, &body);
    buf_fini(&body);
}
