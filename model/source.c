/* source.c - an opened model, whatever its files; see source.h.
 *
 * reader (one format) -> family -> hyper-parameters -> binding. What goes wrong
 * after the reader is kept as a reason: such a source can still be looked at.
 */
#include "model/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "model/codec.h"
#include "model/lora_file.h"
#include "model/shards.h"
#include "model/small_files.h"
#include "model/source_own.h"

/* ---- opening ------------------------------------------------------------------------- */

static err open_reader(const char *path, struct reader *out, struct why *why)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return shards_here(path) ? reader_shards_open(path, out, why) : reader_hf_open(path, out, why);
    return reader_gguf_open(path, out, why);
}

static void hash_files(struct source *s)
{
    if (s->reader.shards)
        snprintf(s->hash, sizeof s->hash, "%.16s", s->reader.shards->hash);
    else
        reader_hash(&s->reader, s->hash);
    memcpy(s->load_hash, s->hash, sizeof s->hash);
}

/* "/a/b/model.gguf" -> "model", "/a/b/dir/" -> "dir". */
static char *name_of_path(const char *path)
{
    size_t end = strlen(path), start;

    while (end > 1 && path[end - 1] == '/')
        end--;
    for (start = end; start > 0 && path[start - 1] != '/'; start--)
        ;
    if (end - start > 5 && memcmp(path + end - 5, ".gguf", 5) == 0)
        end -= 5;
    return strndup(path + start, end - start);
}

/* Longrope tables are tensors of the file (or made into such by its reader). */
static err use_longrope(struct source *s, struct why *why)
{
    const struct bound *brief = &s->bind.model[W_ROPE_SHORT], *extended = &s->bind.model[W_ROPE_LONG];

    if (!brief->spec && !extended->spec)
        return ERR_OK;
    if (!brief->spec || !extended->spec || !brief->t->data || !extended->t->data || brief->fmt != FMT_F32 || extended->fmt != FMT_F32 ||
        (uintptr_t)brief->t->data % sizeof(float) || (uintptr_t)extended->t->data % sizeof(float))
        return why_set(why, ERR_SHAPE, "%s: longrope needs both factor tables, in f32", s->reader.path);
    s->hp.rope_scaling = ROPE_SCALING_LONGROPE;
    s->hp.rope_short = (const float *)(const void *)brief->t->data;
    s->hp.rope_long = (const float *)(const void *)extended->t->data;
    return ERR_OK;
}

/* Said now rather than when half of the model is loaded. */
static err check_types(const struct source *s, struct why *why)
{
    for (int layer = 0; layer < s->hp.n_layer; layer++)
        for (int role = 0; role < W_COUNT; role++) {
            const struct bound *b = binding_at(&s->bind, (enum weight_role)role, layer);
            struct tensor_view v;
            err e = b->spec ? bound_shape(b, &v, why) : ERR_OK;
            if (e)
                return why_prefix(why, e, "%s", s->reader.path);
        }
    return ERR_OK;
}

/* Everything that may fail for a model we could still look into. */
static err make_runnable(struct source *s, struct why *why)
{
    err e;
    struct reader *r = &s->reader;
    const bool hf = r->type->names == NAMES_HF;

    if (!r->family)
        FAIL(ERR_FORMAT, "%s: does not say what family the model is of (%s)", r->path,
             hf ? "config.json: model_type" : "general.architecture");
    s->arch = hf ? arch_find_hf(r->family) : arch_find(r->family);
    if (r->tensors.n == 0)
        FAIL(ERR_NOTFOUND, "%s: holds no tensors; a tokenizer at most", r->path);
    if (!s->arch)
        FAIL(ERR_UNSUPPORTED, "%s: family %.64s is not supported; supported: %s", r->path, r->family,
             arch_names());
    if (r->not_usable) {
        e = r->not_usable;
        *why = r->why_not;
        goto out;
    }
    const struct arch_desc *variant = s->arch->variant ? s->arch->variant(&r->facts) : NULL;
    if (variant)
        s->arch = variant;
    TRY(hparams_read(&r->facts, s->arch, (int)bind_vocab(&r->tensors, r->type->names, s->arch), &s->hp, why));
    TRY(bind_tensors(&r->tensors, r->type->names, s->arch, &s->hp, r->path, &s->arena, &s->bind, why));
    TRY(use_longrope(s, why));
    TRY(check_types(s, why));
out:
    return e;
}

err source_open_any(const char *path, struct source **out, struct why *why)
{
    err e;
    struct source *s = calloc(1, sizeof *s);

    if (!s)
        return why_set(why, ERR_NOMEM, "%s: no memory", path);
    arena_init(&s->arena, 0);
    TRY(open_reader(path, &s->reader, why));
    s->base_name = name_of_path(path);
    if (!s->base_name)
        FAIL(ERR_NOMEM, "%s: no memory", path);
    hash_files(s);
    s->not_runnable = make_runnable(s, &s->why_not);
    *out = s;
    s = NULL;
out:
    source_close(s);
    return e;
}

