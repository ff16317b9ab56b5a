/* reader_hf.c - a Hugging Face directory as a reader.
 *
 * config.json says what the model is, model.safetensors or its index says where
 * the tensors are, generation_config.json which tokens end a text. A directory
 * may hold only a tokenizer. Multimodal checkpoints keep the text model's numbers
 * in config.text_config; their other towers are left out.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "model/export_tokenizer.h"
#include "model/hf_codecs.h"
#include "model/mapped.h"
#include "model/reader.h"
#include "model/safetensors.h"
#include "model/small_files.h"

#define MAX_JSON_BYTES (64u << 20) /* of configs and indices; tokenizer.json is the tokenizer's matter */
#define MAX_SHARDS 4096

struct hf_dir {
    struct arena arena;
    const char *path, *config_path;
    json_t *config;             /* NULL: there is none */
    const json_t *text;         /* the part that describes the text model; borrowed */
    struct safetensors **shard; /* [n] */
    size_t n, cap;
    char *chat_template;
    int32_t *end;
    size_t n_end;
};

static void dir_close(void *ctx)
{
    struct hf_dir *d = ctx;

    for (size_t i = 0; i < d->n; i++)
        safetensors_close(d->shard[i]);
    free(d->shard);
    free(d->chat_template);
    free(d->end);
    json_decref(d->config);
    arena_fini(&d->arena);
    free(d);
}

/* ---- files ------------------------------------------------------------------------------ */

static bool file_is_there(const char *path)
{
    struct stat st;

    return path && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* *out stays NULL if the file is not there. */
static err json_read(const char *path, json_t **out, struct why *why)
{
    err e;
    struct mapped m = {0};
    json_error_t at;

    if (!path)
        return why_set(why, ERR_NOMEM, "no memory for a path");
    if (!file_is_there(path))
        return ERR_OK;
    TRY(mapped_open(path, &m, why));
    if (m.size > MAX_JSON_BYTES)
        FAIL(ERR_FORMAT, "%s: %zu bytes; at most %u are read", path, m.size, MAX_JSON_BYTES);
    *out = json_loadb(m.data ? (const char *)m.data : "", m.size, 0, &at);
    if (!json_is_object(*out))
        FAIL(ERR_FORMAT, "%s: line %d column %d: %s", path, at.line, at.column,
             *out ? "not a JSON object" : at.text);
    e = ERR_OK;
out:
    mapped_close(&m);
    return e;
}

static err push_shard(struct hf_dir *d, const char *path, struct reader *r, struct why *why)
{
    err e;
    struct safetensors *s = NULL;

    TRY(safetensors_open(path, &s, why));
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 8;
        struct safetensors **grown = realloc(d->shard, cap * sizeof *grown);
        if (!grown)
            FAIL(ERR_NOMEM, "%s: list of %zu files", d->path, cap);
        d->shard = grown;
        d->cap = cap;
    }
    d->shard[d->n++] = s;
    r->file_bytes += safetensors_file_bytes(s);
    const struct catalog *c = safetensors_tensors(s);
    s = NULL;
    for (size_t i = 0; i < c->n; i++)
        TRY(catalog_push(&r->tensors, &c->t[i], why));
out:
    safetensors_close(s);
    return e;
}

/* The files that the index names, each once, in its order; a name is a name in
 * this directory, never a path out of it. */
static err open_indexed(struct hf_dir *d, const json_t *index, const char *index_path, struct reader *r,
                        struct why *why)
{
    err e;
    const json_t *map = json_object_get(index, "weight_map");
    json_t *seen = json_object(), *file;
    const char *tensor;

