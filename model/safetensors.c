/* safetensors.c - see safetensors.h. */
#include "model/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "model/mapped.h"

#define MAX_HEADER_BYTES (100u << 20) /* the format's own limit */

struct safetensors {
    struct mapped map;
    const uint8_t *data;
    size_t size, head_bytes;
    struct arena names;
    const char *path;
    json_t *header;
    struct catalog tensors;
};

static const struct {
    const char *name;
    int bytes;
    enum fmt fmt;
} dtypes[] = {
    {"F32", 4, FMT_F32},    {"F16", 2, FMT_F16},       {"BF16", 2, FMT_BF16},     {"F64", 8, FMT_COUNT},
    {"I64", 8, FMT_COUNT},  {"I32", 4, FMT_COUNT},     {"I16", 2, FMT_COUNT},     {"I8", 1, FMT_COUNT},
    {"U64", 8, FMT_COUNT},  {"U32", 4, FMT_COUNT},     {"U16", 2, FMT_COUNT},     {"U8", 1, FMT_COUNT},
    {"BOOL", 1, FMT_COUNT}, {"F8_E4M3", 1, FMT_COUNT}, {"F8_E5M2", 1, FMT_COUNT}, {"F8_E8M0", 1, FMT_COUNT},
};
#define N_DTYPES ((int)(sizeof dtypes / sizeof dtypes[0]))

static int dtype_find(const json_t *v)
{
    const char *name = json_string_value(v);

    for (int i = 0; name && i < N_DTYPES; i++)
        if (strcmp(name, dtypes[i].name) == 0)
            return i;
    return -1;
}

static err read_shape(const struct safetensors *s, const json_t *v, struct file_tensor *t, uint64_t *elements,
                      struct why *why)
{
    size_t n = json_array_size(v);

    if (!json_is_array(v) || n > 4)
        return why_set(why, ERR_FORMAT, "%s: tensor %s: its shape is not a list of up to 4 numbers", s->path,
                       t->name);
    *elements = 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(v, i);
        int64_t x = json_is_integer(d) ? (int64_t)json_integer_value(d) : -1;
        if (x < 1 || (uint64_t)x > INT64_MAX / 256 / *elements)
            return why_set(why, ERR_FORMAT, "%s: tensor %s: dimension %zu is not possible", s->path, t->name,
                           i);
        t->dims[i] = x;
        *elements *= (uint64_t)x;
    }
    t->n_dims = n ? (int)n : 1; /* a scalar is a vector of one */
    return ERR_OK;
}

static err read_tensor(struct safetensors *s, const char *name, const json_t *v, struct why *why)
{
    err e;
    struct file_tensor t = {.dims = {1, 1, 1, 1}};
    const json_t *range = json_object_get(v, "data_offsets");
    const uint64_t room = s->size - s->head_bytes;
    uint64_t elements;

    t.name = arena_strndup(&s->names, name, strlen(name));
    if (!t.name)
        FAIL(ERR_NOMEM, "%s: names of tensors", s->path);
    int type = dtype_find(json_object_get(v, "dtype"));
    if (type < 0)
        FAIL(ERR_UNSUPPORTED, "%s: tensor %.128s has an unknown type", s->path, name);
    TRY(read_shape(s, json_object_get(v, "shape"), &t, &elements, why));
    const json_t *from = json_array_get(range, 0), *to = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(from) || !json_is_integer(to) ||
        json_integer_value(from) < 0 || json_integer_value(to) < json_integer_value(from) ||
        (uint64_t)json_integer_value(to) > room)
        FAIL(ERR_FORMAT, "%s: truncated or wrong: tensor %.128s is not inside the %" PRIu64 " bytes of data",
             s->path, name, room);
    t.bytes = (uint64_t)(json_integer_value(to) - json_integer_value(from));
    if (t.bytes != elements * (uint64_t)dtypes[type].bytes)
        FAIL(ERR_FORMAT, "%s: tensor %.128s has %" PRIu64 " bytes; its shape and type make %" PRIu64, s->path,
             name, t.bytes, elements * (uint64_t)dtypes[type].bytes);
    t.type_name = dtypes[type].name;
    t.fmt = dtypes[type].fmt;
    if (t.fmt != FMT_COUNT)
        t.row_bytes = fmt_row_bytes(t.fmt, t.dims[t.n_dims - 1]);
    t.data = s->data + s->head_bytes + json_integer_value(from);
    TRY(catalog_push(&s->tensors, &t, why));
out:
    return e;
}

static err read_all(struct safetensors *s, struct why *why)
{
    err e;
    uint64_t len;
    json_error_t at;
    const char *name;
    json_t *v;

    if (s->size < sizeof len)
        FAIL(ERR_FORMAT, "%s: truncated: %zu bytes are no safetensors file", s->path, s->size);
    memcpy(&len, s->data, sizeof len);
    if (len > s->size - sizeof len || len > MAX_HEADER_BYTES)
        FAIL(ERR_FORMAT, "%s: truncated or wrong: a header of %" PRIu64 " bytes in a file of %zu", s->path,
             len, s->size);
    s->head_bytes = sizeof len + (size_t)len;
    s->header = json_loadb((const char *)s->data + sizeof len, (size_t)len, JSON_REJECT_DUPLICATES, &at);
    if (!json_is_object(s->header))
        FAIL(ERR_FORMAT, "%s: the header is not a JSON object: %s (byte %d of it)", s->path, at.text,
             at.position);
    json_object_foreach(s->header, name, v) if (strcmp(name, "__metadata__") != 0)
        TRY(read_tensor(s, name, v, why));
    TRY(catalog_check(&s->tensors, s->path, why));
    json_decref(s->header); /* names were copied: the tree is many times as large */
    s->header = NULL;
out:
    return e;
}

static err open_mapping(struct mapped *map, const void *data, size_t size, const char *label,
                        struct safetensors **out, struct why *why)
{
    err e;
    struct safetensors *s = calloc(1, sizeof *s);

    if (!s)
        return why_set(why, ERR_NOMEM, "%s: no memory", label);
    arena_init(&s->names, 0);
    s->data = data;
    s->size = size;
    s->path = arena_strndup(&s->names, label, strlen(label));
    if (!s->path)
        FAIL(ERR_NOMEM, "%s: no memory", label);
    TRY(read_all(s, why));
    s->map = *map; /* from here on it is ours */
    *map = (struct mapped){0};
    *out = s;
    s = NULL;
out:
    safetensors_close(s);
    return e;
}

err safetensors_open_memory(const void *data, size_t size, const char *label, struct safetensors **out,
                            struct why *why)
{
    struct mapped none = {0};

    return open_mapping(&none, data, size, label, out, why);
}

err safetensors_open(const char *path, struct safetensors **out, struct why *why)
{
    err e;
    struct mapped map = {0};

    TRY(mapped_open(path, &map, why));
    TRY(open_mapping(&map, map.data, map.size, path, out, why));
out:
    mapped_close(&map);
    return e;
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    catalog_fini(&s->tensors);
    json_decref(s->header);
    mapped_close(&s->map);
    arena_fini(&s->names);
    free(s);
}

const struct catalog *safetensors_tensors(const struct safetensors *s)
{
    return &s->tensors;
}

uint64_t safetensors_file_bytes(const struct safetensors *s)
{
    return s->size;
}

const void *safetensors_head(const struct safetensors *s, size_t *bytes)
{
    *bytes = s->head_bytes;
    return s->data;
}
