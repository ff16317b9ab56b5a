/* lora_reader.h - one adapter format behind a lora_file. */
#ifndef CORDEE_MODEL_LORA_READER_H
#define CORDEE_MODEL_LORA_READER_H

#include "base/err.h"
#include "model/bind.h"
#include "model/catalog.h"

struct lora_reader {
    enum name_style names;
    const struct catalog *tensors; /* owned by ctx */
    const char *a_ending, *b_ending; /* of the names of the two halves */
    const char *prefix;              /* in front of every name, or "" */
    const char *suffix;              /* what the changed matrix' own name has behind the module's */
    /* The factor of a module's product. ERR_FORMAT: the rank is another than announced. */
    err (*scale)(void *ctx, const char *module, int rank, float *out, struct why *why);
    void (*close)(void *ctx);
    void *ctx;
};

/* path: a directory. */
MUST_CHECK err lora_peft_open(const char *path, struct lora_reader *out, struct why *why);
/* path: a GGUF file; family: general.architecture of the model. */
MUST_CHECK err lora_gguf_open(const char *path, const char *family, struct lora_reader *out, struct why *why);

/* The same from memory that outlives the reader; label stands for the path in reasons. */
MUST_CHECK err lora_peft_open_memory(const void *config, size_t config_bytes, const void *weights,
                                     size_t weight_bytes, const char *label, struct lora_reader *out,
                                     struct why *why);
MUST_CHECK err lora_gguf_open_memory(const void *data, size_t size, const char *label, const char *family,
                                     struct lora_reader *out, struct why *why);

#endif
