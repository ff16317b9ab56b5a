/* source_describe.c - what `cordee inspect` says of a source. */
#include "model/source_own.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "model/shards.h"

struct fact_out {
    struct buf *out;
    bool json, first;
};

static void put_key(struct fact_out *f, const char *key)
{
    if (f->json) {
        buf_puts(f->out, f->first ? "" : ",");
        buf_put_json(f->out, key, strlen(key), true);
        buf_putc(f->out, ':');
    } else {
        buf_printf(f->out, "%-18s", key);
    }
    f->first = false;
}

static void put_text(struct fact_out *f, const char *key, const char *text)
{
    put_key(f, key);
    if (f->json)
        buf_put_json(f->out, text, strlen(text), true);
    else
        buf_printf(f->out, "%s\n", text);
}

static void put_count(struct fact_out *f, const char *key, uint64_t n)
{
    put_key(f, key);
    buf_printf(f->out, f->json ? "%" PRIu64 : "%" PRIu64 "\n", n);
}

static bool same_type(const struct file_tensor *a, const struct file_tensor *b)
{
    return strcmp(a->type_name, b->type_name) == 0 && a->codec == b->codec && a->fmt == b->fmt;
}

/* "Q4_K 120, F32 33": how many tensors of each type, in order of appearance; "GPTQ as q4_0 7"
 * if they are computed with as another one. */
static void put_types(struct fact_out *f, const struct source *s)
{
    const struct catalog *c = &s->reader.tensors;
    struct buf text;

    buf_init(&text);
    for (size_t i = 0; i < c->n; i++) {
        size_t n = 0;
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = same_type(&c->t[k], &c->t[i]);
        if (seen)
            continue;
        for (size_t k = i; k < c->n; k++)
            n += same_type(&c->t[k], &c->t[i]);
        const bool coded = c->t[i].codec != CODEC_PLAIN && c->t[i].fmt != FMT_COUNT;
        buf_printf(&text, "%s%s%s%s %zu", text.len ? ", " : "", c->t[i].type_name, coded ? " as " : "",
                   coded ? fmt_traits[c->t[i].fmt].name : "", n);
    }
    put_text(f, "types", text.len ? text.data : "");
    buf_fini(&text);
}

static void put_shape(struct fact_out *f, const struct hparams *hp)
{
    put_count(f, "layers", (uint64_t)hp->n_layer);
    put_count(f, "embedding", (uint64_t)hp->n_embd);
    put_count(f, "feed_forward", (uint64_t)hp->n_ff);
    put_count(f, "heads", (uint64_t)hp->n_head);
    put_count(f, "kv_heads", (uint64_t)hp->n_head_kv);
    put_count(f, "head_dim", (uint64_t)hp->head_dim_k);
    put_count(f, "vocabulary", (uint64_t)hp->n_vocab);
    put_count(f, "context", (uint64_t)hp->n_ctx_train);
    if (hp->window)
        put_count(f, "window", (uint64_t)hp->window);
    if (hp->n_expert) {
        put_count(f, "experts", (uint64_t)hp->n_expert);
        put_count(f, "experts_a_token", (uint64_t)hp->n_expert_used);
    }
}

/* Opening it is the only way to know whether it can be used. */
static void put_tokenizer(struct fact_out *f, const struct source *s)
{
    struct tokenizer *t = NULL;
    struct why why = {""};
    char text[96];

    if (source_tokenizer(s, &t, &why)) {
        put_text(f, "tokenizer", why.text);
        return;
    }
    const int32_t *ends;
    const size_t n_ends = tokenizer_eog(t, &ends);
    int at = snprintf(text, sizeof text, "%s, %d tokens", tokenizer_kind(t), tokenizer_size(t));
    if (tokenizer_bos(t) >= 0)
        at += snprintf(text + at, sizeof text - (size_t)at, ", begin %d", tokenizer_bos(t));
    for (size_t i = 0; i < n_ends && i < 4; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%s %d", i ? "" : ", end", ends[i]);
    put_text(f, "tokenizer", text);
    tokenizer_close(t);
}

void source_describe(const struct source *s, bool json, struct buf *out)
{
    struct fact_out f = {.out = out, .json = json, .first = true};

    if (json)
        buf_putc(out, '{');
    put_text(&f, "name", source_name(s));
    put_text(&f, "format", s->reader.type->name);
    put_text(&f, "family", s->reader.family ? s->reader.family : "unknown");
    put_count(&f, "file_bytes", s->reader.file_bytes);
    put_count(&f, "tensors", s->reader.tensors.n);
    put_count(&f, "parameters", source_parameters(s));
    put_types(&f, s);
    if (s->hp.n_layer)
        put_shape(&f, &s->hp);
    put_tokenizer(&f, s);
    if (s->reader.shards)
        put_count(&f, "stages", (uint64_t)s->reader.shards->n_stages);
    put_text(&f, "chat_template", s->reader.chat_template ? "yes" : "no");
    put_text(&f, "hash", s->hash);
    put_text(&f, "runnable", s->not_runnable ? s->why_not.text : "yes");
    if (json)
        buf_puts(out, "}\n");
}
