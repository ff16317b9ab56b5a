/* gguf.c - the GGUF reader; see gguf.h for what it promises.
 *
 * One pass over the head of the file with a cursor that never moves past the end:
 * each read names what it was after, so that "truncated" says where. Counts are
 * compared with what could at most fit before anything is allocated. Values stay
 * in the mapping; only names are copied (the file has no terminators).
 */
#include "model/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "model/gguf_types.h"
#include "model/mapped.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF values are read as they lie");

#define GGUF_MAX_NAME 65535
#define GGUF_MAX_ALIGNMENT (1u << 20)
#define GGUF_MIN_VALUE_BYTES 13  /* empty key, type, one byte */
#define GGUF_MIN_TENSOR_BYTES 32 /* empty name, one dimension, type, offset */

struct gguf {
    struct arena names;
    struct mapped map; /* empty when opened from memory */
    const uint8_t *data;
    size_t size, head_bytes;
    const char *path;
    struct gguf_value *values;        /* [n_values], file order */
    const struct gguf_value **by_key; /* [n_values], sorted */
    size_t n_values;
    struct catalog tensors;
};

static const struct {
    const char *name;
    int bytes; /* 0: variable */
} value_types[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(enum gguf_type t)
{
    return value_types[t].name;
}

size_t gguf_type_bytes(enum gguf_type t)
{
    return (size_t)value_types[t].bytes;
}

/* ---- the cursor ------------------------------------------------------------ */

struct cursor {
    const uint8_t *data;
    size_t size, at;
    const char *path;
    const char *kind; /* "metadata entry" or "tensor", for reasons */
    uint64_t index;
};

static size_t left(const struct cursor *c)
{
    return c->size - c->at;
}

static err truncated(const struct cursor *c, const char *what, struct why *why)
{
    return why_set(why, ERR_FORMAT,
                   "%s: truncated: the %s of %s %" PRIu64 " at byte %zu does not fit the file of %zu bytes",
                   c->path, what, c->kind, c->index, c->at, c->size);
}

static err take(struct cursor *c, void *dst, size_t n, const char *what, struct why *why)
{
    if (left(c) < n)
        return truncated(c, what, why);
    memcpy(dst, c->data + c->at, n);
    c->at += n;
    return ERR_OK;
}

static err take_u32(struct cursor *c, uint32_t *v, const char *what, struct why *why)
{
    return take(c, v, sizeof *v, what, why);
}

static err take_u64(struct cursor *c, uint64_t *v, const char *what, struct why *why)
{
    return take(c, v, sizeof *v, what, why);
}

static err skip_string(struct cursor *c, const char *what, struct why *why)
{
    err e;
    uint64_t len;

    TRY(take_u64(c, &len, what, why));
    if (len > left(c))
        return truncated(c, what, why);
    c->at += (size_t)len;
out:
    return e;
}

/* A key or tensor name, copied and terminated. */
static err take_name(struct cursor *c, struct arena *names, const char **name, const char *what,
                     struct why *why)
{
    err e;
    uint64_t len;
    const char *text;

    TRY(take_u64(c, &len, what, why));
    if (len > left(c))
        return truncated(c, what, why);
    if (len == 0 || len > GGUF_MAX_NAME)
        FAIL(ERR_FORMAT, "%s: the %s of %s %" PRIu64 " has %" PRIu64 " bytes; 1 to %d are allowed", c->path,
             what, c->kind, c->index, len, GGUF_MAX_NAME);
    text = (const char *)c->data + c->at;
    if (memchr(text, 0, (size_t)len))
        FAIL(ERR_FORMAT, "%s: the %s of %s %" PRIu64 " contains a NUL byte", c->path, what, c->kind,
             c->index);
    c->at += (size_t)len;
    *name = arena_strndup(names, text, (size_t)len);
    if (!*name)
        FAIL(ERR_NOMEM, "%s: names of the metadata", c->path);
    e = ERR_OK;
out:
    return e;
}

/* ---- metadata -------------------------------------------------------------- */

static err read_value(struct cursor *c, struct arena *names, struct gguf_value *v, struct why *why)
{
    err e;
    uint32_t type;

    TRY(take_name(c, names, &v->key, "key", why));
    TRY(take_u32(c, &type, "type", why));
    v->n = 1;
    if (type == GGUF_ARRAY) {
        v->array = true;
        TRY(take_u32(c, &type, "element type", why));
        TRY(take_u64(c, &v->n, "element count", why));
        if (type == GGUF_ARRAY)
            FAIL(ERR_UNSUPPORTED, "%s: %s is an array of arrays", c->path, v->key);
    }
    if (type >= GGUF_TYPE_COUNT)
        FAIL(ERR_FORMAT, "%s: %s has the unknown value type %u", c->path, v->key, type);
    v->type = (enum gguf_type)type;
    v->data = c->data + c->at;

    if (v->type == GGUF_STRING) {
        if (v->n > left(c) / sizeof(uint64_t))
            FAIL(ERR_FORMAT, "%s: %s claims %" PRIu64 " strings; only %zu bytes follow", c->path, v->key,
                 v->n, left(c));
        for (uint64_t i = 0; i < v->n; i++)
            TRY(skip_string(c, v->key, why));
    } else {
        size_t each = (size_t)value_types[type].bytes;
        if (v->n > left(c) / each)
            FAIL(ERR_FORMAT, "%s: %s claims %" PRIu64 " elements of %s; only %zu bytes follow", c->path,
                 v->key, v->n, value_types[type].name, left(c));
        c->at += (size_t)v->n * each;
    }
    e = ERR_OK;
out:
    return e;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const struct gguf_value *const *)a)->key, (*(const struct gguf_value *const *)b)->key);
}

