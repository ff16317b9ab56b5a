/* reader.h - one file format behind a source.
 *
 * A reader opens the files of a model and offers what every format has: tensors
 * by name, facts for the hyper-parameters, a tokenizer. source.c does everything
 * else, once for all formats. A model may lack tensors (only a tokenizer).
 */
#ifndef CORDEE_MODEL_READER_H
#define CORDEE_MODEL_READER_H

#include "base/err.h"
#include "model/bind.h"
#include "model/catalog.h"
#include "model/facts.h"
#include "tokenizer/tokenizer.h"

struct XXH3_state_s;
struct shards;

struct reader_type {
    const char *name; /* "GGUF" */
    enum name_style names;
    void (*close)(void *ctx);
    err (*tokenizer)(const void *ctx, struct tokenizer **out, struct why *why);
    /* Feeds what identifies the files: metadata, tensor tables, sizes; no paths, no weights. */
    void (*hash)(const void *ctx, struct XXH3_state_s *state);
    /* Writes into a directory what it takes to read metadata and tokenizer again (shards.h).
     * NULL: it is such a directory. */
    err (*save)(const void *ctx, const char *dir, struct why *why);
};

struct reader {
    const struct reader_type *type;
    void *ctx;               /* the format's own state; owns all that is below */
    struct catalog tensors;  /* over all files; n == 0: tokenizer only */
    struct facts facts;
    const char *family;      /* as the format spells it; NULL: the files do not say */
    const char *name;        /* of the model; NULL: unnamed */
    const char *chat_template; /* or NULL */
    const int32_t *end;        /* [n_end] tokens that the files call ends of a text */
    size_t n_end;
    const char *path;
    uint64_t file_bytes;
    const struct shards *shards; /* weights lie packed in its files, the tensors have no data; NULL: they have */
    err not_usable; /* the tensors can be looked at, but not computed with: why_not */
    struct why why_not;
};

/* path: a file that starts with "GGUF", perhaps the first of a split model. */
MUST_CHECK err reader_gguf_open(const char *path, struct reader *out, struct why *why);
/* path: a directory with config.json, *.safetensors, tokenizer files. */
MUST_CHECK err reader_hf_open(const char *path, struct reader *out, struct why *why);
/* path: a directory with shards.json. */
MUST_CHECK err reader_shards_open(const char *path, struct reader *out, struct why *why);
void reader_close(struct reader *r); /* zeroed is fine */

/* 16 hex digits of what type->hash() gives; "" without memory: never equal to a real one. */
void reader_hash(const struct reader *r, char hash[17]);

#endif
