/* weights.c - binding, measuring and loading.
 *
 * Opening asks the source for every role of the range, lists one item per tensor
 * with its packed size, and gives each a place in one block. Loading
 * then fills item after item, each in one loop on the pool: a source may have to
 * put a tensor in order in a copy first, and one copy at a time is enough. What
 * lies packed in shards is mapped instead, and multiplied where it lies.
 */
#include "model/weights.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/cpu.h"
#include "base/spread.h"
#include "model/weight_item.h"
#include "model/weights_file.h"

struct weights {
    const struct source *src; /* borrowed until weights_load() returns */
    struct weight_range range;
    bool shared_head;
    struct weight model[W_COUNT];
    struct weight (*layers)[W_COUNT]; /* [last - first] */
    struct weight_items items;
    char *block;             /* packed here, or copied; NULL: ... */
    struct weight_maps maps; /* ... all are views of these */
    uint64_t bytes;
};

static err items_push(struct weight_items *it, struct weight_item x, struct why *why)
{
    if (it->n == it->cap) {
        int cap = it->cap ? 2 * it->cap : 256;
        struct weight_item *at = realloc(it->at, (size_t)cap * sizeof *at);
        if (!at)
            return why_set(why, ERR_NOMEM, "the list of %d tensors", cap);
        it->at = at;
        it->cap = cap;
    }
    x.bytes = (item_unit_bytes(&x) * (uint64_t)item_units(&x) + 63) & ~(uint64_t)63;
    it->at[it->n++] = x;
    return ERR_OK;
}

/* KV_B holds, per head, qk_nope rows that make keys and head_dim_v rows that make
 * values, all of kv_lora columns. */
static err push_kv_b(struct weight_items *it, const struct tensor_view *t, int layer,
                     const struct hparams *hp, struct weight *set, struct why *why)
{
    err e;
    struct weight_item x = {
        .role = W_KV_B, .layer = layer, .src_fmt = t->fmt, .row_bytes = t->row_bytes, .n_stack = hp->n_head};
    x.src_stack_bytes = (size_t)(hp->qk_nope + hp->head_dim_v) * t->row_bytes;

    struct weight_item keys = x, values = x;
    keys.kind = ITEM_TRANSPOSE;
    keys.fmt = FMT_F32;
    keys.n = hp->kv_lora;
    keys.k = hp->qk_nope;
    keys.as = W_K_B_PROJ;
    keys.to = &set[keys.as];
    TRY(items_push(it, keys, why));

    values.kind = ITEM_PACK;
    values.fmt = t->fmt;
    values.src_first = (size_t)hp->qk_nope * t->row_bytes;
    values.n = hp->head_dim_v;
    values.k = hp->kv_lora;
    values.as = W_V_B_PROJ;
    values.to = &set[values.as];
    TRY(items_push(it, values, why));
    e = ERR_OK;
out:
    return e;
}

static err push_tensor(struct weight_items *it, const struct tensor_view *t, enum weight_role role, int layer,
                       const struct hparams *hp, struct weight *set, struct why *why)
{
    struct weight_item x = {.to = &set[role],
                            .role = role,
                            .as = role,
                            .layer = layer,
                            .src_fmt = t->fmt,
                            .fmt = weight_kind(role) == WEIGHT_VECTOR ? FMT_F32 : t->fmt,
                            .row_bytes = t->row_bytes,
                            .n = 1,
                            .n_stack = 1};
    int64_t outer = 1;

    for (int d = 0; d < t->n_dims; d++)
        if (t->dims[d] < 1 || t->dims[d] > INT32_MAX)
            return why_set(why, ERR_SHAPE, "%s: dimension %d is %lld", t->name, d, (long long)t->dims[d]);
    x.k = (int)t->dims[t->n_dims - 1];
    if (weight_kind(role) == WEIGHT_VECTOR) {
        for (int d = 0; d + 1 < t->n_dims; d++)
            outer *= t->dims[d];
        x.kind = ITEM_VECTOR;
        x.n_stack = (int)outer;
        return items_push(it, x, why);
    }
    /* A matrix of one row may come as a vector (the gate of a shared expert). */
    x.n = t->n_dims >= 2 ? (int)t->dims[t->n_dims - 2] : 1;
    for (int d = 0; d + 2 < t->n_dims; d++)
        outer *= t->dims[d];
    x.n_stack = (int)outer;
    x.src_stack_bytes = (size_t)x.n * t->row_bytes;
    if (x.k % fmt_traits[t->fmt].block != 0 || x.k > MUL_MAX_K)
        return why_set(why, ERR_SHAPE, "%s: rows of %d elements cannot be multiplied as %s", t->name, x.k,
                       fmt_traits[t->fmt].name);
    if (role == W_KV_B)
        return push_kv_b(it, t, layer, hp, set, why);
    x.kind = ITEM_PACK;
    if (role == W_ROUTER || role == W_SHEXP_GATE) {
        x.kind = ITEM_WIDEN;
        x.fmt = FMT_F32;
    }
    return items_push(it, x, why);
}

