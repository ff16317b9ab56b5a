/* weights.c - binding, measuring and packing.
 *
 * Opening asks the source for every role of the range, lists one item per tensor
 * with its packed size, and gives each a place in one block. Loading
 * then fills item after item, each in one loop on the pool: a source may have to
 * put a tensor in order in a copy first, and one copy at a time is enough.
 *
 * A unit of such a loop is one group of 16 rows of one matrix of a stack; for a
 * transposed item it is a whole matrix, since each of its groups needs every
 * source row.
 */
#include "model/weights.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/cpu.h"

enum item_kind { ITEM_VECTOR, ITEM_PACK, ITEM_WIDEN /* to f32 */, ITEM_TRANSPOSE /* and to f32 */ };

struct item {
    enum item_kind kind;
    struct weight *to;
    enum weight_role role; /* in the source */
    int layer;
    enum fmt src_fmt, fmt; /* there, packed */
    size_t row_bytes, src_first, src_stack_bytes;
    int n, k, n_stack; /* of the packed matrix; vector: n_stack rows of k */
    size_t bytes, offset;
};

struct items {
    struct item *at;
    int n, cap;
};

struct weights {
    const struct source *src; /* borrowed until weights_load() returns */
    struct weight_range range;
    bool shared_head;
    struct weight model[W_COUNT];
    struct weight (*layers)[W_COUNT]; /* [last - first] */
    struct items items;
    char *block;
    uint64_t bytes;
};

static err items_push(struct items *it, struct item x, struct why *why)
{
    if (it->n == it->cap) {
        int cap = it->cap ? 2 * it->cap : 256;
        struct item *at = realloc(it->at, (size_t)cap * sizeof *at);
        if (!at)
            return why_set(why, ERR_NOMEM, "the list of %d tensors", cap);
        it->at = at;
        it->cap = cap;
    }
    size_t group = x.kind == ITEM_VECTOR ? 0 : pack_group_bytes(x.fmt, x.k) * (size_t)pack_groups(x.n);
    size_t bytes =
        x.kind == ITEM_VECTOR ? (size_t)x.n_stack * (size_t)x.k * sizeof(float) : group * (size_t)x.n_stack;
    x.bytes = (bytes + 63) & ~(size_t)63;
    it->at[it->n++] = x;
    return ERR_OK;
}

/* KV_B holds, per head, qk_nope rows that make keys and head_dim_v rows that make
 * values, all of kv_lora columns. */
static err push_kv_b(struct items *it, const struct tensor_view *t, int layer, const struct hparams *hp,
                     struct weight *set, struct why *why)
{
    err e;
    struct item x = {
        .role = W_KV_B, .layer = layer, .src_fmt = t->fmt, .row_bytes = t->row_bytes, .n_stack = hp->n_head};
    x.src_stack_bytes = (size_t)(hp->qk_nope + hp->head_dim_v) * t->row_bytes;

    struct item keys = x, values = x;
    keys.kind = ITEM_TRANSPOSE;
    keys.fmt = FMT_F32;
    keys.n = hp->kv_lora;
    keys.k = hp->qk_nope;
    keys.to = &set[W_K_B_PROJ];
    TRY(items_push(it, keys, why));

    values.kind = ITEM_PACK;
    values.fmt = t->fmt;
    values.src_first = (size_t)hp->qk_nope * t->row_bytes;
    values.n = hp->head_dim_v;
    values.k = hp->kv_lora;
    values.to = &set[W_V_B_PROJ];
    TRY(items_push(it, values, why));
    e = ERR_OK;
out:
    return e;
}

