/* lora_file.c - pairs of tensors into parts: which matrix, does it fit, in what order.
 *
 * Rows of B are outputs of the changed matrix, so they are read through the same
 * two maps as its rows were: the family's row order in the adapter's format (a
 * fused QKV stored per head), and, where the two formats rotate differently, the
 * order of a head's rows (Llama: halves in Hugging Face, pairs in GGUF). Columns
 * of A are inputs and always lie alike.
 */
#include "model/lora_file.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "model/codec.h"
#include "model/lora_reader.h"
#include "model/source.h"

enum { NAME_MAX_BYTES = 256, LAYER_MAX_DIGITS = 6 };

struct bound_part {
    struct lora_part part; /* first: what the header hands out */
    unsigned layout;       /* of B's rows, in the adapter's format */
};

struct lora_file {
    const char *path;
    const struct source *src;
    const struct arch_desc *arch;
    const struct hparams *hp;
    struct lora_reader reader;
    enum rope_kind rope; /* as B's rows of queries and keys lie */
    struct bound_part *parts; /* [n], by layer, then role */
    size_t n;
    int max_rank;
    uint64_t hash;
};

/* ---- names ----------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *ending)
{
    size_t n = strlen(s), k = strlen(ending);
    return n >= k && strcmp(s + n - k, ending) == 0;
}

/* Checkpoints of one family differ in the wrappers around their layers. */
static const char *without_wrappers(const char *name)
{
    static const char *const wrappers[] = {"model.", "language_model.", "transformer.", "gpt_neox.", "bert."};
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++)
        if (strncmp(name, wrappers[i], strlen(wrappers[i])) == 0)
            return without_wrappers(name + strlen(wrappers[i]));
    return name;
}

/* Is `name` the pattern with a number for each of its %d (the layer) and %e? */
static bool name_matches(const char *pattern, const char *name, int *layer)
{
    for (; *pattern; pattern++) {
        if (pattern[0] != '%' || (pattern[1] != 'd' && pattern[1] != 'e')) {
            if (*name++ != *pattern)
                return false;
            continue;
        }
        size_t digits = strspn(name, "0123456789");
        if (digits == 0 || digits > LAYER_MAX_DIGITS)
            return false;
        if (*++pattern == 'd')
            *layer = atoi(name);
        name += digits;
    }
    return *name == 0;
}

/* The row of the family's table that a changed tensor's name stands for, or NULL. */
static const struct tensor_spec *spec_find(const struct lora_file *f, const char *name, int *layer)
{
    bool hf = f->reader.names == NAMES_HF;
    for (const struct tensor_spec *s = f->arch->tensors; s->role != W_COUNT; s++) {
        const char *pattern = hf ? s->hf : s->gguf;
        if (!pattern)
            continue;
        if (hf ? name_matches(without_wrappers(pattern), without_wrappers(name), layer)
               : name_matches(pattern, name, layer))
            return s;
    }
    return NULL;
}

/* ---- what may be changed ------------------------------------------------------------------ */

/* NULL, or why a role's matrix cannot have an adapter. */
static const char *role_refusal(enum weight_role role)
{
    switch (role) {
    case W_QKV: case W_Q: case W_K: case W_V: case W_O:
    case W_GATE: case W_UP: case W_GATE_UP: case W_DOWN:
    case W_GATE_SHEXP: case W_UP_SHEXP: case W_DOWN_SHEXP:
    case W_Q_A: case W_Q_B_PROJ: case W_KV_A:
        return NULL;
    case W_GATE_EXPS: case W_UP_EXPS: case W_GATE_UP_EXPS: case W_DOWN_EXPS:
        return "it changes experts, of which each token would need its own adapter";
    case W_ROUTER: case W_SHEXP_GATE:
        return "it changes a router";
    case W_KV_B: case W_K_B_PROJ: case W_V_B_PROJ:
        return "latent attention folds this matrix into others";
    case W_EMBD: case W_HEAD: case W_POS_EMBD: case W_TYPE_EMBD:
        return "embeddings and the head cannot be changed by an adapter here";
    default:
        return "only the matrices of attention and feed-forward layers can be changed";
    }
}

