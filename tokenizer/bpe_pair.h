/* bpe_pair.h - the entry of the pair table and how it is found. */
#ifndef CORDEE_TOKENIZER_BPE_PAIR_H
#define CORDEE_TOKENIZER_BPE_PAIR_H

#include "tokenizer/bpe.h"

struct bpe_pair {
    uint64_t key; /* 0: free */
    uint32_t rank;
    int32_t id;
};

static inline uint64_t bpe_key(int32_t left, int32_t right)
{
    return ((uint64_t)(uint32_t)(left + 1) << 32) | (uint32_t)(right + 1);
}

static inline size_t bpe_hash(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return (size_t)(key ^ key >> 29);
}

static inline const struct bpe_pair *bpe_find(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t key = bpe_key(left, right);
    for (size_t i = bpe_hash(key) & b->mask;; i = (i + 1) & b->mask) {
        if (b->pair[i].key == key)
            return &b->pair[i];
        if (b->pair[i].key == 0)
            return NULL;
    }
}

/* Ghosts have ids behind the vocabulary; -1: not one. */
static inline int32_t bpe_ghost_id(const struct bpe *b, uint32_t cp)
{
    size_t lo = 0, hi = b->n_ghosts;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (b->ghost[mid] < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < b->n_ghosts && b->ghost[lo] == cp ? (int32_t)(b->vocab->n + lo) : -1;
}

#endif