static err push_tensor(struct items *it, const struct tensor_view *t, enum weight_role role, int layer,
                       const struct hparams *hp, struct weight *set, struct why *why)
{
    struct item x = {.to = &set[role],
                     .role = role,
                     .layer = layer,
                     .src_fmt = t->fmt,
                     .fmt = t->fmt,
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
static err list_role(struct items *it, const struct source *src, enum weight_role role, int layer,
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

static int item_units(const struct item *x)
{
    return x->kind == ITEM_VECTOR || x->kind == ITEM_TRANSPOSE ? x->n_stack : x->n_stack * pack_groups(x->n);
}

static uint64_t place_items(struct items *it)
{
    uint64_t total = 0;
    for (int i = 0; i < it->n; i++) {
        it->at[i].offset = total;
        total += it->at[i].bytes;
    }
    return total;
}

/* f32 rows a worker needs while it converts one unit. */
static size_t item_scratch(const struct item *x)
{
    if (x->kind == ITEM_WIDEN)
        return (size_t)PACK_ROWS * (size_t)x->k;
    if (x->kind == ITEM_TRANSPOSE)
        return (size_t)x->n * (size_t)(x->k + 1);
    return 0;
}

struct fill {
    const struct item *item;
    const char *src;
    char *to;
    float *scratch; /* [threads][scratch_each] */
    size_t scratch_each;
};

static void fill_transposed(const struct item *x, char *dst, const char *src, float *tmp)
{
    float *row = tmp, *t = tmp + x->n; /* t [n][k] */
    for (int j = 0; j < x->k; j++) {
        fmt_dequant_row(x->src_fmt, row, src + (size_t)j * x->row_bytes, x->n);
        for (int i = 0; i < x->n; i++)
            t[(size_t)i * (size_t)x->k + (size_t)j] = row[i];
    }
    pack_rows(x->fmt, dst, t, (size_t)x->k * sizeof(float), x->n, x->k, 0, pack_groups(x->n));
}

static void fill_unit(const struct fill *f, int unit, float *tmp)
{
    const struct item *x = f->item;
    if (x->kind == ITEM_VECTOR) {
        fmt_dequant_row(x->src_fmt, (float *)f->to + (size_t)unit * (size_t)x->k,
                        f->src + (size_t)unit * x->row_bytes, x->k);
        return;
    }
    size_t group = pack_group_bytes(x->fmt, x->k);
    int groups = pack_groups(x->n), stack = unit / groups, g = unit % groups;
    if (x->kind == ITEM_TRANSPOSE) {
        fill_transposed(x, f->to + (size_t)unit * group * (size_t)groups,
                        f->src + (size_t)unit * x->src_stack_bytes, tmp);
        return;
    }
    const char *src = f->src + x->src_first + (size_t)stack * x->src_stack_bytes;
    char *dst = f->to + (size_t)stack * group * (size_t)groups;
    if (x->kind == ITEM_PACK) {
        pack_rows(x->fmt, dst, src, x->row_bytes, x->n, x->k, g, g + 1);
        return;
    }
    int rows = x->n - g * PACK_ROWS;
    if (rows > PACK_ROWS)
        rows = PACK_ROWS;
    for (int r = 0; r < rows; r++)
        fmt_dequant_row(x->src_fmt, tmp + (size_t)r * (size_t)x->k,
                        src + (size_t)(g * PACK_ROWS + r) * x->row_bytes, x->k);
    pack_rows(x->fmt, dst + (size_t)g * group, tmp, (size_t)x->k * sizeof(float), rows, x->k, 0, 1);
}

static void fill_task(void *ctx, int first, int last, int worker)
{
    const struct fill *f = ctx;
    for (int u = first; u < last; u++)
        fill_unit(f, u, f->scratch + (size_t)worker * f->scratch_each);
}

/* block NULL: shape only. */
static void bind_item(const struct item *x, const char *block)
{
    struct weight *w = x->to;
    *w = (struct weight){.n_stack = x->n_stack};
    if (x->kind == ITEM_VECTOR) {
        w->v = block ? (const float *)(block + x->offset) : NULL;
        w->n = (int64_t)x->n_stack * x->k;
        return;
    }
    w->n = x->n;
    w->w = (struct packed){.fmt = x->fmt, .n = x->n, .k = x->k};
    w->w.data = block ? block + x->offset : NULL;
    w->w.group_bytes = pack_group_bytes(x->fmt, x->k);
    w->stack_bytes = w->w.group_bytes * (size_t)pack_groups(x->n);
}

static err fill_items(struct weights *w, struct pool *pool, struct why *why)
{
    err e;
    struct tensor_view view = {.data = NULL};
    struct fill f = {.scratch = NULL};
    for (int i = 0; i < w->items.n; i++)
        if (item_scratch(&w->items.at[i]) > f.scratch_each)
            f.scratch_each = item_scratch(&w->items.at[i]);
    f.scratch_each = (f.scratch_each + 15) & ~(size_t)15;
    f.scratch = mem_alloc(f.scratch_each * (size_t)pool_threads(pool) + 1, sizeof(float));
    if (!f.scratch)
        FAIL(ERR_NOMEM, "conversion buffers of %zu floats a thread", f.scratch_each);
    for (int i = 0; i < w->items.n; i++) {
        f.item = &w->items.at[i];
        TRY(source_tensor(w->src, f.item->role, f.item->layer, &view, why));
        f.src = view.data;
        f.to = w->block + f.item->offset;
        pool_run(pool, item_units(f.item), f.item->kind == ITEM_TRANSPOSE ? 1 : 16, fill_task, &f);
        tensor_view_fini(&view);
    }
    e = ERR_OK;
out:
    free(f.scratch);
    return e;
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

err weights_load(struct weights *w, struct pool *pool, struct why *why)
{
    err e;
    uint64_t have = cpu_available_bytes();
    assert(!w->block);
    if (w->bytes > have || !(w->block = mem_alloc_raw(w->bytes + 64, 1)))
        FAIL(ERR_NOMEM, "the weights of layers %d to %d need %.1f MiB and %.1f MiB are free", w->range.first,
             w->range.last, (double)w->bytes / 0x1p20, (double)have / 0x1p20);
    TRY(fill_items(w, pool, why));
    for (int i = 0; i < w->items.n; i++)
        bind_item(&w->items.at[i], w->block);
    share_tied(w);
out:
    return e;
}

void weights_close(struct weights *w)
{
    if (!w)
        return;
    free(w->block);
    free(w->items.at);
    free(w->layers);
    free(w);
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
