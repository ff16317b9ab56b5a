/* json_read.c - the getters. */
#include "tokenizer/json_read.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 512 << 20 };

err json_parse(const char *what, const char *s, size_t len, json_t **out, struct why *why)
{
    json_error_t error;
    if (len > MAX_JSON_BYTES)
        return why_set(why, ERR_LIMIT, "%s has %zu bytes", what, len);
    json_t *o = json_loadb(s, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!o)
        return why_set(why, ERR_FORMAT, "%s line %d: %s", what, error.line, error.text);
    if (!json_is_object(o)) {
        json_decref(o);
        return why_set(why, ERR_FORMAT, "%s is not an object", what);
    }
    *out = o;
    return ERR_OK;
}

json_t *json_get(const json_t *o, const char *key)
{
    json_t *x = json_object_get(o, key);
    return json_is_null(x) ? NULL : x;
}

err json_get_bool(const json_t *o, const char *key, bool fallback, bool *out, struct why *why)
{
    json_t *x = json_get(o, key);
    if (x && !json_is_boolean(x))
        return why_set(why, ERR_FORMAT, "tokenizer.json: \"%s\" is not true or false", key);
    *out = x ? json_is_true(x) : fallback;
    return ERR_OK;
}

err json_get_string(const json_t *o, const char *key, const char **s, size_t *len, struct why *why)
{
    json_t *x = json_get(o, key);
    if (x && !json_is_string(x))
        return why_set(why, ERR_FORMAT, "tokenizer.json: \"%s\" is not a string", key);
    *s = x ? json_string_value(x) : NULL;
    *len = x ? json_string_length(x) : 0;
    return ERR_OK;
}

err json_get_id(const json_t *o, const char *key, int32_t fallback, int32_t *out, struct why *why)
{
    json_t *x = json_get(o, key);
    if (x && (!json_is_integer(x) || json_integer_value(x) < 0 || json_integer_value(x) >= VOCAB_MAX_IDS))
        return why_set(why, ERR_FORMAT, "tokenizer.json: \"%s\" is not an id", key);
    *out = x ? (int32_t)json_integer_value(x) : fallback;
    return ERR_OK;
}

const char *json_kind(const json_t *o)
{
    const char *s = json_string_value(json_object_get(o, "type"));
    return s ? s : "";
}

static err each_step(const json_t *o, const char *members, int nest, json_step_fn *read, void *ctx,
                     struct why *why)
{
    const char *type = json_kind(o);
    size_t i;
    json_t *x;
    if (strcmp(type, "Sequence") != 0)
        return read(o, type, ctx, why);
    if (nest == JSON_MAX_NEST)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: %s nested too deep", members);
    json_array_foreach(json_get(o, members), i, x) {
        err e = each_step(x, members, nest + 1, read, ctx, why);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

err json_each_step(const json_t *o, const char *members, json_step_fn *read, void *ctx, struct why *why)
{
    return o ? each_step(o, members, 0, read, ctx, why) : ERR_OK;
}

char *json_strndup(const char *s, size_t len)
{
    char *copy = malloc(len + 1);
    if (copy) {
        if (len > 0)
            memcpy(copy, s, len);
        copy[len] = '\0';
    }
    return copy;
}

err json_copy_string(const json_t *o, const char *key, const char *fallback, char **text, size_t *len,
                     struct why *why)
{
    const char *s;
    err e = json_get_string(o, key, &s, len, why);
    if (e != ERR_OK)
        return e;
    if (!s)
        s = fallback, *len = strlen(fallback);
    *text = json_strndup(s, *len);
    return *text ? ERR_OK : why_set(why, ERR_NOMEM, "tokenizer.json: \"%s\"", key);
}

err json_get_pattern(const json_t *o, char **text, size_t *len, struct regex **regex, struct why *why)
{
    const char *s;
    err e;
    *text = NULL;
    *regex = NULL;
    json_t *x = json_get(o, "pattern");
    if (json_is_string(x)) {
        s = json_string_value(x);
        *len = json_string_length(x);
    } else {
        TRY(json_get_string(x, "Regex", &s, len, why));
        if (s)
            return regex_open(s, *len, regex, why);
        TRY(json_get_string(x, "String", &s, len, why));
        if (!s)
            FAIL(ERR_UNSUPPORTED, "tokenizer.json: a pattern that is neither String nor Regex");
    }
    *text = json_strndup(s, *len);
    e = *text ? ERR_OK : why_set(why, ERR_NOMEM, "tokenizer.json: pattern");
out:
    return e;
}