static err read_metadata(struct gguf *g, struct cursor *c, uint64_t n, struct why *why)
{
    err e;

    c->kind = "metadata entry";
    if (n > left(c) / GGUF_MIN_VALUE_BYTES)
        FAIL(ERR_FORMAT, "%s: claims %" PRIu64 " metadata entries; only %zu bytes follow", c->path, n,
             left(c));
    g->n_values = (size_t)n;
    g->values = calloc(g->n_values + 1, sizeof *g->values);
    g->by_key = calloc(g->n_values + 1, sizeof *g->by_key);
    if (!g->values || !g->by_key)
        FAIL(ERR_NOMEM, "%s: %" PRIu64 " metadata entries", c->path, n);
    for (c->index = 0; c->index < n; c->index++) {
        TRY(read_value(c, &g->names, &g->values[c->index], why));
        g->by_key[c->index] = &g->values[c->index];
    }
    qsort(g->by_key, g->n_values, sizeof *g->by_key, by_key);
    for (size_t i = 1; i < g->n_values; i++)
        if (strcmp(g->by_key[i - 1]->key, g->by_key[i]->key) == 0)
            FAIL(ERR_FORMAT, "%s: the key %s is there twice", c->path, g->by_key[i]->key);
    e = ERR_OK;
out:
    return e;
}

/* ---- the tensor table ------------------------------------------------------- */

/* Reads one entry; `data` is left NULL and `bytes` set, the offset goes to *offset. */
static err read_tensor(struct cursor *c, struct arena *names, struct file_tensor *t, uint64_t *offset,
                       struct why *why)
{
    err e;
    uint32_t n_dims, type;
    uint64_t dims[4], elements = 1;

    *t = (struct file_tensor){.dims = {1, 1, 1, 1}};
    TRY(take_name(c, names, &t->name, "name", why));
    TRY(take_u32(c, &n_dims, "number of dimensions", why));
    if (n_dims < 1 || n_dims > 4)
        FAIL(ERR_FORMAT, "%s: tensor %s has %u dimensions; 1 to 4 are allowed", c->path, t->name, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) {
        TRY(take_u64(c, &dims[i], "dimensions", why));
        if (dims[i] == 0 || dims[i] > INT64_MAX / 256 / elements)
            FAIL(ERR_FORMAT, "%s: tensor %s: dimension %u is %" PRIu64, c->path, t->name, i, dims[i]);
        elements *= dims[i];
        t->dims[n_dims - 1 - i] = (int64_t)dims[i]; /* the file counts fastest first */
    }
    t->n_dims = (int)n_dims;
    TRY(take_u32(c, &type, "type", why));
    TRY(take_u64(c, offset, "offset", why));