    if (!seen)
        FAIL(ERR_NOMEM, "%s: no memory", index_path);
    if (!json_is_object(map))
        FAIL(ERR_FORMAT, "%s: there is no weight_map", index_path);
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file)
    {
        const char *name = json_string_value(file);
        if (!name || strchr(name, '/') || strlen(name) > 255)
            FAIL(ERR_FORMAT, "%s: the file of tensor %.128s is not the name of a file here", index_path,
                 tensor);
        if (json_object_get(seen, name))
            continue;
        if (json_object_size(seen) >= MAX_SHARDS || json_object_set_new(seen, name, json_true()))
            FAIL(ERR_FORMAT, "%s: more than %d files", index_path, MAX_SHARDS);
        const char *path = arena_path(&d->arena, d->path, name);
        if (!path)
            FAIL(ERR_NOMEM, "%s: no memory", index_path);
        TRY(push_shard(d, path, r, why));
    }
    e = catalog_sort(&r->tensors, why);
    if (e) {
        why_prefix(why, e, "%s", d->path);
        goto out;
    }
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file) if (!catalog_find(&r->tensors, tensor))
        FAIL(ERR_FORMAT, "%s: tensor %.128s is in none of the files", index_path, tensor);
out:
    json_decref(seen);
    return e;
}

static err open_tensors(struct hf_dir *d, struct reader *r, struct why *why)
{
    err e;
    json_t *index = NULL;
    const char *single = arena_path(&d->arena, d->path, "model.safetensors");
    const char *index_path = arena_path(&d->arena, d->path, "model.safetensors.index.json");

    if (file_is_there(single)) {
        TRY(push_shard(d, single, r, why));
        TRY(catalog_sort(&r->tensors, why));
    } else {
        TRY(json_read(index_path, &index, why));
        if (index)
            TRY(open_indexed(d, index, index_path, r, why));
    }
    e = ERR_OK;
out:
    json_decref(index);
    return e;
}

/* Multimodal checkpoints say above text_config how they are quantised. A scheme that is
 * refused leaves a model that can be inspected. */
static err resolve_tensors(struct hf_dir *d, struct reader *r, struct why *why)
{
    struct facts f;

    if (!r->tensors.n || !d->config)
        return ERR_OK;
    facts_init_json(&f, json_object_get(d->text, "quantization_config") ? d->text : d->config, d->config_path);
    err e = hf_codecs_resolve(&r->tensors, &f, &d->arena, &r->why_not);
    if (e == ERR_NOMEM && why)
        *why = r->why_not;
    if (e != ERR_NOMEM)
        r->not_usable = e;
    return e == ERR_NOMEM ? e : ERR_OK;
}

/* ---- config ------------------------------------------------------------------------------- */

/* Sentence encoders say in a file of their own how hidden states become an embedding;
 * its facts (pooling_mode_*) join those of config.json. */
static err read_pooling(struct hf_dir *d, struct why *why)
{
    err e;
    json_t *pooling = NULL;
    TRY(json_read(arena_path(&d->arena, d->path, "1_Pooling/config.json"), &pooling, why));
    if (pooling && d->config && json_object_update_missing(d->config, pooling))
        FAIL(ERR_NOMEM, "%s: pooling", d->path);
out:
    json_decref(pooling);
    return e;
}

static err read_config(struct hf_dir *d, struct why *why)
{
    err e;

    d->config_path = arena_path(&d->arena, d->path, "config.json");
    TRY(json_read(d->config_path, &d->config, why));
    d->text = d->config;
    const json_t *inner = json_object_get(d->config, "text_config");
    const char *type = json_string_value(json_object_get(inner, "model_type"));
    if (type && arch_find_hf(type))
        d->text = inner;
    TRY(read_pooling(d, why));
out:
    return e;
}

/* A number or a list of numbers, appended. */
static err push_ends(struct hf_dir *d, const json_t *v, struct why *why)
{
    const size_t n = json_is_array(v) ? json_array_size(v) : json_is_integer(v) ? 1 : 0;
    int32_t *grown = realloc(d->end, (d->n_end + n + 1) * sizeof *grown);

    if (!grown)
        return why_set(why, ERR_NOMEM, "%s: end tokens", d->path);
    d->end = grown;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) <= INT32_MAX)
            d->end[d->n_end++] = (int32_t)json_integer_value(id);
    }
    return ERR_OK;
}

