/* gguf_tokenizer.h - the tokenizer that a GGUF file carries in its metadata. */
#ifndef CORDEE_MODEL_GGUF_TOKENIZER_H
#define CORDEE_MODEL_GGUF_TOKENIZER_H

#include "base/err.h"
#include "model/gguf.h"
#include "tokenizer/tokenizer.h"

/* ERR_NOTFOUND: the file has none. ERR_FORMAT: tables of different lengths or
 * wrong types. ERR_UNSUPPORTED: a kind of tokenizer that is not known. */
MUST_CHECK err gguf_tokenizer_open(const struct gguf *g, struct tokenizer **out, struct why *why);

#endif
