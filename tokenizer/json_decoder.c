/* json_decoder.c - the "decoder" section.
 *
 * Flattened to decoder.h's list. ByteLevel joins bytes across pieces, so it must
 * stand alone; behind Fuse only a Strip at the start has a meaning we can
 * stream. Other orders are refused: a wrong text is worse than none.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/json_read.h"
#include "tokenizer/text.h"

static bool fused(const struct dec_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->step[i].kind == DEC_FUSE)
            return true;
    return false;
}

static err read_strip(const json_t *o, struct dec_list *l, struct why *why)
{
    err e;
    int32_t start, stop;
    struct dec_step st = {.kind = fused(l) ? DEC_STRIP_TEXT : DEC_STRIP};
    TRY(json_get_id(o, "start", 0, &start, why));
    TRY(json_get_id(o, "stop", 0, &stop, why));
    if (stop != 0)
        FAIL(ERR_UNSUPPORTED, "tokenizer.json: decoder Strip at the end of the text");
    TRY(json_copy_string(o, "content", "", &st.text, &st.text_len, why));
    if (st.text_len == 0)
        FAIL(ERR_FORMAT, "tokenizer.json: decoder Strip without content");
    st.count = (size_t)start;
    e = dec_list_add(l, st, why);
    st.text = NULL;
out:
    free(st.text);
    return e;
}

static err read_replace(const json_t *o, struct dec_list *l, struct why *why)
{
    err e;
    struct regex *regex = NULL;
    struct dec_step st = {.kind = DEC_REPLACE};
    TRY(json_get_pattern(o, &st.text, &st.text_len, &regex, why));
    if (regex)
        FAIL(ERR_UNSUPPORTED, "tokenizer.json: decoder Replace with a Regex");
    TRY(json_copy_string(o, "content", "", &st.with, &st.with_len, why));
    e = dec_list_add(l, st, why);
    st = (struct dec_step){0};
out:
    regex_close(regex);
    free(st.text);
    free(st.with);
    return e;
}

static err read_metaspace(const json_t *o, struct dec_list *l, struct why *why)
{
    err e;
    const char *scheme;
    size_t scheme_len;
    bool add;
    struct dec_step st = {.kind = DEC_METASPACE};
    TRY(json_get_bool(o, "add_prefix_space", true, &add, why));
    TRY(json_get_string(o, "prepend_scheme", &scheme, &scheme_len, why));
    TRY(json_copy_string(o, "replacement", META, &st.text, &st.text_len, why));
    if (st.text_len == 0)
        FAIL(ERR_FORMAT, "tokenizer.json: Metaspace without replacement");
    st.drop = add && !(scheme && strcmp(scheme, "never") == 0);
    e = dec_list_add(l, st, why);
    st.text = NULL;
out:
    free(st.text);
    return e;
}

static err read_wordpiece(const json_t *o, struct dec_list *l, struct why *why)
{
    err e;
    struct dec_step st = {.kind = DEC_WORDPIECE};
    TRY(json_get_bool(o, "cleanup", true, &st.clean_up, why));
    TRY(json_copy_string(o, "prefix", "##", &st.text, &st.text_len, why));
    TRY(dec_list_add(l, st, why));
out:
    return e;
}

static err read_step(const json_t *o, const char *type, void *ctx, struct why *why)
{
    struct dec_list *l = ctx;
    if (strcmp(type, "Strip") == 0)
        return read_strip(o, l, why);
    if (strcmp(type, "Fuse") == 0)
        return fused(l) ? ERR_OK : dec_list_add(l, (struct dec_step){.kind = DEC_FUSE}, why);
    if (fused(l))
        return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: decoder \"%.60s\" behind Fuse", type);
    if (strcmp(type, "ByteLevel") == 0)
        return dec_list_add(l, (struct dec_step){.kind = DEC_BYTE_LEVEL}, why);
    if (strcmp(type, "ByteFallback") == 0)
        return dec_list_add(l, (struct dec_step){.kind = DEC_BYTE_FALLBACK}, why);
    if (strcmp(type, "Replace") == 0)
        return read_replace(o, l, why);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(o, l, why);
    if (strcmp(type, "WordPiece") == 0)
        return read_wordpiece(o, l, why);
    return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: decoder \"%.60s\" is not known", type);
}

static err check_order(const struct dec_list *l, struct why *why)
{
    for (size_t i = 0; i < l->n; i++) {
        bool alone = l->n == 1 || (i == 0 && l->n == 2 && l->step[1].kind == DEC_FUSE);
        if (l->step[i].kind == DEC_BYTE_LEVEL && !alone)
            return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: decoder ByteLevel among others");
        if (l->step[i].kind == DEC_STRIP_TEXT && i + 1 != l->n)
            return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: two decoder Strips behind Fuse");
    }
    return ERR_OK;
}

err json_decoder(const json_t *o, struct dec_list *l, struct why *why)
{
    l->blanks = !o;
    err e = json_each_step(o, "decoders", read_step, l, why);
    return e != ERR_OK ? e : check_order(l, why);
}