err source_open(const char *path, struct source **out, struct why *why)
{
    err e;
    struct source *s;

    TRY(source_open_any(path, &s, why));
    e = source_runnable(s, why);
    if (e)
        source_close(s);
    else
        *out = s;
out:
    return e;
}

err source_runnable(const struct source *s, struct why *why)
{
    if (s->not_runnable && why)
        *why = s->why_not;
    return s->not_runnable;
}

void source_close(struct source *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n_adapters; i++) {
        lora_file_close(s->adapters[i].file);
        free(s->adapters[i].name);
    }
    reader_close(&s->reader);
    arena_fini(&s->arena);
    free(s->base_name);
    free(s);
}

/* ---- facts ---------------------------------------------------------------------------- */

const struct arch_desc *source_arch(const struct source *s)
{
    return s->arch;
}

const struct hparams *source_hparams(const struct source *s)
{
    return &s->hp;
}

const char *source_name(const struct source *s)
{
    return s->reader.name ? s->reader.name : s->base_name;
}

const char *source_hash(const struct source *s)
{
    return s->hash;
}

const char *source_chat_template(const struct source *s)
{
    return s->reader.chat_template;
}

err source_tokenizer(const struct source *s, struct tokenizer **out, struct why *why)
{
    struct tokenizer *t = NULL;
    err e;

    TRY(s->reader.type->tokenizer(s->reader.ctx, &t, why));
    TRY(tokenizer_add_end(t, s->reader.end, (size_t)s->reader.n_end, why));
    *out = t;
    t = NULL;
out:
    tokenizer_close(t);
    return e;
}

err source_open_tokenizer(const char *path, struct tokenizer **out, struct why *why)
{
    err e;
    struct reader r = {0};

    TRY(open_reader(path, &r, why));
    TRY(r.type->tokenizer(r.ctx, out, why));
out:
    reader_close(&r);
    return e;
}

size_t source_end_tokens(const struct source *s, const int32_t **ids)
{
    *ids = s->reader.end;
    return s->reader.n_end;
}

uint64_t source_file_bytes(const struct source *s)
{
    return s->reader.file_bytes;
}

uint64_t source_parameters(const struct source *s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s->reader.tensors.n; i++)
        n += (uint64_t)file_tensor_elements(&s->reader.tensors.t[i]);
    return n;
}

/* ---- adapters --------------------------------------------------------------------------- */

err source_add_adapter(struct source *s, const char *name, const char *path, struct why *why)
{
    err e;
    struct lora_file *file = NULL;
    char *copy = NULL;

    if (!plain_name(name))
        FAIL(ERR_INVAL, "adapter \"%.64s\": a name is made of letters, digits and . _ -", name);
    if (s->n_adapters == SOURCE_MAX_ADAPTERS)
        FAIL(ERR_LIMIT, "adapter %.64s: at most %d adapters", name, SOURCE_MAX_ADAPTERS);
    for (int i = 0; i < s->n_adapters; i++)
        if (strcmp(s->adapters[i].name, name) == 0)
            FAIL(ERR_INVAL, "two adapters are called %.64s", name);
    e = lora_file_open(path, s, &file, why);
    if (e) {
        why_prefix(why, e, "adapter %.64s", name);
        goto out;
    }
    copy = strdup(name);
    if (!copy)
        FAIL(ERR_NOMEM, "adapter %.64s: no memory", name);
    s->adapters[s->n_adapters].name = copy;
    s->adapters[s->n_adapters++].file = file;
    uint64_t hash = XXH3_64bits_withSeed(s->load_hash, strlen(s->load_hash), lora_file_hash(file));
    snprintf(s->load_hash, sizeof s->load_hash, "%016" PRIx64, hash);
    file = NULL;
out:
    lora_file_close(file);
    return e;
}

int source_n_adapters(const struct source *s)
{
    return s->n_adapters;
}

const struct lora_file *source_adapter(const struct source *s, int i)
{
    return s->adapters[i].file;
}

const char *source_adapter_name(const struct source *s, int i)
{
    return s->adapters[i].name;
}

const char *source_load_hash(const struct source *s)
{
    return s->load_hash;
}

/* ---- tensors --------------------------------------------------------------------------- */

static const struct bound *bound_of(const struct source *s, enum weight_role role, int layer)
{
    return binding_at(&s->bind, role, layer);
}

static err only_packed(const struct source *s, const struct file_tensor *t, struct why *why)
{
    return why_set(why, ERR_UNSUPPORTED, "%s: tensor %.128s is here only as packed weights; the model that the shards were "
                   "made from has it", s->reader.path, t->name);
}

