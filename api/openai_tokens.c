/* openai_tokens.c - /tokenize, /detokenize and /tokenizer_info in vLLM's shapes,
 * which are what evaluation harnesses use as a remote tokenizer. */
#include <inttypes.h>

#include "api/fields.h"
#include "api/openai.h"

err openai_tokenize_parse(const char *body, size_t len, struct openai_tokenize *out, struct fault *fault)
{
    static const struct field rows[] = {
        { "add_special_tokens", FIELD_BOOL, offsetof(struct openai_tokenize, add_special_tokens), 0, 0 },
        { "return_token_strs", FIELD_BOOL, offsetof(struct openai_tokenize, return_token_strs), 0, 0 },
    };
    err e;
    struct why *why = &fault->why;
    json_t *root = NULL;
    struct openai_tokenize r = { .add_special_tokens = true };
    arena_init(&r.arena, 0);
    TRY(fields_parse(body, len, &root, fault));
    TRY(fields_read(root, rows, sizeof rows / sizeof *rows, &r, fault));
    TRY(fields_text(root, "model", &r.arena, &r.model, fault));
    TRY(fields_text(root, "prompt", &r.arena, &r.prompt, fault));
    if (!r.prompt.text) {
        fault->param = "prompt";
        FAIL(ERR_INVAL, "prompt is missing");
    }
    *out = r;
    arena_init(&r.arena, 0); /* moved */
out:
    arena_fini(&r.arena);
    json_decref(root);
    return e;
}

void openai_tokenize_fini(struct openai_tokenize *r)
{
    arena_fini(&r->arena);
}

err openai_detokenize_parse(const char *body, size_t len, struct openai_detokenize *out, struct fault *fault)
{
    err e;
    json_t *root = NULL;
    struct openai_detokenize r = { 0 };
    arena_init(&r.arena, 0);
    TRY(fields_parse(body, len, &root, fault));
    TRY(fields_text(root, "model", &r.arena, &r.model, fault));
    TRY(fields_ids(fields_get(root, "tokens"), "tokens", &r.arena, &r.tokens, &r.n_tokens, fault));
    *out = r;
    arena_init(&r.arena, 0); /* moved */
out:
    arena_fini(&r.arena);
    json_decref(root);
    return e;
}

void openai_detokenize_fini(struct openai_detokenize *r)
{
    arena_fini(&r->arena);
}

void openai_put_tokenized(struct buf *out, const int32_t *ids, const struct openai_text *strs, int n,
                          int max_context)
{
    buf_printf(out, "{\"count\":%d,\"max_model_len\":%d,\"tokens\":[", n, max_context);
    for (int i = 0; i < n; i++)
        buf_printf(out, i ? ",%" PRId32 : "%" PRId32, ids[i]);
    buf_puts(out, "],\"token_strs\":");
    if (!strs) {
        buf_puts(out, "null}");
        return;
    }
    for (int i = 0; i < n; i++) {
        buf_putc(out, i ? ',' : '[');
        buf_put_json(out, strs[i].text ? strs[i].text : "", strs[i].len, false);
    }
    buf_puts(out, n ? "]}" : "[]}");
}

void openai_put_detokenized(struct buf *out, struct openai_text text)
{
    buf_puts(out, "{\"prompt\":");
    buf_put_json(out, text.text ? text.text : "", text.len, false);
    buf_putc(out, '}');
}

static void put_text(struct buf *out, const char *name, struct openai_text t)
{
    buf_printf(out, "\"%s\":", name);
    if (t.text)
        buf_put_json(out, t.text, t.len, false);
    else
        buf_puts(out, "null");
    buf_putc(out, ',');
}

void openai_put_tokenizer_info(struct buf *out, struct openai_text bos, struct openai_text eos,
                               struct openai_text pad, struct openai_text chat_template, int max_context)
{
    buf_putc(out, '{');
    put_text(out, "bos_token", bos);
    put_text(out, "eos_token", eos);
    put_text(out, "pad_token", pad);
    put_text(out, "chat_template", chat_template);
    buf_printf(out, "\"model_max_length\":%d}", max_context);
}
