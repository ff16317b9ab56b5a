/* openai_response.c - answers, stream chunks and the legacy logprobs object.
 *
 * A logprobs object is four parallel lists. They grow as four buffers of finished
 * JSON while tokens arrive, so neither a long echo nor a long answer is ever held
 * as a tree.
 *
 * Keys of one top_logprobs object must differ, or a reader silently loses an
 * entry; a token whose text is taken (two ids may decode to the same text) is
 * listed as "token_id:N". The chosen token is always in its object, with the very
 * digits of token_logprobs: evaluation harnesses compare the two for equality.
 */
#include "api/openai.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/openai_put.h"

void openai_put_logprob(struct buf *out, float logprob)
{
    if (isnan(logprob))
        buf_puts(out, "null");
    else if (isinf(logprob))
        buf_puts(out, "-9999.0");
    else
        buf_printf(out, "%.9g", (double)logprob);
}

void openai_put_token_text(struct buf *out, struct openai_text bytes)
{
    if (utf8_valid_prefix(bytes.text, bytes.len) == bytes.len) {
        buf_put_json(out, bytes.text, bytes.len, false);
        return;
    }
    buf_puts(out, "\"bytes:");
    for (size_t i = 0; i < bytes.len; i++)
        buf_printf(out, "\\\\x%02x", (unsigned char)bytes.text[i]);
    buf_putc(out, '"');
}

static bool same_text(struct openai_text a, struct openai_text b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.text, b.text, a.len) == 0);
}

static void put_top(struct buf *out, int32_t id, struct openai_text bytes, float logprob, bool taken)
{
    if (out->data[out->len - 1] != '{')
        buf_putc(out, ',');
    if (taken)
        buf_printf(out, "\"token_id:%" PRId32 "\"", id);
    else
        openai_put_token_text(out, bytes);
    buf_putc(out, ':');
    openai_put_logprob(out, logprob);
}

/* {"text": logprob, ...}: the chosen token, then the alternatives, best first. */
static void put_tops(struct buf *out, const struct openai_token *t)
{
    if (isnan(t->logprob)) {
        buf_puts(out, "null");
        return;
    }
    buf_putc(out, '{');
    put_top(out, t->id, t->bytes, t->logprob, false);
    for (int i = 0; i < t->n_top && !out->failed; i++) {
        const struct openai_top *a = &t->top[i];
        if (a->id == t->id)
            continue;
        bool taken = same_text(a->bytes, t->bytes);
        for (int j = 0; j < i && !taken; j++)
            taken = same_text(a->bytes, t->top[j].bytes);
        put_top(out, a->id, a->bytes, a->logprob, taken);
    }
    buf_putc(out, '}');
}

void openai_logprobs_add(struct openai_logprobs *lp, const struct openai_token *t)
{
    if (lp->tokens.len) {
        buf_putc(&lp->tokens, ',');
        buf_putc(&lp->values, ',');
        buf_putc(&lp->tops, ',');
        buf_putc(&lp->offsets, ',');
    }
    openai_put_token_text(&lp->tokens, t->bytes);
    openai_put_logprob(&lp->values, t->logprob);
    put_tops(&lp->tops, t);
    buf_printf(&lp->offsets, "%zu", t->offset);
}

void openai_logprobs_clear(struct openai_logprobs *lp)
{
    buf_clear(&lp->tokens);
    buf_clear(&lp->values);
    buf_clear(&lp->tops);
    buf_clear(&lp->offsets);
}

void openai_logprobs_fini(struct openai_logprobs *lp)
{
    buf_fini(&lp->tokens);
    buf_fini(&lp->values);
    buf_fini(&lp->tops);
    buf_fini(&lp->offsets);
}

static void put_list(struct buf *out, const char *name, const struct buf *items)
{
    buf_printf(out, "%s:[", name);
    buf_put(out, items->data, items->len);
    buf_putc(out, ']');
}

void openai_put_ids(struct buf *out, const char *name, const int32_t *ids, int n)
{
    buf_printf(out, "%s:[", name);
    for (int i = 0; i < n; i++)
        buf_printf(out, i ? ",%" PRId32 : "%" PRId32, ids[i]);
    buf_putc(out, ']');
}

void openai_put_string(struct buf *out, const char *name, const char *s)
{
    buf_printf(out, "%s:", name);
    if (s)
        buf_put_json(out, s, strlen(s), false);
    else
        buf_puts(out, "null");
}

void openai_put_ending(struct buf *out, const struct openai_choice *c)
{
    openai_put_string(out, ",\"finish_reason\"", c->finish_reason);
    buf_puts(out, ",\"stop_reason\":");
    if (c->stop)
        buf_put_json(out, c->stop->text, c->stop->len, false);
    else if (c->stop_id >= 0)
        buf_printf(out, "%" PRId32, c->stop_id);
    else
        buf_puts(out, "null");
    if (c->prompt_ids)
        openai_put_ids(out, ",\"prompt_token_ids\"", c->prompt_ids, c->n_prompt_ids);
    if (c->token_ids)
        openai_put_ids(out, ",\"token_ids\"", c->token_ids, c->n_token_ids);
}

