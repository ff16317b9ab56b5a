/* facts.c - see facts.h. */
#include "model/facts.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/gguf.h"

void facts_init_gguf(struct facts *f, const struct gguf *g, const char *prefix)
{
    *f = (struct facts){.gguf = g, .path = gguf_path(g), .prefix = prefix};
}

void facts_init_json(struct facts *f, const struct json_t *root, const char *path)
{
    *f = (struct facts){.json = root, .path = path, .prefix = ""};
}

void fact_fail(struct facts *f, err e, const char *fmt, ...)
{
    char text[sizeof f->why.text];
    va_list ap;

    if (f->e)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    f->e = why_set(&f->why, e, "%s: %s", f->path, text);
}

err facts_err(const struct facts *f, struct why *why)
{
    if (f->e && why)
        *why = f->why;
    return f->e;
}

/* ---- one value, whatever the file --------------------------------------------- */

static const struct gguf_value *find_gguf(const struct facts *f, const char *key)
{
    char full[256];

    if (key[0] == '.')
        return gguf_find(f->gguf, key + 1);
    if ((size_t)snprintf(full, sizeof full, "%s.%s", f->prefix, key) >= sizeof full)
        return NULL;
    return gguf_find(f->gguf, full);
}

static const json_t *find_json(const struct facts *f, const char *key)
{
    const json_t *at = f->json;
    char part[128];

    while (at) {
        size_t len = strcspn(key, ".");
        if (len >= sizeof part)
            return NULL;
        memcpy(part, key, len);
        part[len] = 0;
        at = json_object_get(at, part);
        if (key[len] == 0)
            break;
        key += len + 1;
    }
    return at && !json_is_null(at) ? at : NULL;
}

bool fact_has(const struct facts *f, const char *key)
{
    return f->gguf ? find_gguf(f, key) != NULL : find_json(f, key) != NULL;
}

static bool json_to_real(const json_t *v, double *out)
{
    if (json_is_boolean(v))
        *out = json_is_true(v);
    else if (json_is_number(v))
        *out = json_number_value(v);
    else
        return false;
    return isfinite(*out);
}

size_t fact_reals(struct facts *f, const char *key, double *out, size_t max)
{
    size_t n = 0;

    if (f->e)
        return 0;
    if (f->gguf) {
        const struct gguf_value *v = find_gguf(f, key);
        if (!v)
            return 0;
        n = (size_t)v->n;
        for (size_t i = 0; i < n && i < max; i++)
            if (!gguf_number(v, i, &out[i]))
                goto bad;
        return n;
    }
    const json_t *v = find_json(f, key);
    if (!v)
        return 0;
    if (!json_is_array(v)) {
        if (max && !json_to_real(v, out))
            goto bad;
        return 1;
    }
    n = json_array_size(v);
    for (size_t i = 0; i < n && i < max; i++)
        if (!json_to_real(json_array_get(v, i), &out[i]))
            goto bad;
    return n;
bad:
    fact_fail(f, ERR_FORMAT, "%s is not a finite number", key);
    return 0;
}

double fact_real_or(struct facts *f, const char *key, double otherwise)
{
    double x[2];
    size_t n = fact_reals(f, key, x, 2);

    if (n > 1) {
        fact_fail(f, ERR_FORMAT, "%s is a list of %zu; one number is wanted", key, n);
        return otherwise;
    }
    return n == 1 ? x[0] : otherwise;
}

static void need(struct facts *f, const char *key)
{
    if (!fact_has(f, key))
        fact_fail(f, ERR_FORMAT, "%s%s%s is missing", key[0] == '.' ? "" : f->prefix,
                  key[0] != '.' && f->prefix[0] ? "." : "", key[0] == '.' ? key + 1 : key);
}

double fact_real(struct facts *f, const char *key)
{
    need(f, key);
    return fact_real_or(f, key, 0);
}

int fact_int_or(struct facts *f, const char *key, int otherwise)
{
    double x = fact_real_or(f, key, otherwise);

    if (x < INT_MIN || x > INT_MAX || x != floor(x)) {
        fact_fail(f, ERR_FORMAT, "%s is %g; a 32-bit integer is wanted", key, x);
        return otherwise;
    }
    return (int)x;
}

int fact_int(struct facts *f, const char *key)
{
    need(f, key);
    return fact_int_or(f, key, 0);
}

bool fact_bool_or(struct facts *f, const char *key, bool otherwise)
{
    return fact_real_or(f, key, otherwise) != 0;
}

const char *fact_text_or(struct facts *f, const char *key, const char *otherwise)
{
    if (f->e)
        return otherwise;
    if (f->gguf) {
        const struct gguf_value *v = find_gguf(f, key);
        const char *s;
        size_t len;
        if (!v)
            return otherwise;
        if (!gguf_text(v, &s, &len)) {
            fact_fail(f, ERR_FORMAT, "%s is not a string", key);
            return otherwise;
        }
        snprintf(f->text, sizeof f->text, "%.*s", (int)(len < sizeof f->text ? len : sizeof f->text - 1), s);
        return f->text;
    }
    const json_t *v = find_json(f, key);
    if (!v)
        return otherwise;
    if (!json_is_string(v)) {
        fact_fail(f, ERR_FORMAT, "%s is not a string", key);
        return otherwise;
    }
    return json_string_value(v);
}

bool fact_is(struct facts *f, const char *key, const char *word)
{
    return strcmp(fact_text_or(f, key, ""), word) == 0;
}

const char *fact_text(struct facts *f, const char *key)
{
    need(f, key);
    return fact_text_or(f, key, "");
}

const char *fact_text_at(struct facts *f, const char *key, size_t i)
{
    const json_t *v = f->e || f->gguf ? NULL : find_json(f, key);

    return json_is_array(v) ? json_string_value(json_array_get(v, i)) : NULL;
}
