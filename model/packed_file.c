/* packed_file.c - reading packed files; see packed_file.h. The writer is packed_writer.c. */
#include "model/packed_file.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "model/mapped.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed files are read as they lie");

struct packed_file {
    struct mapped map; /* empty when opened from memory */
    struct packed_head head;
    struct packed_weight *weights; /* [n_entries], sorted by role and layer */
    char *path;
};

static int compare_weights(const void *a, const void *b)
{
    const struct packed_weight *x = a, *y = b;
    if (x->role != y->role)
        return x->role < y->role ? -1 : 1;
    return x->layer < y->layer ? -1 : x->layer > y->layer;
}

/* ---- checking ---- */

/* A word of a fixed field: it must end, and nothing may follow it. */
static bool field_is(const char *field, size_t size, const char *word)
{
    size_t len = strlen(word);
    if (len >= size || memcmp(field, word, len) != 0)
        return false;
    for (size_t i = len; i < size; i++)
        if (field[i])
            return false;
    return true;
}

/* What n_stack matrices of that shape take; 0: a shape that no weight has. */
static uint64_t shape_bytes(const struct packed_weight *w)
{
    const int64_t stack = w->n_stack;
    uint64_t each;
    if (w->n < 1 || w->k < 1 || w->n_stack < 1)
        return 0;
    if (weight_kind(w->role) == WEIGHT_VECTOR) {
        if (w->fmt != FMT_F32 || w->n != 1)
            return 0;
        each = (uint64_t)w->k * sizeof(float);
    } else {
        if (w->k % fmt_traits[w->fmt].block)
            return 0;
        each = (uint64_t)pack_group_bytes(w->fmt, w->k) * (uint64_t)((w->n - 1) / PACK_ROWS + 1);
    }
    uint64_t all;
    if (__builtin_mul_overflow(each, (uint64_t)stack, &all) || all > UINT64_MAX - 63)
        return 0;
    return (all + 63) & ~(uint64_t)63;
}

static err check_entry(const struct packed_file *f, size_t i, const struct packed_entry *x,
                       struct packed_weight *out, const uint8_t *data, struct why *why)
{
    struct packed_weight w = {
        .layer = x->layer, .n = x->n, .k = x->k, .n_stack = x->n_stack, .bytes = x->bytes, .sum = x->sum};
    int role = 0, fmt = 0;
    while (role < W_COUNT && !field_is(x->role, sizeof x->role, weight_role_name((enum weight_role)role)))
        role++;
    while (fmt < FMT_COUNT && !field_is(x->fmt, sizeof x->fmt, fmt_traits[fmt].name))
        fmt++;
    if (role == W_COUNT || fmt == FMT_COUNT)
        return why_set(why, ERR_UNSUPPORTED, "%s: entry %zu is a weight or of a type that is not known here",
                       f->path, i);
    w.role = (enum weight_role)role;
    w.fmt = (enum fmt)fmt;
    const int first = weight_is_layer(w.role) ? f->head.first : 0,
              last = weight_is_layer(w.role) ? f->head.last : 1;
    if (w.layer < first || w.layer >= last)
        return why_set(why, ERR_FORMAT, "%s: %s of layer %d in a file of layers %d to %d", f->path,
                       weight_role_name(w.role), w.layer, f->head.first, f->head.last);
    if (!w.bytes || w.bytes != shape_bytes(&w))
        return why_set(why, ERR_FORMAT,
                       "%s: %s of layer %d: %d x %d x %d of %s do not take %" PRIu64 " bytes", f->path,
                       weight_role_name(w.role), w.layer, w.n_stack, w.n, w.k, fmt_traits[fmt].name, w.bytes);
    if (x->offset % 64 || x->offset > f->head.data_bytes || w.bytes > f->head.data_bytes - x->offset)
        return why_set(why, ERR_FORMAT, "%s: %s of layer %d: bytes %" PRIu64 " to %" PRIu64 " of %" PRIu64,
                       f->path, weight_role_name(w.role), w.layer, x->offset, x->offset + w.bytes,
                       f->head.data_bytes);
    w.data = data + x->offset;
    *out = w;
    return ERR_OK;
}

