/* reader_shards.c - a directory of shards as a reader.
 *
 * Metadata and tokenizer come from the small files, read as those of any model; the
 * tensors are those of shards.json, which have shapes and no data.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/reader.h"
#include "model/shards.h"

struct shard_dir {
    struct arena arena;
    struct shards s;
    struct reader facts;
};

static void shard_dir_close(void *ctx)
{
    struct shard_dir *d = ctx;
    reader_close(&d->facts);
    arena_fini(&d->arena);
    free(d);
}

static err shard_dir_tokenizer(const void *ctx, struct tokenizer **out, struct why *why)
{
    const struct reader *facts = &((const struct shard_dir *)ctx)->facts;
    return facts->type->tokenizer(facts->ctx, out, why);
}

static void shard_dir_hash(const void *ctx, struct XXH3_state_s *state)
{
    const struct reader *facts = &((const struct shard_dir *)ctx)->facts;
    facts->type->hash(facts->ctx, state);
}

#define SHARD_DIR(of, style)                                                 \
    {                                                                        \
        .name = "shards of a " of, .names = style, .close = shard_dir_close, \
        .tokenizer = shard_dir_tokenizer, .hash = shard_dir_hash             \
    }
static const struct reader_type of_gguf = SHARD_DIR("GGUF", NAMES_GGUF);
static const struct reader_type of_hf = SHARD_DIR("Hugging Face directory", NAMES_HF);

static err open_facts(struct shard_dir *d, struct why *why)
{
    char hash[17];
    const char *gguf = arena_path(&d->arena, d->s.path, SHARDS_FACTS_GGUF);
    if (!gguf)
        return why_set(why, ERR_NOMEM, "%s: no memory", d->s.path);
    err e = d->s.gguf ? reader_gguf_open(gguf, &d->facts, why) : reader_hf_open(d->s.path, &d->facts, why);
    if (e)
        return e;
    reader_hash(&d->facts, hash);
    if (strcmp(hash, d->s.facts_hash) != 0)
        return why_set(why, ERR_FORMAT, "%s: %s is not what it was when the shards were written", d->s.path,
                       d->s.gguf ? SHARDS_FACTS_GGUF : "config.json");
    if (d->facts.tensors.n)
        return why_set(why, ERR_FORMAT, "%s: holds both shards and the model's own tensors", d->s.path);
    return ERR_OK;
}

err reader_shards_open(const char *path, struct reader *out, struct why *why)
{
    err e;
    struct shard_dir *d = calloc(1, sizeof *d);
    struct reader r = {0};

    if (!d)
        return why_set(why, ERR_NOMEM, "%s: no memory", path);
    arena_init(&d->arena, 0);
    r.ctx = d;
    r.type = &of_gguf; /* closes as any */
    TRY(shards_read(path, &d->arena, &d->s, &r.tensors, why));
    TRY(open_facts(d, why));
    r.type = d->s.gguf ? &of_gguf : &of_hf;
    r.facts = d->facts.facts;
    r.family = d->facts.family;
    r.name = d->s.name;
    r.chat_template = d->facts.chat_template;
    r.end = d->facts.end;
    r.n_end = d->facts.n_end;
    r.path = d->s.path;
    r.file_bytes = d->s.file_bytes;
    r.shards = &d->s;
    *out = r;
    r = (struct reader){0};
out:
    reader_close(&r);
    return e;
}
