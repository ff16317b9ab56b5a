/* unigram.h - SentencePiece's unigram model: the best-scoring way to write a
 * word as pieces, by dynamic programming over a trie. O(n * longest piece).
 */
#ifndef CORDEE_TOKENIZER_UNIGRAM_H
#define CORDEE_TOKENIZER_UNIGRAM_H

#include <stdbool.h>

#include "base/err.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/trie.h"
#include "tokenizer/vocab.h"

struct unigram {
    const struct vocab *vocab; /* borrowed */
    struct trie trie;
    double unk_score; /* of one unknown character */
    int32_t unk;
    bool byte_fallback;
    bool single; /* sums are rounded to float, as in SentencePiece itself; HF keeps double. It decides ties. */
};

struct unigram_node;
struct unigram_scratch { /* zero-initialise */
    struct unigram_node *node;
    size_t cap;
};
void unigram_scratch_fini(struct unigram_scratch *s);

/* unk: id, or -1 (a text with unknown characters is then an error). */
MUST_CHECK err unigram_init(struct unigram *u, const struct vocab *v, int32_t unk, bool byte_fallback,
                            struct why *why);
void unigram_fini(struct unigram *u);

/* Appends the ids of one word; a run of unknown characters is one unk. */
MUST_CHECK err unigram_encode(const struct unigram *u, struct unigram_scratch *s, const char *text, size_t len,
                              struct tok_ids *ids, struct why *why);

#endif
