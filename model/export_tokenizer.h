/* export_tokenizer.h - a model's tokenizer as a folder that Hugging Face's tools load. */
#ifndef CORDEE_MODEL_EXPORT_TOKENIZER_H
#define CORDEE_MODEL_EXPORT_TOKENIZER_H

#include <stdbool.h>

#include "base/err.h"

/* Makes dir (its parent exists) and writes tokenizer.json and tokenizer_config.json into
 * it: from a GGUF file's tables, or copies of a Hugging Face directory's own files.
 * ERR_UNSUPPORTED: a kind that tokenizer/export.h does not write. */
MUST_CHECK err export_tokenizer(const char *model, const char *dir, struct why *why);

/* Copies what a Hugging Face directory has of a tokenizer's files. *found is set to true if it
 * has any, and left alone if not. */
MUST_CHECK err copy_tokenizer_files(const char *from, const char *to, bool *found, struct why *why);

#endif
