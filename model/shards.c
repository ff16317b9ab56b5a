/* shards.c - shards.json, read and written; see shards.h. */
#include "model/shards.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/mapped.h"
#include "model/small_files.h"

enum { MAX_STAGES = 4096, MAX_INLINE = 1 << 16 /* values of a table */ };

bool shards_here(const char *path)
{
    struct stat st;
    char *file;
    bool here = asprintf(&file, "%s/%s", path, SHARDS_FILE) >= 0;
    if (here) {
        here = stat(file, &st) == 0 && S_ISREG(st.st_mode);
        free(file);
    }
    return here;
}

/* ---- reading ------------------------------------------------------------------------------ */

struct parse {
    const char *path; /* of the directory, for reasons */
    struct arena *a;
    struct why *why;
};

static err bad(const struct parse *p, const char *what)
{
    return why_set(p->why, ERR_FORMAT, "%s/%s: %s", p->path, SHARDS_FILE, what);
}

static err take_text(const struct parse *p, const json_t *from, const char *key, const char **out)
{
    const json_t *v = json_object_get(from, key);
    if (!json_is_string(v) || json_string_length(v) > 4096 ||
        strlen(json_string_value(v)) != json_string_length(v))
        return why_set(p->why, ERR_FORMAT, "%s/%s: \"%s\" is not a text", p->path, SHARDS_FILE, key);
    *out = arena_strndup(p->a, json_string_value(v), json_string_length(v));
    return *out ? ERR_OK : why_set(p->why, ERR_NOMEM, "%s/%s: no memory", p->path, SHARDS_FILE);
}

static err take_count(const struct parse *p, const json_t *from, const char *key, int64_t most, int64_t *out)
{
    const json_t *v = json_object_get(from, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > most)
        return why_set(p->why, ERR_FORMAT, "%s/%s: \"%s\" is not a count of at most %lld", p->path,
                       SHARDS_FILE, key, (long long)most);
    *out = json_integer_value(v);
    return ERR_OK;
}

static err take_bool(const struct parse *p, const json_t *from, const char *key, bool *out)
{
    const json_t *v = json_object_get(from, key);
    if (!json_is_boolean(v))
        return why_set(p->why, ERR_FORMAT, "%s/%s: \"%s\" is neither true nor false", p->path, SHARDS_FILE,
                       key);
    *out = json_is_true(v);
    return ERR_OK;
}

static err parse_stage(const struct parse *p, const json_t *v, struct shard_stage *s)
{
    err e;
    int64_t first, last, bytes;
    TRY(take_text(p, v, "file", &s->file));
    if (s->file[0] == '.' || !plain_name(s->file))
        return bad(p, "a stage's file is not the name of a file here");
    TRY(take_count(p, v, "first", INT32_MAX, &first));
    TRY(take_count(p, v, "last", INT32_MAX, &last));
    TRY(take_count(p, v, "bytes", INT64_MAX, &bytes));
    TRY(take_bool(p, v, "embedding", &s->embed));
    TRY(take_bool(p, v, "head", &s->head));
    s->first = (int)first;
    s->last = (int)last;
    s->bytes = (uint64_t)bytes;
out:
    return e;
}

/* Stages follow each other, the first embeds, the last has the head. */
static err parse_stages(const struct parse *p, const json_t *list, struct shards *s)
{
    const size_t n = json_array_size(list);
    if (n < 1 || n > MAX_STAGES)
        return bad(p, "\"stages\" is not a list of stages");
    s->stages = arena_array(p->a, n, sizeof *s->stages);
    if (!s->stages)
        return why_set(p->why, ERR_NOMEM, "%s: %zu stages", p->path, n);
    s->n_stages = (int)n;
    for (size_t i = 0; i < n; i++) {
        struct shard_stage *x = &s->stages[i];
        err e = parse_stage(p, json_array_get(list, i), x);
        if (e)
            return e;
        if (x->first != (i ? x[-1].last : 0) || x->last < x->first || x->embed != (i == 0) ||
            x->head != (i == n - 1))
            return bad(p, "the stages do not follow each other");
    }
    return ERR_OK;
}