static bool has(const struct lora_file *f, enum weight_role role, int layer)
{
    struct tensor_view v;
    return source_tensor_shape(f->src, role, layer, &v, NULL) == ERR_OK;
}

/* Parts of a fused matrix may be changed alone, and Q, K, V together too: they all
 * add to the same buffer. */
static bool role_is_there(const struct lora_file *f, enum weight_role role, int layer)
{
    switch (role) {
    case W_Q: case W_K: case W_V:
        return has(f, role, layer) || has(f, W_QKV, layer);
    case W_QKV:
        return has(f, W_QKV, layer) || has(f, W_Q, layer);
    case W_GATE: case W_UP:
        return has(f, role, layer) || has(f, W_GATE_UP, layer);
    default:
        return has(f, role, layer);
    }
}

/* ---- parts ------------------------------------------------------------------------------- */

static err check_pair(const struct lora_file *f, const struct tensor_spec *spec, const struct file_tensor *a,
                      const struct file_tensor *b, struct why *why)
{
    int64_t in = dim_value(f->hp, spec->shape[0]), out = dim_value(f->hp, spec->shape[1]);
    char have_a[96], have_b[96];

    if (a->n_dims != 2 || b->n_dims != 2 || a->dims[1] != in || b->dims[0] != out || a->dims[0] != b->dims[1] ||
        a->dims[0] < 1) {
        file_tensor_shape(a, have_a);
        file_tensor_shape(b, have_b);
        return why_set(why, ERR_SHAPE, "%s: %s is %s and %s is %s; the model's matrix is [%lld, %lld]", f->path,
                       a->name, have_a, b->name, have_b, (long long)out, (long long)in);
    }
    if (a->dims[0] > LORA_MAX_RANK)
        return why_set(why, ERR_UNSUPPORTED, "%s: %s has rank %lld; at most %d", f->path, a->name,
                       (long long)a->dims[0], LORA_MAX_RANK);
    for (int i = 0; i < 2; i++) {
        const struct file_tensor *t = i ? b : a;
        if (t->fmt == FMT_COUNT || t->codec != CODEC_PLAIN)
            return why_set(why, ERR_UNSUPPORTED, "%s: tensor %s has type %s, which cannot be read", f->path,
                           t->name, t->type_name);
    }
    return ERR_OK;
}

/* What a tensor that is no half of a pair would have meant. */
static err refuse_stray(const struct lora_file *f, const char *name, struct why *why)
{
    const char *reason = strstr(name, "lora_magnitude")   ? "DoRA is not supported"
                         : strstr(name, "lora_embedding") ? "embeddings cannot be changed by an adapter here"
                         : ends_with(name, ".bias")       ? "trained biases are not supported"
                         : strstr(name, "lora_")          ? "its other half is missing or its name is unknown"
                                                          : "weights saved as a whole are not supported";
    return why_set(why, ERR_UNSUPPORTED, "%s: tensor %s: %s", f->path, name, reason);
}

/* a's other half, and the module and tensor that the two change. */
static const struct file_tensor *names_of(const struct lora_file *f, const struct file_tensor *a,
                                          char module[NAME_MAX_BYTES], char changed[NAME_MAX_BYTES])
{
    const struct lora_reader *r = &f->reader;
    char other[NAME_MAX_BYTES];
    size_t len = strlen(a->name) - strlen(r->a_ending), skip = strlen(r->prefix);
    const char *start = a->name;

    if (len + 16 > NAME_MAX_BYTES)
        return NULL;
    snprintf(other, sizeof other, "%.*s%s", (int)len, a->name, r->b_ending);
    if (skip && len > skip && strncmp(start, r->prefix, skip) == 0) {
        start += skip;
        len -= skip;
    }
    snprintf(module, NAME_MAX_BYTES, "%.*s", (int)len, start);
    snprintf(changed, NAME_MAX_BYTES, "%.*s%s", (int)len, start, r->suffix);
    return catalog_find(r->tensors, other);
}