static bool role_wanted(enum weight_role role, struct weight_range r)
{
    switch (role) {
    case W_EMBD:
    case W_EMBD_NORM:
    case W_EMBD_NORM_B:
    case W_POS_EMBD:
    case W_TYPE_EMBD:
        return r.embed;
    case W_HEAD:
    case W_HEAD_B:
    case W_HEAD_NORM:
    case W_HEAD_NORM_B:
        return r.head;
    default:
        return true;
    }
}

/* Adds the tensor of `role` if the model has it. */
static err list_role(struct weight_items *it, const struct source *src, enum weight_role role, int layer,
                     struct weight *set, struct why *why)
{
    struct tensor_view t;
    err e = source_tensor_shape(src, role, layer, &t, why);
    if (e == ERR_NOTFOUND)
        return ERR_OK;
    if (e != ERR_OK)
        return e;
    return push_tensor(it, &t, role, layer, source_hparams(src), set, why);
}

/* True if the head is the embedding: the source answers both with one tensor. */
static bool head_is_tied(const struct source *src)
{
    struct tensor_view head, embd;
    return source_tensor_shape(src, W_HEAD, 0, &head, NULL) == ERR_OK &&
           source_tensor_shape(src, W_EMBD, 0, &embd, NULL) == ERR_OK && strcmp(head.name, embd.name) == 0;
}

static err list_items(struct weights *w, struct why *why)
{
    err e;
    struct weight_range r = w->range;
    for (int i = 0; i < W_COUNT; i++) {
        enum weight_role role = (enum weight_role)i;
        if (weight_is_layer(role)) {
            for (int l = r.first; l < r.last; l++)
                TRY(list_role(&w->items, w->src, role, l, w->layers[l - r.first], why));
        } else if (role_wanted(role, r) && !(role == W_HEAD && w->shared_head)) {
            TRY(list_role(&w->items, w->src, role, 0, w->model, why));
        }
    }
    e = ERR_OK;
out:
    return e;
}

static uint64_t place_items(struct weight_items *it)
{
    uint64_t total = 0;
    for (int i = 0; i < it->n; i++) {
        it->at[i].offset = total;
        total += it->at[i].bytes;
    }
    return total;
}

/* data NULL: shape only. */
static void bind_item(const struct weight_item *x, const void *data)
{
    struct weight *w = x->to;
    *w = (struct weight){.n_stack = x->n_stack};
    if (x->kind == ITEM_VECTOR) {
        w->v = data;
        w->n = (int64_t)x->n_stack * x->k;
        return;
    }
    w->n = x->n;
    w->w = (struct packed){.fmt = x->fmt, .n = x->n, .k = x->k, .data = data};
    w->w.group_bytes = pack_group_bytes(x->fmt, x->k);
    w->stack_bytes = w->w.group_bytes * (size_t)pack_groups(x->n);
}

/* The head that is the embedding. */
static void share_tied(struct weights *w)
{
    if (w->shared_head)
        w->model[W_HEAD] = w->model[W_EMBD];
}

err weights_open(const struct source *src, struct weight_range r, struct weights **out, struct why *why)
{
    err e;
    struct weights *w = calloc(1, sizeof *w);
    assert(0 <= r.first && r.first <= r.last && r.last <= source_hparams(src)->n_layer);
    if (!w)
        FAIL(ERR_NOMEM, "weight table");
    w->range = r;
    w->src = src;
    w->shared_head = r.head && r.embed && head_is_tied(src);
    w->layers = calloc((size_t)(r.last - r.first) + 1, sizeof *w->layers);
    if (!w->layers)
        FAIL(ERR_NOMEM, "weight table of %d layers", r.last - r.first);

    TRY(list_items(w, why));
    w->bytes = place_items(&w->items);
    for (int i = 0; i < w->items.n; i++)
        bind_item(&w->items.at[i], NULL);
    share_tied(w);
    *out = w;
    w = NULL;
out:
    weights_close(w);
    return e;
}

/* ---- loading ---- */