static err parse_shape(const struct parse *p, const json_t *list, struct file_tensor *t)
{
    int64_t elements = 1;
    t->n_dims = (int)json_array_size(list);
    if (t->n_dims < 1 || t->n_dims > 4)
        return bad(p, "a tensor has no shape");
    for (int i = 0; i < 4; i++) {
        t->dims[i] = i < t->n_dims ? json_integer_value(json_array_get(list, (size_t)i)) : 1;
        if (t->dims[i] < 1 || __builtin_mul_overflow(elements, t->dims[i], &elements) ||
            elements > INT64_MAX / 8)
            return bad(p, "a tensor has an impossible shape");
    }
    return ERR_OK;
}

/* The few tables whose values are read as they lie: f32. */
static err parse_values(const struct parse *p, const json_t *list, struct file_tensor *t)
{
    if (!list)
        return ERR_OK;
    const size_t n = json_array_size(list);
    if (t->fmt != FMT_F32 || n > MAX_INLINE || file_tensor_elements(t) != (int64_t)n ||
        t->bytes != n * sizeof(float))
        return bad(p, "a tensor has other values than its shape says");
    float *data = arena_array(p->a, n, sizeof *data);
    if (!data)
        return why_set(p->why, ERR_NOMEM, "%s: %zu values", p->path, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(list, i);
        if (!json_is_number(x) || !(fabs(json_number_value(x)) <= (double)FLT_MAX))
            return bad(p, "a tensor's value is not an f32 number");
        data[i] = (float)json_number_value(x);
    }
    t->data = (const uint8_t *)data;
    return ERR_OK;
}

static err parse_tensor(const struct parse *p, const json_t *v, struct file_tensor *t)
{
    err e;
    const char *format;
    int64_t bytes;
    TRY(take_text(p, v, "name", &t->name));
    TRY(take_text(p, v, "type", &t->type_name));
    TRY(take_text(p, v, "format", &format));
    TRY(take_count(p, v, "bytes", INT64_MAX, &bytes));
    TRY(parse_shape(p, json_object_get(v, "shape"), t));
    t->bytes = (uint64_t)bytes;
    t->fmt = fmt_named(format);
    if (t->fmt != FMT_COUNT) {
        t->row_bytes = fmt_row_bytes(t->fmt, t->dims[t->n_dims - 1]);
        if (!t->row_bytes)
            return bad(p, "a tensor's rows are not whole blocks");
    }
    TRY(parse_values(p, json_object_get(v, "values"), t));
out:
    return e;
}

static err parse_tensors(const struct parse *p, const json_t *list, struct catalog *out)
{
    err e;
    if (!json_array_size(list))
        return bad(p, "\"tensors\" is not a list of tensors");
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct file_tensor t = {0};
        TRY(parse_tensor(p, json_array_get(list, i), &t));
        TRY(catalog_push(out, &t, p->why));
    }
    e = catalog_sort(out, p->why);
    if (e)
        why_prefix(p->why, e, "%s/%s", p->path, SHARDS_FILE);
out:
    return e;
}

static bool sixteen_digits(const char *text)
{
    return strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16;
}

static err parse_root(const struct parse *p, const json_t *root, struct shards *s, struct catalog *tensors)
{
    err e;
    struct why *why = p->why;
    const char *facts;
    int64_t version, bytes;
    TRY(take_count(p, root, "cordee_shards", INT32_MAX, &version));
    if (version != SHARDS_VERSION)
        FAIL(ERR_UNSUPPORTED, "%s/%s: version %d, %d is known here: write the shards again", p->path,
             SHARDS_FILE, (int)version, SHARDS_VERSION);
    TRY(take_text(p, root, "model", &s->name));
    TRY(take_text(p, root, "hash", &s->hash));
    TRY(take_text(p, root, "weights", &s->weights));
    TRY(take_text(p, root, "facts", &facts));
    TRY(take_text(p, root, "facts_hash", &s->facts_hash));
    TRY(take_count(p, root, "file_bytes", INT64_MAX, &bytes));
    if (!sixteen_digits(s->hash) || !sixteen_digits(s->weights))
        return bad(p, "\"hash\" or \"weights\" is not 16 digits");
    s->gguf = strcmp(facts, "gguf") == 0;
    if (!s->gguf && strcmp(facts, "hf") != 0)
        return bad(p, "\"facts\" is neither gguf nor hf");
    s->file_bytes = (uint64_t)bytes;
    TRY(parse_stages(p, json_object_get(root, "stages"), s));
    TRY(parse_tensors(p, json_object_get(root, "tensors"), tensors));
out:
    return e;
}

