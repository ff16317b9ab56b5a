/* shards.h - a directory of shards: what `cordee shard` writes.
 *
 *   shards.json              what is here: stages, tensors, the model's hash
 *   facts.gguf, or           metadata and tokenizer of a model that was a GGUF,
 *   config.json ...          the small files of one that was a Hugging Face directory
 *   stage-2-of-4.cordee      packed weights of a stage (packed_file.h)
 *
 * A node needs the small files and those of its own stages. All is as if the model had
 * been opened itself: the same hash, name, tokenizer and, weights being in the layout in
 * which they are multiplied, the same bits; only there is nothing left to pack.
 *
 * Threads: immutable once read.
 */
#ifndef CORDEE_MODEL_SHARDS_H
#define CORDEE_MODEL_SHARDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/catalog.h"

#define SHARDS_FILE "shards.json"
#define SHARDS_VERSION 1
#define SHARDS_FACTS_GGUF "facts.gguf"

struct shard_stage {
    const char *file; /* a name in the directory */
    int first, last;  /* layers [first, last) */
    bool embed, head;
    uint64_t bytes; /* of the file */
};

struct shards {
    const char *path;           /* the directory */
    const char *name;           /* of the model */
    const char *hash;           /* source_hash() of the model, 16 digits */
    const char *weights;        /* source_sample() of it, the mark that all stages' files bear */
    const char *facts_hash;     /* of the small files, so that a changed one is noticed */
    bool gguf;                  /* facts.gguf, not config.json */
    uint64_t file_bytes;        /* of the model's own files */
    struct shard_stage *stages; /* [n_stages], in order */
    int n_stages;
};

/* Whether path is a directory with a shards.json. */
bool shards_here(const char *path);

/* Reads DIR/shards.json into *out; its memory is in the arena. tensors: those of the
 * model's files, their shapes and no data (but for the few tables that are read as they
 * lie). ERR_FORMAT, ERR_UNSUPPORTED, ERR_IO. */
MUST_CHECK err shards_read(const char *path, struct arena *a, struct shards *out, struct catalog *tensors,
                           struct why *why);
/* The same from text; path stands for the directory. */
MUST_CHECK err shards_parse(const char *text, size_t len, const char *path, struct arena *a,
                            struct shards *out, struct catalog *tensors, struct why *why);

/* Writes s->path/shards.json, the last file of a directory. */
MUST_CHECK err shards_write(const struct shards *s, const struct catalog *tensors, struct why *why);

#endif
