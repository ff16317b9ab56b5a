/* json_postprocessor.c - the "post_processor" section: which ids stand around
 * a text. Only the single-text templates matter here; offsets are not kept. */
#include <string.h>

#include "tokenizer/json_read.h"

struct around {
    int32_t before[TEMPLATE_MAX_IDS], after[TEMPLATE_MAX_IDS];
    size_t n_before, n_after;
};

static err put_around(struct around *a, bool seen_text, int32_t id, const struct tokenizer *t, struct why *why)
{
    size_t *n = seen_text ? &a->n_after : &a->n_before;
    if (id < 0 || (size_t)id >= t->vocab.n)
        return why_set(why, ERR_FORMAT, "tokenizer.json: post_processor uses id %d of %zu", id, t->vocab.n);
    if (*n == TEMPLATE_MAX_IDS)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: more than %d special tokens", TEMPLATE_MAX_IDS);
    (seen_text ? a->after : a->before)[(*n)++] = id;
    return ERR_OK;
}

static err put_special(struct around *a, bool seen_text, const json_t *o, const json_t *x, const struct tokenizer *t,
                       struct why *why)
{
    const char *name;
    size_t len, i;
    json_t *id;
    err e = json_get_string(x, "id", &name, &len, why);
    if (e != ERR_OK)
        return e;
    json_t *ids = name ? json_get(json_get(json_get(o, "special_tokens"), name), "ids") : NULL;
    if (!json_is_array(ids) || json_array_size(ids) == 0)
        return why_set(why, ERR_FORMAT, "tokenizer.json: post_processor: special token without ids");
    json_array_foreach(ids, i, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= VOCAB_MAX_IDS)
            return why_set(why, ERR_FORMAT, "tokenizer.json: post_processor: bad id");
        e = put_around(a, seen_text, (int32_t)json_integer_value(id), t, why);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static err read_template(const json_t *o, const struct tokenizer *t, struct around *a, struct why *why)
{
    size_t i;
    json_t *piece;
    bool seen = false;
    json_t *single = json_get(o, "single");
    if (!json_is_array(single))
        return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: post_processor without a template for one text");
    json_array_foreach(single, i, piece) {
        json_t *special = json_get(piece, "SpecialToken"), *text = json_get(piece, "Sequence");
        const char *name = json_string_value(json_get(text, "id"));
        if (special) {
            err e = put_special(a, seen, o, special, t, why);
            if (e != ERR_OK)
                return e;
        } else if (name && strcmp(name, "A") == 0 && !seen) {
            seen = true;
        } else {
            return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: post_processor: template item %zu", i);
        }
    }
    return seen ? ERR_OK : why_set(why, ERR_UNSUPPORTED, "tokenizer.json: post_processor: template without text");
}

/* "cls": ["<s>", 0] */
static err read_pair(const json_t *o, const char *key, bool after, const struct tokenizer *t, struct around *a,
                     struct why *why)
{
    json_t *id = json_array_get(json_get(o, key), 1);
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= VOCAB_MAX_IDS)
        return why_set(why, ERR_FORMAT, "tokenizer.json: post_processor: \"%s\"", key);
    return put_around(a, after, (int32_t)json_integer_value(id), t, why);
}

/* A later processor wraps what the earlier ones made. */
static err wrap(struct tokenizer *t, const struct around *a, struct why *why)
{
    if (t->n_before + a->n_before > TEMPLATE_MAX_IDS || t->n_after + a->n_after > TEMPLATE_MAX_IDS)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: more than %d special tokens", TEMPLATE_MAX_IDS);
    memmove(t->before + a->n_before, t->before, t->n_before * sizeof *t->before);
    memcpy(t->before, a->before, a->n_before * sizeof *t->before);
    t->n_before += a->n_before;
    memcpy(t->after + t->n_after, a->after, a->n_after * sizeof *t->after);
    t->n_after += a->n_after;
    return ERR_OK;
}

static err read_step(const json_t *o, const char *type, void *ctx, struct why *why)
{
    err e;
    struct tokenizer *t = ctx;
    struct around a = {0};
    if (strcmp(type, "ByteLevel") == 0) /* offsets only */
        return ERR_OK;
    if (strcmp(type, "TemplateProcessing") == 0) {
        TRY(read_template(o, t, &a, why));
    } else if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0) {
        TRY(read_pair(o, "cls", false, t, &a, why));
        TRY(read_pair(o, "sep", true, t, &a, why));
    } else {
        FAIL(ERR_UNSUPPORTED, "tokenizer.json: post_processor \"%.60s\" is not known", type);
    }
    TRY(wrap(t, &a, why));
out:
    return e;
}

err json_postprocessor(const json_t *o, struct tokenizer *t, struct why *why)
{
    return json_each_step(o, "processors", read_step, t, why);
}