static err read_ends(struct hf_dir *d, struct why *why)
{
    err e;
    json_t *generation = NULL;
    const json_t *ids;

    TRY(json_read(arena_path(&d->arena, d->path, "generation_config.json"), &generation, why));
    ids = json_object_get(generation, "eos_token_id");
    TRY(push_ends(d, ids ? ids : json_object_get(d->text, "eos_token_id"), why));
out:
    json_decref(generation);
    return e;
}

/* chat_template.jinja, else tokenizer_config.json: a string, or a list of named ones. */
static err read_template(struct hf_dir *d, struct why *why)
{
    err e;
    struct mapped m = {0};
    json_t *config = NULL;
    const char *own = arena_path(&d->arena, d->path, "chat_template.jinja"), *text = NULL;

    if (file_is_there(own)) {
        TRY(mapped_open(own, &m, why));
        d->chat_template = strndup(m.data ? (const char *)m.data : "", m.size);
    } else {
        TRY(json_read(arena_path(&d->arena, d->path, "tokenizer_config.json"), &config, why));
        const json_t *v = json_object_get(config, "chat_template");
        text = json_string_value(v);
        for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++) {
            const json_t *one = json_array_get(v, i);
            const char *name = json_string_value(json_object_get(one, "name"));
            if (name && strcmp(name, "default") == 0)
                text = json_string_value(json_object_get(one, "template"));
        }
        if (text)
            d->chat_template = strdup(text);
    }
    if (!d->chat_template && (text || m.data))
        FAIL(ERR_NOMEM, "%s: chat template", d->path);
    e = ERR_OK;
out:
    json_decref(config);
    mapped_close(&m);
    return e;
}

/* Longrope factors are lists in the config; as tensors they are bound like GGUF's. */
static err push_factors(struct hf_dir *d, struct reader *r, const char *key, struct why *why)
{
    const json_t *scaling = json_object_get(d->text, "rope_scaling"), *v;
    struct file_tensor t = {
        .name = NULL, .type_name = "F32", .fmt = FMT_F32, .n_dims = 1, .dims = {1, 1, 1, 1}};
    const char *name = arena_path(&d->arena, "config.json", key);

    if (!json_is_object(scaling))
        scaling = json_object_get(d->text, "rope_parameters");
    v = json_object_get(scaling, key);
    if (!json_is_array(v) || json_array_size(v) == 0)
        return ERR_OK;
    t.dims[0] = (int64_t)json_array_size(v);
    t.row_bytes = (size_t)t.dims[0] * sizeof(float);
    t.bytes = t.row_bytes;
    float *data = arena_array(&d->arena, (size_t)t.dims[0], sizeof *data);
    if (!data || !name)
        return why_set(why, ERR_NOMEM, "%s: %s", d->config_path, key);
    for (size_t i = 0; i < (size_t)t.dims[0]; i++)
        data[i] = (float)json_number_value(json_array_get(v, i));
    t.data = (const uint8_t *)data;
    t.name = name;
    return catalog_push(&r->tensors, &t, why);
}

/* ---- the reader ------------------------------------------------------------------------------ */

static err dir_tokenizer(const void *ctx, struct tokenizer **out, struct why *why)
{
    err e;
    const struct hf_dir *d = ctx;
    struct arena a;
    struct mapped json = {0}, spm = {0}, config = {0};

    arena_init(&a, 0);
    const char *json_path = arena_path(&a, d->path, "tokenizer.json"),
               *spm_path = arena_path(&a, d->path, "tokenizer.model");
    const char *config_path = arena_path(&a, d->path, "tokenizer_config.json");
    if (file_is_there(config_path))
        TRY(mapped_open(config_path, &config, why));
    const char *extra = (const char *)config.data;
    if (file_is_there(json_path)) {
        TRY(mapped_open(json_path, &json, why));
        e = tokenizer_open_json(json.data ? (const char *)json.data : "", json.size, extra, config.size, out,
                                why);
    } else if (file_is_there(spm_path)) {
        TRY(mapped_open(spm_path, &spm, why));
        e = tokenizer_open_spm(spm.data, spm.size, extra, config.size, out, why);
    } else {
        FAIL(ERR_NOTFOUND, "%s: there is neither tokenizer.json nor tokenizer.model", d->path);
    }
    if (e)
        why_prefix(why, e, "%s", d->path);
out:
    mapped_close(&json);
    mapped_close(&spm);
    mapped_close(&config);
    arena_fini(&a);
    return e;
}