static err alloc_block(struct weights *w, struct why *why)
{
    uint64_t have = cpu_available_bytes();
    assert(!w->block);
    if (w->bytes > have || !(w->block = mem_alloc_raw(w->bytes + 64, 1)))
        return why_set(why, ERR_NOMEM, "the weights of layers %d to %d need %.1f MiB and %.1f MiB are free",
                       w->range.first, w->range.last, (double)w->bytes / 0x1p20, (double)have / 0x1p20);
    return ERR_OK;
}

static err pack_all(struct weights *w, struct pool *pool, struct why *why)
{
    err e;
    struct filler *f = NULL;
    TRY(alloc_block(w, why));
    TRY(filler_open(&w->items, w->src, pool, &f, why));
    for (int i = 0; i < w->items.n; i++) {
        const struct weight_item *x = &w->items.at[i];
        TRY(filler_take(f, x, why));
        filler_fill(f, 0, item_units(x), w->block + x->offset);
        bind_item(x, w->block + x->offset);
    }
out:
    filler_close(f);
    return e;
}

struct copy {
    const struct weight_item *item;
    char *to;
    const char *from;
};
enum { COPY_PIECE = 1 << 20 };
#define FAR_SHARE 0.05

static void copy_task(void *ctx, int first, int last, int worker)
{
    const struct copy *c = ctx;
    size_t at = (size_t)first * COPY_PIECE, end = (size_t)last * COPY_PIECE;
    (void)worker;
    memcpy(c->to + at, c->from + at, (end < c->item->bytes ? end : c->item->bytes) - at);
}

/* A file's pages lie where they were first read, and cannot be moved. Weights are copied into
 * memory of the rank's own if they would be far from its cores: if those see several memory
 * domains, over which the block is spread, or another one than the pages lie in. */
static err copy_near(struct weights *w, struct pool *pool, const void **at, struct why *why)
{
    err e = alloc_block(w, why);
    for (int i = 0; e == ERR_OK && i < w->items.n; i++) {
        const struct weight_item *x = &w->items.at[i];
        struct copy c = {x, w->block + x->offset, at[i]};
        pool_run(pool, (int)((x->bytes + COPY_PIECE - 1) / COPY_PIECE), 1, copy_task, &c);
        at[i] = c.to;
    }
    return e;
}

static bool better_copied(const struct weights *w, const void *const *at)
{
    double far_bytes = 0;
    for (int i = 0; i < w->items.n; i++)
        far_bytes += spread_elsewhere(at[i], w->items.at[i].bytes) * (double)w->items.at[i].bytes;
    return spread_active() || far_bytes > FAR_SHARE * (double)w->bytes;
}

static err map_all(struct weights *w, struct pool *pool, struct why *why)
{
    err e;
    const void **at = calloc((size_t)w->items.n + 1, sizeof *at);
    if (!at)
        FAIL(ERR_NOMEM, "a list of %d weights", w->items.n);
    TRY(items_map(&w->items, w->src, w->range, head_is_tied(w->src), pool, &w->maps, at, why));
    if (better_copied(w, at))
        TRY(copy_near(w, pool, at, why));
    for (int i = 0; i < w->items.n; i++)
        bind_item(&w->items.at[i], at[i]);
out:
    if (e || w->block)
        weight_maps_close(&w->maps);
    free(at);
    return e;
}

err weights_load(struct weights *w, struct pool *pool, struct why *why)
{
    err e = source_shards(w->src) ? map_all(w, pool, why) : pack_all(w, pool, why);
    if (e == ERR_OK)
        share_tied(w);
    return e;
}

err weights_write(const struct weights *w, const char *sample, const char *path, struct pool *pool,
                  struct why *why)
{
    return items_write(&w->items, w->src, w->range, sample, path, pool, why);
}

uint64_t weights_file_bytes(const struct weights *w)
{
    return packed_file_data((uint64_t)w->items.n) + w->bytes;
}

void weights_close(struct weights *w)
{
    if (!w)
        return;
    weight_maps_close(&w->maps);
    free(w->block);
    free(w->items.at);
    free(w->layers);
    free(w);
}

bool weights_mapped(const struct weights *w)
{
    return w->maps.n > 0;
}

uint64_t weights_bytes(const struct weights *w)
{
    return w->bytes;
}

const struct weight *weights_layer(const struct weights *w, int layer)
{
    assert(layer >= w->range.first && layer < w->range.last);
    return w->layers[layer - w->range.first];
}

const struct weight *weights_model(const struct weights *w)
{
    return w->model;
}
