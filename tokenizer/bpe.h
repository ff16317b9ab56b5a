/* bpe.h - byte-pair merges: by rank (tokenizer.json, GGUF "gpt2") or by score
 * (SentencePiece). Both are one algorithm over one table: pair of ids -> rank
 * and merged id; scores only decide how the table is built.
 */
#ifndef CORDEE_TOKENIZER_BPE_H
#define CORDEE_TOKENIZER_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tokenizer/merge_queue.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocab.h"

struct bpe_pair;
struct bpe {
    const struct vocab *vocab; /* borrowed */
    struct bpe_pair *pair;     /* hash table */
    size_t mask, n_pairs;
    size_t n_ranks; /* ranks are below it */
    int32_t char_id[0x200]; /* ids of the commonest single characters */
    uint32_t *ghost;        /* sorted: characters of pieces that are no piece themselves */
    size_t n_ghosts;
    int32_t unk;           /* -1: unknown characters are dropped */
    bool fuse_unk;         /* a run of unknown characters is one unk */
    bool byte_fallback;    /* unknown characters become <0xXX> pieces */
    bool whole_words;      /* a word that is a piece is not merged */
    bool cut_at_meta;      /* words may be cut in front of U+2581 ... */
    bool crosses[256];     /* ... unless the byte before it is one of these */
};

struct bpe_symbol;
struct bpe_undo;
struct bpe_scratch { /* zero-initialise */
    struct bpe_symbol *symbol;
    size_t cap_symbols;
    struct merge_queue queue; /* places are indices of left symbols */
    struct bpe_undo *unused; /* merges that made UNUSED pieces, to undo them */
    size_t n_unused, cap_unused;
    int32_t *todo;
    size_t cap_todo;
};
void bpe_scratch_fini(struct bpe_scratch *s);

/* The vocabulary must be complete. Flags are set by the caller afterwards. */
MUST_CHECK err bpe_init(struct bpe *b, const struct vocab *v, size_t n_merges, struct why *why);
void bpe_fini(struct bpe *b);

/* One merge by its strings; rank: lower merges first. A merge whose parts or result the
 * model may not use (control tokens) is ignored. ERR_FORMAT: not in the vocabulary. */
MUST_CHECK err bpe_put_merge(struct bpe *b, const struct tok_merge *m, uint32_t rank, struct why *why);

/* All merges that pieces with scores imply. */
MUST_CHECK err bpe_put_scores(struct bpe *b, struct why *why);

/* Decides cut_at_meta and crosses[]; call once the flags are known. */
void bpe_find_cuts(struct bpe *b);

/* Bytes of the first part of text[0..len) that no merge can leave. */
size_t bpe_cut(const struct bpe *b, const char *text, size_t len);

/* Appends the ids of one word. O(len log len) at worst. */
MUST_CHECK err bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *text, size_t len,
                          struct tok_ids *ids, struct why *why);

#endif