err shards_parse(const char *text, size_t len, const char *path, struct arena *a, struct shards *out,
                 struct catalog *tensors, struct why *why)
{
    err e;
    json_error_t at;
    struct parse p = {path, a, why};
    struct shards s = {.path = path};
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
    if (!json_is_object(root))
        FAIL(ERR_FORMAT, "%s/%s: line %d: %s", path, SHARDS_FILE, root ? 1 : at.line,
             root ? "not an object" : at.text);
    TRY(parse_root(&p, root, &s, tensors));
    *out = s;
out:
    json_decref(root);
    return e;
}

err shards_read(const char *path, struct arena *a, struct shards *out, struct catalog *tensors,
                struct why *why)
{
    err e;
    struct mapped m = {0};
    const char *file = arena_path(a, path, SHARDS_FILE), *own = arena_strndup(a, path, strlen(path));
    if (!file || !own)
        FAIL(ERR_NOMEM, "%s: no memory", path);
    TRY(mapped_open(file, &m, why));
    TRY(shards_parse(m.data ? (const char *)m.data : "", m.size, own, a, out, tensors, why));
out:
    mapped_close(&m);
    return e;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Each gives NULL for want of memory, or of JSON's words: for NaN, for bytes that are no UTF-8.
 * json_pack() gives NULL if one of its parts is. */

static bool push(json_t *list, json_t *x)
{
    return json_array_append_new(list, x) == 0;
}

static json_t *if_good(bool good, json_t *x)
{
    if (good)
        return x;
    json_decref(x);
    return NULL;
}

static json_t *stages_json(const struct shards *s)
{
    json_t *list = json_array();
    bool good = true;
    for (int i = 0; good && i < s->n_stages; i++) {
        const struct shard_stage *x = &s->stages[i];
        good = push(list, json_pack("{s:s, s:i, s:i, s:b, s:b, s:I}", "file", x->file, "first", x->first,
                                    "last", x->last, "embedding", x->embed, "head", x->head, "bytes",
                                    (json_int_t)x->bytes));
    }
    return if_good(good, list);
}

static json_t *values_json(const struct file_tensor *t)
{
    json_t *list = json_array();
    bool good = true;
    for (int64_t i = 0; good && i < file_tensor_elements(t); i++) {
        float x;
        memcpy(&x, t->data + (size_t)i * sizeof x, sizeof x);
        good = push(list, json_real((double)x));
    }
    return if_good(good, list);
}

static json_t *tensors_json(const struct catalog *c)
{
    json_t *list = json_array();
    bool good = true;
    for (size_t i = 0; good && i < c->n; i++) {
        const struct file_tensor *t = &c->t[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dims; d++)
            good = push(shape, json_integer(t->dims[d])) && good;
        json_t *x = json_pack("{s:s, s:s, s:s, s:o, s:I}", "name", t->name, "type", t->type_name, "format",
                              t->fmt == FMT_COUNT ? "" : fmt_traits[t->fmt].name, "shape", shape, "bytes",
                              (json_int_t)t->bytes);
        if (t->data)
            good = json_object_set_new(x, "values", values_json(t)) == 0 && good;
        good = push(list, x) && good;
    }
    return if_good(good, list);
}

err shards_write(const struct shards *s, const struct catalog *tensors, struct why *why)
{
    err e;
    json_t *root = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:o, s:o}", "cordee_shards", SHARDS_VERSION, "model", s->name,
        "hash", s->hash, "weights", s->weights, "facts", s->gguf ? "gguf" : "hf", "facts_hash", s->facts_hash,
        "file_bytes", (json_int_t)s->file_bytes, "stages", stages_json(s), "tensors", tensors_json(tensors));
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_ENSURE_ASCII) : NULL;
    if (!text)
        FAIL(ERR_UNSUPPORTED, "%s/%s: no memory, or a name that is not UTF-8 or a value that is no number",
             s->path, SHARDS_FILE);
    TRY(file_write(s->path, SHARDS_FILE, text, strlen(text), why));
out:
    free(text);
    json_decref(root);
    return e;
}
