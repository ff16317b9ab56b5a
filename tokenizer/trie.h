/* trie.h - a byte trie whose edges live in one hash table.
 *
 * Used wherever "the longest entry that starts here" is asked: added tokens,
 * unigram and WordPiece vocabularies. An edge costs 12 bytes and one probe;
 * the root's edges are an array, because most positions fail there.
 */
#ifndef CORDEE_TOKENIZER_TRIE_H
#define CORDEE_TOKENIZER_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct trie {
    uint32_t root[256]; /* child of node 0, or 0 */
    uint64_t *key;      /* node << 8 | byte, + 1; 0: free */
    uint32_t *child;
    size_t mask, n_edges;
    int32_t *value; /* [cap_nodes]; -1: no entry ends here */
    size_t n_nodes, cap_nodes;
};

MUST_CHECK err trie_init(struct trie *t, struct why *why);
void trie_fini(struct trie *t);

/* value >= 0. A second value for the same bytes replaces the first. */
MUST_CHECK err trie_put(struct trie *t, const char *s, size_t len, int32_t value, struct why *why);

/* Child of node (0 is the root) by one byte; 0: there is none. */
static inline uint32_t trie_step(const struct trie *t, uint32_t node, unsigned char byte)
{
    if (node == 0)
        return t->root[byte];
    uint64_t key = ((uint64_t)node << 8 | byte) + 1;
    for (size_t i = (key * 0x9e3779b97f4a7c15u >> 20) & t->mask;; i = (i + 1) & t->mask) {
        if (t->key[i] == key)
            return t->child[i];
        if (t->key[i] == 0)
            return 0;
    }
}

/* Longest entry that is a prefix of s[0..len); returns its bytes (0: none). */
size_t trie_longest(const struct trie *t, const char *s, size_t len, int32_t *value);

#endif
