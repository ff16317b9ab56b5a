/* export.h - tables as Hugging Face's tokenizer.json, for tools that want a folder.
 *
 * SentencePiece BPE and byte-level BPE; the text is what `tokenizers` reads (lists of
 * pairs as merges: 0.20 and later). Ids are equal to this program's on ordinary text.
 * SentencePiece's rule among merges of equal score (the leftmost) cannot be said in that
 * format; its own converters have the same gap.
 */
#ifndef CORDEE_TOKENIZER_EXPORT_H
#define CORDEE_TOKENIZER_EXPORT_H

#include "tokenizer/tokenizer.h"

/* Appends tokenizer.json. t: tables that tokenizer_open() takes. tok: opened from them.
 * ERR_UNSUPPORTED: unigram and WordPiece. */
MUST_CHECK err tokenizer_put_json(const struct tok_tables *t, const struct tokenizer *tok, struct buf *out,
                                  struct why *why);
/* Appends tokenizer_config.json. chat_template: NULL if there is none. */
MUST_CHECK err tokenizer_put_config(const struct tok_tables *t, const char *chat_template, struct buf *out,
                                    struct why *why);

#endif
