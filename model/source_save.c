/* source_save.c - a source's facts and shapes, written as a directory of shards. */
#include "model/source_own.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "model/shards.h"

static bool same_place(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

err source_save_facts(const struct source *s, const char *dir, struct why *why)
{
    if (!s->reader.type->save)
        return why_set(why, ERR_INVAL,
                       "%s: these are shards; new ones are made from the model that they were made from",
                       s->reader.path);
    if (same_place(s->reader.path, dir))
        return why_set(why, ERR_INVAL, "%s: the model itself is there; give another directory", dir);
    return s->reader.type->save(s->reader.ctx, dir, why);
}

/* Values of tables that a source hands on as they lie (source.c). */
static const uint8_t *values_of(const struct source *s, const struct file_tensor *t)
{
    const struct binding *b = &s->bind;
    return t == b->model[W_ROPE_SHORT].t || t == b->model[W_ROPE_LONG].t ? t->data : NULL;
}

/* The shapes of all tensors as rows that can be multiplied: a codec is a matter of the files. */
static err copy_shapes(const struct source *s, struct catalog *out, struct why *why)
{
    for (size_t i = 0; i < s->reader.tensors.n; i++) {
        const struct file_tensor *t = &s->reader.tensors.t[i];
        struct file_tensor shape = {.name = t->name,
                                    .type_name = t->type_name,
                                    .fmt = t->fmt,
                                    .n_dims = t->n_dims,
                                    .row_bytes = t->row_bytes,
                                    .bytes = t->bytes,
                                    .data = values_of(s, t)};
        memcpy(shape.dims, t->dims, sizeof shape.dims);
        err e = catalog_push(out, &shape, why);
        if (e)
            return e;
    }
    return ERR_OK;
}

/* What the small files in dir say once they are read again. */
static err hash_of_facts(const struct source *s, const char *dir, char hash[17], struct why *why)
{
    struct reader facts = {0};
    struct arena a;
    arena_init(&a, 0);
    const bool gguf = s->reader.type->names == NAMES_GGUF;
    const char *path = gguf ? arena_path(&a, dir, SHARDS_FACTS_GGUF) : dir;
    err e = !path  ? why_set(why, ERR_NOMEM, "%s: no memory", dir)
            : gguf ? reader_gguf_open(path, &facts, why)
                   : reader_hf_open(path, &facts, why);
    if (!e)
        reader_hash(&facts, hash);
    reader_close(&facts);
    arena_fini(&a);
    return e;
}

static uint64_t sample_bytes(uint64_t hash, const uint8_t *data, uint64_t bytes)
{
    enum { PIECE = 4096 };
    if (bytes <= 3 * PIECE)
        return XXH3_64bits_withSeed(data, bytes, hash);
    hash = XXH3_64bits_withSeed(data, PIECE, hash);
    hash = XXH3_64bits_withSeed(data + bytes / 2, PIECE, hash);
    return XXH3_64bits_withSeed(data + bytes - PIECE, PIECE, hash);
}

void source_sample(const struct source *s, char sample[17])
{
    uint64_t hash = XXH3_64bits(s->hash, strlen(s->hash));
    for (size_t i = 0; i < s->reader.tensors.n; i++) {
        const struct file_tensor *t = &s->reader.tensors.t[i];
        hash = sample_bytes(hash, t->data, t->bytes);
        if (t->scales)
            hash = sample_bytes(hash, t->scales->data, t->scales->bytes);
    }
    snprintf(sample, 17, "%016" PRIx64, hash);
}

err source_save_index(const struct source *s, const char *dir, const char *sample, struct shard_stage *stages,
                      int n_stages, struct why *why)
{
    err e;
    char hash[17];
    struct catalog shapes = {0};
    struct shards d = {.path = dir,
                       .name = source_name(s),
                       .hash = s->hash,
                       .weights = sample,
                       .facts_hash = hash,
                       .gguf = s->reader.type->names == NAMES_GGUF,
                       .file_bytes = s->reader.file_bytes,
                       .stages = stages,
                       .n_stages = n_stages};
    TRY(hash_of_facts(s, dir, hash, why));
    TRY(copy_shapes(s, &shapes, why));
    TRY(shards_write(&d, &shapes, why));
out:
    catalog_fini(&shapes);
    return e;
}
