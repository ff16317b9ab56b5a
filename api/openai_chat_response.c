/* openai_chat_response.c - chat answers and the chunks of chat streams.
 *
 * Log-probabilities are a list of objects here, not four parallel lists, so they grow
 * in one buffer while tokens arrive.
 */
#include <inttypes.h>

#include "api/openai_chat.h"
#include "api/openai_put.h"

static void put_bytes(struct buf *out, struct openai_text t)
{
    buf_puts(out, ",\"bytes\":[");
    for (size_t i = 0; i < t.len; i++)
        buf_printf(out, i ? ",%u" : "%u", (unsigned)(unsigned char)t.text[i]);
    buf_putc(out, ']');
}

static void put_priced(struct buf *out, struct openai_text bytes, float logprob)
{
    buf_puts(out, "{\"token\":");
    openai_put_token_text(out, bytes);
    buf_puts(out, ",\"logprob\":");
    openai_put_logprob(out, logprob);
    put_bytes(out, bytes);
}

void openai_chat_logprobs_add(struct openai_logprobs *lp, const struct openai_token *t)
{
    struct buf *out = &lp->tokens;
    if (out->len)
        buf_putc(out, ',');
    put_priced(out, t->bytes, t->logprob);
    buf_puts(out, ",\"top_logprobs\":[");
    for (int i = 0; i < t->n_top; i++) {
        if (i)
            buf_putc(out, ',');
        put_priced(out, t->top[i].bytes, t->top[i].logprob);
        buf_putc(out, '}');
    }
    buf_puts(out, "]}");
}

static void put_logprobs(struct buf *out, const struct openai_logprobs *lp)
{
    if (!lp) {
        buf_puts(out, ",\"logprobs\":null");
        return;
    }
    buf_puts(out, ",\"logprobs\":{\"content\":[");
    buf_put(out, lp->tokens.data, lp->tokens.len);
    buf_puts(out, "],\"refusal\":null}");
}

static void put_message(struct buf *out, const struct openai_choice *c)
{
    buf_puts(out, "\"message\":{\"role\":\"assistant\",\"content\":");
    buf_put_json(out, c->text.text ? c->text.text : "", c->text.len, false);
    buf_puts(out, ",\"refusal\":null}");
}

/* The first delta of a choice names the role; the last may have no text left. */
static void put_delta(struct buf *out, const struct openai_choice *c)
{
    buf_puts(out, "\"delta\":{");
    if (c->role)
        buf_puts(out, "\"role\":\"assistant\",");
    if (c->role || c->text.len || !c->finish_reason) {
        buf_puts(out, "\"content\":");
        buf_put_json(out, c->text.text ? c->text.text : "", c->text.len, false);
    }
    buf_putc(out, '}');
}

static void put_answer(struct buf *out, const struct openai_head *head, const struct openai_choice *choices, int n,
                       const struct openai_usage *usage, void (*put_text)(struct buf *, const struct openai_choice *))
{
    openai_put_head(out, head);
    for (int i = 0; i < n; i++) {
        buf_printf(out, i ? ",{\"index\":%d," : "{\"index\":%d,", choices[i].index);
        put_text(out, &choices[i]);
        put_logprobs(out, choices[i].logprobs);
        openai_put_ending(out, &choices[i]);
        buf_putc(out, '}');
    }
    buf_putc(out, ']');
    openai_put_usage(out, usage);
    buf_putc(out, '}');
}

void openai_put_chat(struct buf *out, const struct openai_head *head, const struct openai_choice *choices,
                     int n_choices, const struct openai_usage *usage)
{
    put_answer(out, head, choices, n_choices, usage, put_message);
}

void openai_put_chat_chunk(struct buf *out, const struct openai_head *head, const struct openai_choice *choices,
                           int n_choices, const struct openai_usage *usage)
{
    put_answer(out, head, choices, n_choices, usage, put_delta);
}

void openai_put_template(struct buf *out, struct openai_text prompt)
{
    buf_puts(out, "{\"prompt\":");
    buf_put_json(out, prompt.text ? prompt.text : "", prompt.len, false);
    buf_putc(out, '}');
}
