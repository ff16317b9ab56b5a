/* fields.c - see fields.h.
 *
 * jansson refuses bad UTF-8, NaN, numbers out of range, trailing bytes and deep
 * nesting by itself; \u0000 inside values is allowed because a prompt may hold it.
 */
#include "api/fields.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

err fields_parse(const char *body, size_t len, json_t **out, struct fault *fault)
{
    struct why *why = &fault->why;
    json_error_t at;
    json_t *root = json_loadb(body, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at);
    if (!root && at.line < 0)
        return why_set(why, ERR_FORMAT, "the body is not valid JSON: %s", at.text);
    if (!root)
        return why_set(why, ERR_FORMAT, "the body is not valid JSON: line %d, column %d: %s", at.line,
                       at.column, at.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return why_set(why, ERR_FORMAT, "the body must be a JSON object");
    }
    *out = root;
    return ERR_OK;
}

json_t *fields_get(const json_t *object, const char *name)
{
    json_t *v = json_object_get(object, name);
    return json_is_null(v) ? NULL : v;
}

static err field_number(const struct field *f, const json_t *v, double *out, struct why *why)
{
    bool whole = f->kind != FIELD_FLOAT;
    if (whole ? !json_is_integer(v) : !json_is_number(v))
        return why_set(why, ERR_INVAL, "%s must be %s", f->name, whole ? "an integer" : "a number");
    double x = json_number_value(v);
    if (!(x >= f->min && x <= f->max))
        return why_set(why, ERR_INVAL, "%s must be between %g and %g, not %g", f->name, f->min, f->max, x);
    *out = x;
    return ERR_OK;
}

static err field_read(const struct field *f, const json_t *v, char *out, struct why *why)
{
    err e;
    double x;
    switch (f->kind) {
    case FIELD_BOOL:
        if (!json_is_boolean(v))
            FAIL(ERR_INVAL, "%s must be true or false", f->name);
        *(bool *)(out + f->offset) = json_is_true(v);
        break;
    case FIELD_INT:
        TRY(field_number(f, v, &x, why));
        *(int *)(out + f->offset) = (int)x;
        break;
    case FIELD_I64:
        if (!json_is_integer(v))
            FAIL(ERR_INVAL, "%s must be an integer", f->name);
        *(int64_t *)(out + f->offset) = json_integer_value(v);
        break;
    case FIELD_FLOAT:
        TRY(field_number(f, v, &x, why));
        *(float *)(out + f->offset) = (float)x;
        break;
    }
    if (f->present)
        *(bool *)(out + f->present) = true;
    e = ERR_OK;
out:
    return e;
}

err fields_read(const json_t *object, const struct field *table, size_t n, void *out, struct fault *fault)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = fields_get(object, table[i].name);
        if (!v)
            continue;
        err e = field_read(&table[i], v, out, &fault->why);
        if (e != ERR_OK) {
            fault->param = table[i].name;
            return e;
        }
    }
    return ERR_OK;
}

err fields_text(const json_t *object, const char *name, struct arena *arena, struct openai_text *out,
                struct fault *fault)
{
    const json_t *v = fields_get(object, name);
    if (!v)
        return ERR_OK;
    fault->param = name;
    if (!json_is_string(v))
        return why_set(&fault->why, ERR_INVAL, "%s must be a string", name);
    size_t len = json_string_length(v);
    char *s = arena_strndup(arena, json_string_value(v), len);
    if (!s)
        return why_set(&fault->why, ERR_NOMEM, "no memory for %s", name);
    fault->param = NULL;
    *out = (struct openai_text){ s, len };
    return ERR_OK;
}

err fields_ids(const json_t *array, const char *name, struct arena *arena, int32_t **out, int *n,
               struct fault *fault)
{
    fault->param = name;
    if (!json_is_array(array))
        return why_set(&fault->why, ERR_INVAL, "%s must be a list of token ids", name);
    size_t count = json_array_size(array);
    if (count > INT_MAX)
        return why_set(&fault->why, ERR_LIMIT, "%s has too many ids", name);
    int32_t *ids = arena_array(arena, count ? count : 1, sizeof *ids);
    if (!ids)
        return why_set(&fault->why, ERR_NOMEM, "no memory for %zu ids in %s", count, name);
    for (size_t i = 0; i < count; i++) {
        const json_t *v = json_array_get(array, i);
        if (!json_is_integer(v))
            return why_set(&fault->why, ERR_INVAL, "%s: entry %zu is not a token id", name, i);
        json_int_t id = json_integer_value(v);
        if (id < 0 || id > INT32_MAX)
            return why_set(&fault->why, ERR_INVAL, "%s: entry %zu, %lld, is not a token id", name, i,
                           (long long)id);
        ids[i] = (int32_t)id;
    }
    fault->param = NULL;
    *out = ids;
    *n = (int)count;
    return ERR_OK;
}