static err bind_part(struct lora_file *f, const struct file_tensor *a, struct why *why)
{
    err e;
    char module[NAME_MAX_BYTES], changed[NAME_MAX_BYTES];
    int layer = -1;
    float scale;
    const struct file_tensor *b = names_of(f, a, module, changed);

    if (!b)
        return refuse_stray(f, a->name, why);
    const struct tensor_spec *spec = spec_find(f, changed, &layer);
    if (!spec)
        FAIL(ERR_UNSUPPORTED, "%s: tensor %s changes nothing that family %s has", f->path, a->name,
             f->arch->name);
    if (role_refusal(spec->role))
        FAIL(ERR_UNSUPPORTED, "%s: tensor %s: %s", f->path, a->name, role_refusal(spec->role));
    if (layer < 0 || layer >= f->hp->n_layer)
        FAIL(ERR_SHAPE, "%s: tensor %s is of layer %d, the model has %d", f->path, a->name, layer,
             f->hp->n_layer);
    if (!role_is_there(f, spec->role, layer))
        FAIL(ERR_UNSUPPORTED, "%s: tensor %s: the model's layer %d has no such matrix", f->path, a->name, layer);
    TRY(check_pair(f, spec, a, b, why));
    TRY(f->reader.scale(f->reader.ctx, module, (int)a->dims[0], &scale, why));
    if (!isfinite(scale))
        FAIL(ERR_FORMAT, "%s: %s has a scale that is not a number", f->path, module);
    f->parts[f->n++] = (struct bound_part){
        .part = {.role = spec->role,
                 .layer = layer,
                 .in = (int)a->dims[1],
                 .out = (int)b->dims[0],
                 .rank = (int)a->dims[0],
                 .scale = scale,
                 .a = a,
                 .b = b},
        .layout = f->reader.names == NAMES_HF ? spec->hf_layout : spec->gguf_layout,
    };
    if (a->dims[0] > f->max_rank)
        f->max_rank = (int)a->dims[0];
out:
    return e;
}

static int by_place(const void *a, const void *b)
{
    const struct lora_part *x = &((const struct bound_part *)a)->part, *y = &((const struct bound_part *)b)->part;
    return x->layer != y->layer ? (x->layer > y->layer) - (x->layer < y->layer)
                                : (x->role > y->role) - (x->role < y->role);
}

const struct lora_part *lora_file_part(const struct lora_file *f, enum weight_role role, int layer)
{
    struct bound_part key = {.part = {.role = role, .layer = layer}};
    const struct bound_part *found = bsearch(&key, f->parts, f->n, sizeof *f->parts, by_place);
    return found ? &found->part : NULL;
}

/* No matrix may be changed twice, be it by another name or as part of a fused one. */
static err check_once(const struct lora_file *f, struct why *why)
{
    static const enum weight_role fused[][2] = {
        {W_QKV, W_Q}, {W_QKV, W_K}, {W_QKV, W_V}, {W_GATE_UP, W_GATE}, {W_GATE_UP, W_UP}};
    for (size_t i = 0; i < f->n; i++) {
        const struct lora_part *p = &f->parts[i].part;
        bool twice = i > 0 && by_place(&f->parts[i - 1], &f->parts[i]) == 0;
        for (size_t j = 0; j < sizeof fused / sizeof fused[0]; j++)
            twice = twice || (p->role == fused[j][0] && lora_file_part(f, fused[j][1], p->layer));
        if (twice)
            return why_set(why, ERR_FORMAT, "%s: tensor %s: layer %d's matrix is changed twice", f->path,
                           p->a->name, p->layer);
    }
    return ERR_OK;
}

static err bind_parts(struct lora_file *f, struct why *why)
{
    err e;
    const struct catalog *c = f->reader.tensors;

    f->parts = calloc(c->n + 1, sizeof *f->parts);
    if (!f->parts)
        FAIL(ERR_NOMEM, "%s: no memory for %zu tensors", f->path, c->n);
    size_t halves = 0;
    for (size_t i = 0; i < c->n; i++) {
        bool second = ends_with(c->t[i].name, f->reader.b_ending);
        halves += second;
        if (second)
            continue;
        if (!ends_with(c->t[i].name, f->reader.a_ending))
            return refuse_stray(f, c->t[i].name, why);
        TRY(bind_part(f, &c->t[i], why));
    }
    if (halves != f->n)
        FAIL(ERR_FORMAT, "%s: %zu tensors %s for %zu tensors %s", f->path, halves, f->reader.b_ending, f->n,
             f->reader.a_ending);
    if (f->n == 0)
        FAIL(ERR_FORMAT, "%s: holds no adapter", f->path);
    qsort(f->parts, f->n, sizeof *f->parts, by_place);
    TRY(check_once(f, why));
out:
    return e;
}

