/* wordpiece.h - BERT: the longest piece that fits, again and again; a word
 * that cannot be finished is one unk.
 *
 * tokenizer.json marks continuations ("##ing"); GGUF marks beginnings (U+2581)
 * and leaves continuations bare. Both become two tries.
 */
#ifndef CORDEE_TOKENIZER_WORDPIECE_H
#define CORDEE_TOKENIZER_WORDPIECE_H

#include <stdbool.h>

#include "base/err.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/trie.h"
#include "tokenizer/vocab.h"

struct wordpiece {
    struct trie first, rest;
    int32_t unk;
    size_t max_chars; /* longer words are unk */
};

/* mark: what begins a continuation, or, with mark_is_first, a first piece. */
MUST_CHECK err wordpiece_init(struct wordpiece *w, const struct vocab *v, const char *mark, size_t mark_len,
                              bool mark_is_first, int32_t unk, size_t max_chars, struct why *why);
void wordpiece_fini(struct wordpiece *w);

MUST_CHECK err wordpiece_encode(const struct wordpiece *w, const char *text, size_t len, struct tok_ids *ids,
                                struct why *why);

#endif
