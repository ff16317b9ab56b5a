/* manifest.c - see manifest.h. */
#include "coordinator/batch/manifest.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

void manifest_init(struct manifest *m)
{
    buf_init(&m->json);
}

void manifest_fini(struct manifest *m)
{
    buf_fini(&m->json);
}

void manifest_put(struct manifest *m, const char *name, const char *value)
{
    buf_puts(&m->json, m->json.len ? ",\"" : "{\"");
    buf_puts(&m->json, name);
    buf_puts(&m->json, "\":");
    buf_put_json(&m->json, value, strlen(value), true);
}

void manifest_put_int(struct manifest *m, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    manifest_put(m, name, text);
}

/* Over all pieces, their types and the special ids. */
static uint64_t tokenizer_hash(const struct tokenizer *tok)
{
    int32_t facts[3] = { tokenizer_size(tok), tokenizer_bos(tok), tokenizer_eos(tok) };
    uint64_t h = XXH3_64bits(facts, sizeof facts);
    for (int32_t id = 0; id < facts[0]; id++) {
        size_t len = 0;
        const char *piece = tokenizer_piece(tok, id, &len);
        h = XXH3_64bits_withSeed(piece ? piece : "", piece ? len : 0, h + (uint64_t)tokenizer_type(tok, id));
    }
    return h;
}

void manifest_put_model(struct manifest *m, const struct config *c, const struct model_facts *facts,
                        const struct tokenizer *tok)
{
    char hash[24];
    snprintf(hash, sizeof hash, "%016" PRIx64, tokenizer_hash(tok));
    manifest_put(m, "model", facts->name);
    manifest_put(m, "model_hash", facts->hash);
    manifest_put(m, "tokenizer_hash", hash);
    manifest_put(m, "fingerprint", facts->fingerprint);
    manifest_put(m, "precision", c->precision);
    manifest_put(m, "kv_type", c->kv_type);
    manifest_put(m, "wire", c->wire);
    manifest_put_int(m, "context", facts->max_context);
    struct buf adapters = { 0 };
    for (int i = 0; i < c->n_lora; i++)
        buf_printf(&adapters, "%s%s=%s", i ? " " : "", c->lora[i].name, c->lora[i].path);
    manifest_put(m, "adapters", adapters.data ? adapters.data : "");
    buf_fini(&adapters);
}

err manifest_text(const struct manifest *m, struct buf *out, struct why *why)
{
    buf_clear(out);
    buf_puts(out, m->json.len ? "" : "{");
    buf_put(out, m->json.data, m->json.len);
    buf_putc(out, '}');
    return out->failed || m->json.failed ? why_set(why, ERR_NOMEM, "manifest") : ERR_OK;
}

static void put_change(struct buf *out, const char *name, const json_t *was, const json_t *is)
{
    const char *a = json_string_value(was), *b = json_string_value(is);
    buf_printf(out, "%s%s was \"%.80s\", is \"%.80s\"", out->len ? "; " : "", name, a ? a : "(absent)",
               b ? b : "(absent)");
}

err manifest_compare(const char *begun, size_t begun_len, const char *now, size_t now_len, struct why *why)
{
    json_t *was = json_loadb(begun, begun_len, 0, NULL), *is = json_loadb(now, now_len, 0, NULL);
    struct buf changes = { 0 };
    const char *name;
    json_t *value;
    err e = ERR_OK;
    if (!json_is_object(was) || !json_is_object(is))
        FAIL(ERR_FORMAT, "the journal's manifest cannot be read");
    json_object_foreach(is, name, value)
        if (!json_equal(json_object_get(was, name), value))
            put_change(&changes, name, json_object_get(was, name), value);
    json_object_foreach(was, name, value)
        if (!json_object_get(is, name))
            put_change(&changes, name, value, NULL);
    if (changes.len)
        FAIL(ERR_INVAL, "this run was begun differently: %.400s; change it back, or give another output file",
             changes.data);
out:
    buf_fini(&changes);
    json_decref(was);
    json_decref(is);
    return e;
}