static void dir_hash(const void *ctx, XXH3_state_t *state)
{
    const struct hf_dir *d = ctx;
    char *config = d->config ? json_dumps(d->config, JSON_SORT_KEYS | JSON_COMPACT) : NULL;

    if (config)
        XXH3_64bits_update(state, config, strlen(config));
    free(config);
    for (size_t i = 0; i < d->n; i++) {
        size_t bytes;
        const void *head = safetensors_head(d->shard[i], &bytes);
        uint64_t size = safetensors_file_bytes(d->shard[i]);
        XXH3_64bits_update(state, head, bytes);
        XXH3_64bits_update(state, &size, sizeof size);
    }
}

static err save_pooling(const struct hf_dir *d, const char *dir, struct why *why)
{
    char *from = NULL, *to = NULL;
    bool found = false;
    err e = ERR_OK;
    if (asprintf(&from, "%s/1_Pooling", d->path) < 0 || asprintf(&to, "%s/1_Pooling", dir) < 0)
        FAIL(ERR_NOMEM, "%s: no memory", dir);
    if (access(from, F_OK) != 0)
        goto out;
    if (mkdir(to, 0777) != 0 && errno != EEXIST)
        FAIL(ERR_IO, "%s: %s", to, strerror(errno));
    e = file_copy(from, to, "config.json", &found, why);
out:
    free(from);
    free(to);
    return e;
}

/* All that this file and the tokenizer read, weights apart. */
static err dir_save(const void *ctx, const char *dir, struct why *why)
{
    const struct hf_dir *d = ctx;
    bool found = false;
    err e;
    TRY(file_copy(d->path, dir, "config.json", &found, why));
    TRY(file_copy(d->path, dir, "generation_config.json", &found, why));
    TRY(copy_tokenizer_files(d->path, dir, &found, why));
    TRY(save_pooling(d, dir, why));
out:
    return e;
}

static const struct reader_type type = {.name = "Hugging Face directory",
                                        .names = NAMES_HF,
                                        .close = dir_close,
                                        .tokenizer = dir_tokenizer,
                                        .hash = dir_hash,
                                        .save = dir_save};

err reader_hf_open(const char *path, struct reader *out, struct why *why)
{
    err e;
    struct reader r = {.type = &type};
    struct hf_dir *d = calloc(1, sizeof *d);

    if (!d)
        return why_set(why, ERR_NOMEM, "%s: no memory", path);
    arena_init(&d->arena, 0);
    r.ctx = d;
    r.path = d->path = arena_strndup(&d->arena, path, strlen(path));
    if (!d->path)
        FAIL(ERR_NOMEM, "%s: no memory", path);
    TRY(read_config(d, why));
    facts_init_json(&r.facts, d->text, d->config_path);
    TRY(open_tensors(d, &r, why));
    TRY(resolve_tensors(d, &r, why));
    if (r.tensors.n) {
        TRY(push_factors(d, &r, "short_factor", why));
        TRY(push_factors(d, &r, "long_factor", why));
        TRY(catalog_sort(&r.tensors, why));
    }
    TRY(read_ends(d, why));
    TRY(read_template(d, why));
    r.family = json_string_value(json_object_get(d->text, "model_type"));
    r.chat_template = d->chat_template;
    r.end = d->end;
    r.n_end = d->n_end;
    *out = r;
    r = (struct reader){0};
out:
    reader_close(&r);
    return e;
}
