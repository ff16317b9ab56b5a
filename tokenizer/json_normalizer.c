/* json_normalizer.c - the "normalizer" section. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tokenizer/json_read.h"

/* Base64, strict but for line ends. */
static err decode_base64(const char *s, size_t len, struct buf *out, struct why *why)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int n = 0;
    while (len > 0 && s[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '\n' || s[i] == '\r')
            continue;
        const char *at = s[i] ? strchr(digits, s[i]) : NULL;
        if (!at)
            return why_set(why, ERR_FORMAT, "tokenizer.json: precompiled_charsmap is not base64 at byte %zu", i);
        bits = bits << 6 | (uint32_t)(at - digits);
        if (++n % 4 == 0) {
            char three[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
            buf_put(out, three, 3);
        }
    }
    if (n % 4 == 3) {
        buf_putc(out, (char)(bits >> 10));
        buf_putc(out, (char)(bits >> 2));
    } else if (n % 4 == 2) {
        buf_putc(out, (char)(bits >> 4));
    }
    return out->failed ? why_set(why, ERR_NOMEM, "tokenizer.json: precompiled_charsmap") : ERR_OK;
}

static err read_charsmap(const json_t *o, struct norm_step *st, struct why *why)
{
    err e;
    const char *s;
    size_t len;
    struct buf raw;
    buf_init(&raw);
    TRY(json_get_string(o, "precompiled_charsmap", &s, &len, why));
    TRY(decode_base64(s ? s : "", len, &raw, why));
    TRY(charsmap_init(&st->map, raw.data, raw.len, why));
out:
    buf_fini(&raw);
    return e;
}

static err read_bert(const json_t *o, struct norm_step *st, struct why *why)
{
    err e;
    st->kind = NORM_BERT;
    TRY(json_get_bool(o, "clean_text", true, &st->clean, why));
    TRY(json_get_bool(o, "handle_chinese_chars", true, &st->ideographs, why));
    TRY(json_get_bool(o, "lowercase", true, &st->lower, why));
    TRY(json_get_bool(o, "strip_accents", st->lower, &st->accents, why));
out:
    return e;
}

static err read_replace(const json_t *o, struct norm_step *st, struct why *why)
{
    err e;
    st->kind = NORM_REPLACE;
    TRY(json_get_pattern(o, &st->text, &st->text_len, &st->regex, why));
    TRY(json_copy_string(o, "content", "", &st->with, &st->with_len, why));
out:
    return e;
}

static err read_strip(const json_t *o, struct norm_step *st, struct why *why)
{
    err e;
    st->kind = NORM_STRIP;
    TRY(json_get_bool(o, "strip_left", true, &st->left, why));
    TRY(json_get_bool(o, "strip_right", true, &st->right, why));
out:
    return e;
}

static err read_kind(const json_t *o, const char *type, struct norm_step *st, struct why *why)
{
    static const struct { const char *type; struct unicode_form form; } forms[] = {
        {"NFC", {true, false}}, {"NFD", {false, false}}, {"NFKC", {true, true}}, {"NFKD", {false, true}},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (strcmp(type, forms[i].type) == 0) {
            *st = (struct norm_step){.kind = NORM_FORM, .form = forms[i].form};
            return ERR_OK;
        }
    }
    if (strcmp(type, "Lowercase") == 0 || strcmp(type, "StripAccents") == 0 || strcmp(type, "Nmt") == 0) {
        st->kind = type[0] == 'L' ? NORM_LOWERCASE : type[0] == 'S' ? NORM_STRIP_ACCENTS : NORM_NMT;
        return ERR_OK;
    }
    if (strcmp(type, "BertNormalizer") == 0)
        return read_bert(o, st, why);
    if (strcmp(type, "Prepend") == 0) {
        st->kind = NORM_PREPEND;
        return json_copy_string(o, "prepend", "", &st->text, &st->text_len, why);
    }
    if (strcmp(type, "Replace") == 0)
        return read_replace(o, st, why);
    if (strcmp(type, "Strip") == 0)
        return read_strip(o, st, why);
    if (strcmp(type, "Precompiled") == 0) {
        st->kind = NORM_CHARSMAP;
        return read_charsmap(o, st, why);
    }
    return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: normalizer \"%.60s\" is not known", type);
}

static err read_step(const json_t *o, const char *type, void *ctx, struct why *why)
{
    struct norm_list *l = ctx;
    if (l->n == NORM_MAX_STEPS)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: more than %d normalizers", NORM_MAX_STEPS);
    struct norm_step *st = &l->step[l->n++]; /* counted first: norm_list_fini() frees what a failure left */
    *st = (struct norm_step){0};
    return read_kind(o, type, st, why);
}

err json_normalizer(const json_t *o, struct norm_list *l, struct why *why)
{
    return json_each_step(o, "normalizers", read_step, l, why);
}