/* Names and shapes of two adapters are often equal: only the weights tell them apart. */
static void hash_parts(struct lora_file *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct lora_part *p = &f->parts[i].part;
        struct {
            int32_t role, layer, rank;
            float scale;
        } head = {(int32_t)p->role, p->layer, p->rank, p->scale};
        f->hash = XXH3_64bits_withSeed(&head, sizeof head, f->hash);
        f->hash = XXH3_64bits_withSeed(p->a->data, p->a->bytes, f->hash);
        f->hash = XXH3_64bits_withSeed(p->b->data, p->b->bytes, f->hash);
    }
}

err lora_file_bind(const struct lora_reader *reader, const char *label, const struct source *src,
                   struct lora_file **out, struct why *why)
{
    err e;
    struct lora_file *f = calloc(1, sizeof *f);

    if (!f) {
        reader->close(reader->ctx);
        return why_set(why, ERR_NOMEM, "%s: no memory", label);
    }
    *f = (struct lora_file){
        .path = label, .src = src, .arch = source_arch(src), .hp = source_hparams(src), .reader = *reader};
    f->rope = reader->names == NAMES_HF ? f->arch->rope.hf : f->arch->rope.gguf;
    TRY(bind_parts(f, why));
    hash_parts(f);
    f->path = NULL; /* the caller's */
    *out = f;
    f = NULL;
out:
    lora_file_close(f);
    return e;
}

err lora_file_open(const char *path, const struct source *src, struct lora_file **out, struct why *why)
{
    struct stat st;
    struct lora_reader reader;
    err e = stat(path, &st) == 0 && S_ISDIR(st.st_mode)
                ? lora_peft_open(path, &reader, why)
                : lora_gguf_open(path, source_arch(src)->name, &reader, why);
    return e ? e : lora_file_bind(&reader, path, src, out, why);
}

void lora_file_close(struct lora_file *f)
{
    if (!f)
        return;
    f->reader.close(f->reader.ctx);
    free(f->parts);
    free(f);
}

int lora_file_max_rank(const struct lora_file *f)
{
    return f->max_rank;
}

uint64_t lora_file_hash(const struct lora_file *f)
{
    return f->hash;
}

/* ---- rows -------------------------------------------------------------------------------- */

/* Row r of queries or keys in the model's order of rotation -> in the adapter's.
 * Pairs are (2j, 2j + 1) of a head, halves (j, j + half). */
static int64_t rotated_row(const struct lora_file *f, int64_t r)
{
    int64_t dim = f->hp->head_dim_k, half = dim / 2, at = r % dim;

    if (f->rope == f->hp->rope_kind || f->rope == ROPE_NONE || f->hp->rope_kind == ROPE_NONE || half < 1)
        return r;
    return r - at + (f->hp->rope_kind == ROPE_PAIRS ? at % 2 * half + at / 2 : at % half * 2 + at / half);
}

static int64_t adapter_row(const struct lora_file *f, const struct bound_part *p, int64_t r)
{
    enum weight_role role = p->part.role;
    int64_t rotated = dim_value(f->hp, DIM_Q) + dim_value(f->hp, DIM_K);

    if (role == W_Q || role == W_K || (role == W_QKV && r < rotated))
        r = rotated_row(f, r);
    return layout_stored_row(p->layout, f->hp, r);
}

void lora_part_a_row(const struct lora_part *p, int row, float *dst)
{
    codec_row_f32(p->a, row, p->in, dst);
}

void lora_part_b_row(const struct lora_file *f, const struct lora_part *p, int row, float *dst)
{
    codec_row_f32(p->b, adapter_row(f, (const struct bound_part *)p, row), p->rank, dst);
}
