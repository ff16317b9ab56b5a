/* json_config.c - tokenizer_config.json, as far as it changes ids.
 *
 * The template of tokenizer.json rules, except for the Llama and Gemma classes,
 * which rebuild it from add_bos_token and add_eos_token when they are loaded.
 */
#include <string.h>

#include "tokenizer/json_read.h"

/* "bos_token": "<s>" or {"content": "<s>"} */
static err read_token(const json_t *o, const char *key, const struct tokenizer *t, int32_t *out, struct why *why)
{
    const char *s;
    size_t len;
    json_t *x = json_get(o, key);
    if (!x)
        return ERR_OK;
    err e = json_is_object(x) ? json_get_string(x, "content", &s, &len, why) : json_get_string(o, key, &s, &len, why);
    if (e == ERR_OK && s)
        *out = vocab_find(&t->vocab, s, len);
    return e;
}

static bool class_decides(const json_t *o)
{
    static const char *const classes[] = {"LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer",
                                          "CodeLlamaTokenizerFast", "GemmaTokenizer", "GemmaTokenizerFast"};
    const char *name = json_string_value(json_get(o, "tokenizer_class"));
    for (size_t i = 0; name && i < sizeof classes / sizeof classes[0]; i++)
        if (strcmp(name, classes[i]) == 0)
            return true;
    return false;
}

/* Makes `id` present or absent at that side of the text. */
static err set_special(int32_t *list, size_t *n, int32_t id, bool want, bool in_front, struct why *why)
{
    size_t i = 0;
    while (i < *n && list[i] != id)
        i++;
    if (id < 0 || want == (i < *n))
        return ERR_OK;
    if (!want) {
        memmove(list + i, list + i + 1, (*n - i - 1) * sizeof *list);
        --*n;
        return ERR_OK;
    }
    if (*n == TEMPLATE_MAX_IDS)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer_config.json: too many special tokens");
    if (in_front)
        memmove(list + 1, list, *n * sizeof *list);
    list[in_front ? 0 : *n] = id;
    ++*n;
    return ERR_OK;
}

err json_config(const json_t *o, struct tokenizer *t, struct why *why)
{
    err e = ERR_OK;
    bool bos, eos;
    if (!o)
        return ERR_OK;
    TRY(read_token(o, "bos_token", t, &t->bos, why));
    TRY(read_token(o, "eos_token", t, &t->eos, why));
    if (!class_decides(o))
        return ERR_OK;
    TRY(json_get_bool(o, "add_bos_token", true, &bos, why));
    TRY(json_get_bool(o, "add_eos_token", false, &eos, why));
    TRY(set_special(t->before, &t->n_before, t->bos, bos, true, why));
    TRY(set_special(t->after, &t->n_after, t->eos, eos, false, why));
out:
    return e;
}
