/* gguf_tokenizer.h - the tokenizer that a GGUF file carries in its metadata. */
#ifndef CORDEE_MODEL_GGUF_TOKENIZER_H
#define CORDEE_MODEL_GGUF_TOKENIZER_H

#include "base/err.h"
#include "model/gguf.h"
#include "tokenizer/tokenizer.h"

/* ERR_NOTFOUND: the file has none. ERR_FORMAT: tables of different lengths or
 * wrong types. ERR_UNSUPPORTED: a kind of tokenizer that is not known. */
MUST_CHECK err gguf_tokenizer_open(const struct gguf *g, struct tokenizer **out, struct why *why);

/* Calls fn with the tables themselves, which live as long as the call; errors as above,
 * and fn's. */
typedef err gguf_tables_fn(void *ctx, const struct tok_tables *t, struct why *why);
MUST_CHECK err gguf_tokenizer_tables(const struct gguf *g, gguf_tables_fn *fn, void *ctx, struct why *why);

#endif