err source_tensor(const struct source *s, enum weight_role role, int layer, struct tensor_view *out,
                  struct why *why)
{
    const struct bound *b = bound_of(s, role, layer);

    if (!b->spec)
        return ERR_NOTFOUND;
    return b->t->data ? bound_read(b, &s->hp, out, why) : only_packed(s, b->t, why);
}

err source_tensor_shape(const struct source *s, enum weight_role role, int layer, struct tensor_view *out,
                        struct why *why)
{
    const struct bound *b = bound_of(s, role, layer);

    return b->spec ? bound_shape(b, out, why) : ERR_NOTFOUND;
}

/* As the file holds it: data are rows of fmt only if the tensor has no codec. */
static void view_of(const struct file_tensor *t, struct tensor_view *out)
{
    *out = (struct tensor_view){.name = t->name,
                                .type_name = t->type_name,
                                .n_dims = t->n_dims,
                                .data = t->data,
                                .fmt = t->codec == CODEC_PLAIN ? t->fmt : FMT_COUNT,
                                .row_bytes = t->row_bytes,
                                .bytes = t->bytes};
    memcpy(out->dims, t->dims, sizeof out->dims);
}

err source_tensor_named(const struct source *s, const char *name, struct tensor_view *out, struct why *why)
{
    err e;
    const struct file_tensor *t = catalog_find(&s->reader.tensors, name);
    struct tensor_view v;

    if (!t)
        FAIL(ERR_NOTFOUND, "%s: no tensor is called %.128s", s->reader.path, name);
    if (t->fmt == FMT_COUNT || t->row_bytes == 0)
        FAIL(ERR_UNSUPPORTED, "%s: tensor %.128s has type %s, which has no values here", s->reader.path, name,
             t->type_name);
    if (!t->data) {
        e = only_packed(s, t, why);
        goto out;
    }
    view_of(t, &v);
    if (t->codec != CODEC_PLAIN) {
        const int64_t rows = file_tensor_rows(t), n = t->dims[t->n_dims - 1];
        uint8_t *made = mem_alloc((size_t)rows, t->row_bytes);
        if (!made)
            FAIL(ERR_NOMEM, "%s: %zu bytes for tensor %.128s", s->reader.path, (size_t)rows * t->row_bytes, name);
        for (int64_t r = 0; r < rows; r++)
            codec_row(t, r, n, made + (size_t)r * t->row_bytes);
        v.fmt = t->fmt;
        v.data = v.owned = made;
        v.bytes = (uint64_t)rows * t->row_bytes;
    }
    *out = v;
    e = ERR_OK;
out:
    return e;
}

const struct shards *source_shards(const struct source *s)
{
    return s->reader.shards;
}

int source_n_tensors(const struct source *s)
{
    return (int)s->reader.tensors.n;
}

void source_tensor_at(const struct source *s, int i, struct tensor_view *out)
{
    view_of(&s->reader.tensors.t[i], out);
}

/* ---- bytes ------------------------------------------------------------------------------- */

/* What a role takes once it is packed; types without kernels count as they lie. */
static uint64_t role_bytes(const struct bound *b)
{
    uint64_t outer = 1;
    const int n = b->n_dims;

    if (!b->spec)
        return 0;
    if (weight_kind(b->spec->role) == WEIGHT_VECTOR) {
        for (int i = 0; i < n; i++)
            outer *= (uint64_t)b->dims[i];
        return outer * sizeof(float);
    }
    if (b->fmt == FMT_COUNT)
        return b->t->bytes;
    for (int i = 0; i < n - 2; i++)
        outer *= (uint64_t)b->dims[i];
    int rows = n >= 2 ? (int)b->dims[n - 2] : 1;
    return outer * (uint64_t)pack_groups(rows) * pack_group_bytes(b->fmt, (int)b->dims[n - 1]);
}

uint64_t source_layer_bytes(const struct source *s, int layer)
{
    uint64_t sum = 0;

    for (int role = 0; role < W_COUNT; role++)
        if (weight_is_layer((enum weight_role)role))
            sum += role_bytes(binding_at(&s->bind, (enum weight_role)role, layer));
    return sum;
}

uint64_t source_embed_bytes(const struct source *s)
{
    static const enum weight_role roles[] = {W_EMBD, W_EMBD_NORM, W_EMBD_NORM_B, W_POS_EMBD, W_TYPE_EMBD};
    uint64_t sum = 0;

    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        sum += role_bytes(&s->bind.model[roles[i]]);
    return sum;
}

uint64_t source_head_bytes(const struct source *s)
{
    const struct bound *m = s->bind.model;

    return role_bytes(&m[W_HEAD_NORM]) + role_bytes(&m[W_HEAD_NORM_B]) + role_bytes(&m[W_HEAD_B]) +
           role_bytes(&m[W_HEAD]);
}