    const struct ggml_type *g = ggml_type(type);
    if (!g)
        FAIL(ERR_FORMAT, "%s: tensor %s has the unknown type %u", c->path, t->name, type);
    if (dims[0] % (uint64_t)g->block != 0)
        FAIL(ERR_FORMAT, "%s: tensor %s: rows of %" PRIu64 " are not whole blocks of %d (%s)", c->path,
             t->name, dims[0], g->block, g->name);
    t->type_name = g->name;
    t->fmt = g->fmt;
    t->row_bytes = (size_t)(dims[0] / (uint64_t)g->block) * (size_t)g->bytes;
    t->bytes = elements / (uint64_t)g->block * (uint64_t)g->bytes;
    e = ERR_OK;
out:
    return e;
}

static err read_alignment(const struct gguf *g, uint32_t *alignment, struct why *why)
{
    const struct gguf_value *v = gguf_find(g, "general.alignment");

    *alignment = 32;
    if (!v)
        return ERR_OK;
    if (v->array || v->type != GGUF_U32)
        return why_set(why, ERR_FORMAT, "%s: general.alignment is not a u32", g->path);
    memcpy(alignment, v->data, sizeof *alignment);
    if (*alignment < 8 || *alignment > GGUF_MAX_ALIGNMENT || (*alignment & (*alignment - 1)))
        return why_set(why, ERR_FORMAT, "%s: general.alignment is %u; it must be a power of two from 8 to %u",
                       g->path, *alignment, GGUF_MAX_ALIGNMENT);
    return ERR_OK;
}

static err read_tensors(struct gguf *g, struct cursor *c, uint64_t n, struct why *why)
{
    err e;
    uint32_t alignment;
    uint64_t *offsets = NULL, start;

    TRY(read_alignment(g, &alignment, why));
    c->kind = "tensor";
    if (n > left(c) / GGUF_MIN_TENSOR_BYTES)
        FAIL(ERR_FORMAT, "%s: claims %" PRIu64 " tensors; only %zu bytes follow", c->path, n, left(c));
    offsets = calloc((size_t)n + 1, sizeof *offsets);
    if (!offsets)
        FAIL(ERR_NOMEM, "%s: %" PRIu64 " tensors", c->path, n);
    for (c->index = 0; c->index < n; c->index++) {
        struct file_tensor t;
        TRY(read_tensor(c, &g->names, &t, &offsets[c->index], why));
        TRY(catalog_push(&g->tensors, &t, why));
    }
    g->head_bytes = c->at;
    start = (c->at + alignment - 1) & ~((uint64_t)alignment - 1);

    for (size_t i = 0; i < n; i++) {
        struct file_tensor *t = &g->tensors.t[i];
        if (offsets[i] % alignment != 0)
            FAIL(ERR_FORMAT, "%s: tensor %s starts at offset %" PRIu64 ", not a multiple of %u", g->path,
                 t->name, offsets[i], alignment);
        if (start > g->size || offsets[i] > g->size - start || t->bytes > g->size - start - offsets[i])
            FAIL(ERR_FORMAT,
                 "%s: truncated: tensor %s needs bytes %" PRIu64 " to %" PRIu64 " of a file of %zu", g->path,
                 t->name, start + offsets[i], start + offsets[i] + t->bytes, g->size);
        t->data = g->data + start + offsets[i];
    }
    TRY(catalog_check(&g->tensors, g->path, why));
out:
    free(offsets);
    return e;
}

/* ---- opening ---------------------------------------------------------------- */

static err read_all(struct gguf *g, struct why *why)
{
    err e;
    struct cursor c = {.data = g->data, .size = g->size, .path = g->path, .kind = "header field"};
    uint32_t version;
    uint64_t n_tensors, n_values;

    if (g->size < 4 || memcmp(g->data, "GGUF", 4) != 0)
        FAIL(ERR_FORMAT, "%s: not a GGUF file (it does not start with \"GGUF\")", g->path);
    c.at = 4;
    TRY(take_u32(&c, &version, "version", why));
    if (version && (version & 0xffff) == 0)
        FAIL(ERR_UNSUPPORTED, "%s: a big-endian GGUF file; only little-endian ones are read", g->path);
    if (version != 2 && version != 3)
        FAIL(ERR_UNSUPPORTED, "%s: GGUF version %u; versions 2 and 3 are read", g->path, version);
    TRY(take_u64(&c, &n_tensors, "tensor count", why));
    TRY(take_u64(&c, &n_values, "metadata count", why));
    TRY(read_metadata(g, &c, n_values, why));
    TRY(read_tensors(g, &c, n_tensors, why));
out:
    return e;
}