static void put_choice(struct buf *out, const struct openai_choice *c)
{
    buf_printf(out, "{\"index\":%d,\"text\":", c->index);
    buf_put_json(out, c->text.text ? c->text.text : "", c->text.len, false);
    if (c->logprobs) {
        put_list(out, ",\"logprobs\":{\"tokens\"", &c->logprobs->tokens);
        put_list(out, ",\"token_logprobs\"", &c->logprobs->values);
        put_list(out, ",\"top_logprobs\"", &c->logprobs->tops);
        put_list(out, ",\"text_offset\"", &c->logprobs->offsets);
        buf_putc(out, '}');
    } else {
        buf_puts(out, ",\"logprobs\":null");
    }
    openai_put_ending(out, c);
    buf_putc(out, '}');
}

void openai_put_head(struct buf *out, const struct openai_head *head)
{
    openai_put_string(out, "{\"id\"", head->id);
    openai_put_string(out, ",\"object\"", head->object);
    buf_printf(out, ",\"created\":%" PRId64, head->created);
    openai_put_string(out, ",\"model\"", head->model);
    openai_put_string(out, ",\"system_fingerprint\"", head->fingerprint);
    buf_puts(out, ",\"choices\":[");
}

void openai_put_usage(struct buf *out, const struct openai_usage *usage)
{
    if (!usage)
        return;
    buf_printf(out,
               ",\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64
               ",\"total_tokens\":%" PRIu64 ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64 "}}",
               usage->prompt_tokens, usage->completion_tokens,
               usage->prompt_tokens + usage->completion_tokens, usage->cached_tokens);
}

void openai_put_completion(struct buf *out, const struct openai_head *head,
                           const struct openai_choice *choices, int n_choices,
                           const struct openai_usage *usage)
{
    openai_put_head(out, head);
    for (int i = 0; i < n_choices; i++) {
        if (i)
            buf_putc(out, ',');
        put_choice(out, &choices[i]);
    }
    buf_putc(out, ']');
    openai_put_usage(out, usage);
    buf_putc(out, '}');
}

/* ---- errors -------------------------------------------------------------------- */

int openai_status(err code)
{
    switch (code) {
    case ERR_INVAL:
    case ERR_FORMAT:
    case ERR_SHAPE:
    case ERR_UNSUPPORTED:
    case ERR_LIMIT:
        return 400;
    case ERR_NOTFOUND:
        return 404;
    case ERR_FULL:
    case ERR_AGAIN:
        return 429;
    case ERR_PEER:
    case ERR_TIMEOUT:
    case ERR_CANCELLED:
        return 503;
    default:
        return 500;
    }
}

void openai_put_error(struct buf *out, int status, const char *message, const char *param, const char *code)
{
    const char *type = status == 401   ? "authentication_error"
                       : status == 429 ? "rate_limit_error"
                       : status == 503 ? "service_unavailable"
                       : status >= 500 ? "server_error"
                                       : "invalid_request_error";
    openai_put_string(out, "{\"error\":{\"message\"", message);
    openai_put_string(out, ",\"type\"", type);
    openai_put_string(out, ",\"param\"", param);
    openai_put_string(out, ",\"code\"", code);
    buf_puts(out, "}}");
}

void openai_put_fault(struct buf *out, err code, const struct fault *fault)
{
    const char *name = code == ERR_LIMIT ? "context_length_exceeded"
                       : code == ERR_NOTFOUND && fault->param && !strcmp(fault->param, "model") ? "model_not_found"
                                                                                                : NULL;
    openai_put_error(out, openai_status(code), fault->why.text[0] ? fault->why.text : err_text(code), fault->param,
                     name);
}

/* ---- models ---------------------------------------------------------------------- */

void openai_put_model(struct buf *out, const struct openai_model *m)
{
    openai_put_string(out, "{\"id\"", m->id);
    buf_printf(out, ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"cordee\"", m->created);
    buf_printf(out, ",\"max_model_len\":%d,\"parameters\":%" PRIu64, m->max_context, m->n_params);
    openai_put_string(out, ",\"family\"", m->family);
    openai_put_string(out, ",\"hash\"", m->hash);
    if (m->parent)
        openai_put_string(out, ",\"parent\"", m->parent);
    buf_putc(out, '}');
}

void openai_put_models(struct buf *out, const struct openai_model *m, int n)
{
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < n; i++) {
        if (i)
            buf_putc(out, ',');
        openai_put_model(out, &m[i]);
    }
    buf_puts(out, "]}");
}