static err check_head(struct packed_file *f, const uint8_t *file, size_t size, struct why *why)
{
    struct packed_head *h = &f->head;
    if (size < sizeof *h || memcmp(file, PACKED_MAGIC, sizeof h->magic) != 0)
        return why_set(why, ERR_FORMAT, "%s: not a file of packed weights", f->path);
    memcpy(h, file, sizeof *h);
    if (h->version != PACKED_FILE_VERSION || h->layout != PACK_VERSION)
        return why_set(
            why, ERR_UNSUPPORTED,
            "%s: written by another version (file %u, layout %u; here %u and %u): write the shards again",
            f->path, h->version, h->layout, PACKED_FILE_VERSION, PACK_VERSION);
    const uint64_t table = (uint64_t)h->n_entries * sizeof(struct packed_entry);
    if (table > size - sizeof *h || h->data < sizeof *h + table || h->data % PACKED_ALIGN || h->data > size)
        return why_set(why, ERR_FORMAT,
                       "%s: %u entries and data from byte %" PRIu64 " on in a file of %zu bytes", f->path,
                       h->n_entries, h->data, size);
    if (h->data_bytes != size - h->data)
        return why_set(why, ERR_FORMAT, "%s: %zu bytes, %" PRIu64 " expected: not copied to its end?",
                       f->path, size, h->data + h->data_bytes);
    if (h->first < 0 || h->last < h->first || h->embed > 1 || h->head > 1)
        return why_set(why, ERR_FORMAT, "%s: layers %d to %d", f->path, h->first, h->last);
    return ERR_OK;
}

static err check_sum(const struct packed_file *f, const uint8_t *file, struct why *why)
{
    struct packed_head bare = f->head;
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return why_set(why, ERR_NOMEM, "%s: no memory", f->path);
    bare.sum = 0;
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, &bare, sizeof bare);
    XXH3_64bits_update(state, file + sizeof bare, (size_t)bare.n_entries * sizeof(struct packed_entry));
    const uint64_t sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    if (sum != f->head.sum)
        return why_set(why, ERR_FORMAT, "%s: its table is damaged (checksum)", f->path);
    return ERR_OK;
}

static err read_table(struct packed_file *f, const uint8_t *file, struct why *why)
{
    const size_t n = f->head.n_entries;
    f->weights = calloc(n + 1, sizeof *f->weights);
    if (!f->weights)
        return why_set(why, ERR_NOMEM, "%s: a table of %zu weights", f->path, n);
    for (size_t i = 0; i < n; i++) {
        struct packed_entry x;
        memcpy(&x, file + sizeof f->head + i * sizeof x, sizeof x);
        err e = check_entry(f, i, &x, &f->weights[i], file + f->head.data, why);
        if (e)
            return e;
    }
    qsort(f->weights, n, sizeof *f->weights, compare_weights);
    for (size_t i = 1; i < n; i++)
        if (compare_weights(&f->weights[i - 1], &f->weights[i]) == 0)
            return why_set(why, ERR_FORMAT, "%s: two entries are %s of layer %d", f->path,
                           weight_role_name(f->weights[i].role), f->weights[i].layer);
    return ERR_OK;
}

/* ---- opening ---- */

static err open_bytes(struct packed_file *f, const uint8_t *file, size_t size, struct why *why)
{
    err e;
    TRY(check_head(f, file, size, why));
    TRY(check_sum(f, file, why));
    TRY(read_table(f, file, why));
out:
    return e;
}

err packed_file_open_memory(const void *data, size_t size, const char *label, struct packed_file **out,
                            struct why *why)
{
    err e;
    struct packed_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(label)))
        FAIL(ERR_NOMEM, "%s: no memory", label);
    TRY(open_bytes(f, data, size, why));
    *out = f;
    f = NULL;
out:
    packed_file_close(f);
    return e;
}

err packed_file_open(const char *path, struct packed_file **out, struct why *why)
{
    err e;
    struct packed_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path)))
        FAIL(ERR_NOMEM, "%s: no memory", path);
    TRY(mapped_open(path, &f->map, why));
    TRY(open_bytes(f, f->map.data, f->map.size, why));
    *out = f;
    f = NULL;
out:
    packed_file_close(f);
    return e;
}

void packed_file_close(struct packed_file *f)
{
    if (!f)
        return;
    mapped_close(&f->map);
    free(f->weights);
    free(f->path);
    free(f);
}

const char *packed_file_path(const struct packed_file *f)
{
    return f->path;
}

const struct packed_head *packed_file_head(const struct packed_file *f)
{
    return &f->head;
}

const struct packed_weight *packed_file_at(const struct packed_file *f, size_t i)
{
    return &f->weights[i];
}

const struct packed_weight *packed_file_find(const struct packed_file *f, enum weight_role role, int layer)
{
    const struct packed_weight key = {.role = role, .layer = layer};
    return bsearch(&key, f->weights, f->head.n_entries, sizeof key, compare_weights);
}

bool packed_weight_intact(const struct packed_weight *w)
{
    return XXH3_64bits(w->data, w->bytes) == w->sum;
}

struct search {
    const struct packed_weight *const *w;
    atomic_int damaged;
};

static void search_task(void *ctx, int first, int last, int worker)
{
    struct search *s = ctx;
    (void)worker;
    for (int i = first; i < last; i++)
        if (!packed_weight_intact(s->w[i]))
            atomic_store(&s->damaged, i);
}

int packed_weights_damaged(const struct packed_weight *const *w, int n, struct pool *pool)
{
    struct search s = {.w = w, .damaged = -1};
    pool_run(pool, n, 1, search_task, &s);
    return atomic_load(&s.damaged);
}