static err open_mapping(struct mapped *map, const void *data, size_t size, const char *label,
                        struct gguf **out, struct why *why)
{
    err e;
    struct gguf *g = calloc(1, sizeof *g);

    if (!g)
        FAIL(ERR_NOMEM, "%s: no memory", label);
    arena_init(&g->names, 0);
    g->data = data;
    g->size = size;
    g->path = arena_strndup(&g->names, label, strlen(label));
    if (!g->path)
        FAIL(ERR_NOMEM, "%s: no memory", label);
    TRY(read_all(g, why));
    g->map = *map; /* from here on it is ours */
    *map = (struct mapped){0};
    *out = g;
    g = NULL;
out:
    gguf_close(g);
    return e;
}

err gguf_open_memory(const void *data, size_t size, const char *label, struct gguf **out, struct why *why)
{
    struct mapped none = {0};

    return open_mapping(&none, data, size, label, out, why);
}

err gguf_open(const char *path, struct gguf **out, struct why *why)
{
    err e;
    struct mapped map = {0};

    TRY(mapped_open(path, &map, why));
    TRY(open_mapping(&map, map.data, map.size, path, out, why));
out:
    mapped_close(&map);
    return e;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    catalog_fini(&g->tensors);
    free(g->by_key);
    free(g->values);
    mapped_close(&g->map);
    arena_fini(&g->names);
    free(g);
}

/* ---- look-ups ---------------------------------------------------------------- */

const char *gguf_path(const struct gguf *g)
{
    return g->path;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    return g->size;
}

const void *gguf_head(const struct gguf *g, size_t *bytes)
{
    *bytes = g->head_bytes;
    return g->data;
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    struct gguf_value wanted = {.key = key};
    const struct gguf_value *p = &wanted, **hit;

    hit = g->n_values ? bsearch(&p, g->by_key, g->n_values, sizeof *g->by_key, by_key) : NULL;
    return hit ? *hit : NULL;
}

size_t gguf_n_values(const struct gguf *g)
{
    return g->n_values;
}

const struct gguf_value *gguf_value_at(const struct gguf *g, size_t i)
{
    return &g->values[i];
}

bool gguf_number(const struct gguf_value *v, uint64_t i, double *out)
{
    const uint8_t *p = v->data + (size_t)i * (size_t)value_types[v->type].bytes;
    double x = 0;

#define READ_AS(type)                \
    {                                \
        type raw;                    \
        memcpy(&raw, p, sizeof raw); \
        x = (double)raw;             \
        break;                       \
    }
    switch (v->type) {
    case GGUF_U8:
        READ_AS(uint8_t)
    case GGUF_I8:
        READ_AS(int8_t)
    case GGUF_U16:
        READ_AS(uint16_t)
    case GGUF_I16:
        READ_AS(int16_t)
    case GGUF_U32:
        READ_AS(uint32_t)
    case GGUF_I32:
        READ_AS(int32_t)
    case GGUF_F32:
        READ_AS(float)
    case GGUF_U64:
        READ_AS(uint64_t)
    case GGUF_I64:
        READ_AS(int64_t)
    case GGUF_F64:
        READ_AS(double)
    case GGUF_BOOL:
        x = *p != 0;
        break;
    default:
        return false;
    }
#undef READ_AS
    if (!isfinite(x))
        return false;
    *out = x;
    return true;
}

struct gguf_strings gguf_strings(const struct gguf_value *v)
{
    return (struct gguf_strings){.at = v->data, .left = v->n};
}

bool gguf_string_next(struct gguf_strings *w, const char **s, size_t *len)
{
    uint64_t n;

    if (w->left == 0)
        return false;
    memcpy(&n, w->at, sizeof n);
    *s = (const char *)w->at + sizeof n;
    *len = (size_t)n;
    w->at += sizeof n + n;
    w->left--;
    return true;
}

bool gguf_text(const struct gguf_value *v, const char **s, size_t *len)
{
    if (v->array || v->type != GGUF_STRING)
        return false;
    struct gguf_strings w = gguf_strings(v);
    return gguf_string_next(&w, s, len);
}

const struct catalog *gguf_tensors(const struct gguf *g)
{
    return &g->tensors;
}
