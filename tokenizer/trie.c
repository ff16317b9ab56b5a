/* trie.c - building and the longest-prefix question. */
#include "tokenizer/trie.h"

#include <stdlib.h>
#include <string.h>

err trie_init(struct trie *t, struct why *why)
{
    *t = (struct trie){.mask = 63, .cap_nodes = 64, .n_nodes = 1};
    t->key = calloc(t->mask + 1, sizeof *t->key);
    t->child = calloc(t->mask + 1, sizeof *t->child);
    t->value = malloc(t->cap_nodes * sizeof *t->value);
    if (!t->key || !t->child || !t->value) {
        trie_fini(t);
        return why_set(why, ERR_NOMEM, "tokenizer: trie");
    }
    t->value[0] = -1;
    return ERR_OK;
}

void trie_fini(struct trie *t)
{
    free(t->key);
    free(t->child);
    free(t->value);
    *t = (struct trie){0};
}

static void put_edge(uint64_t *keys, uint32_t *children, size_t mask, uint64_t key, uint32_t child)
{
    size_t i = (key * 0x9e3779b97f4a7c15u >> 20) & mask;
    while (keys[i] != 0)
        i = (i + 1) & mask;
    keys[i] = key;
    children[i] = child;
}

static err grow_edges(struct trie *t, struct why *why)
{
    size_t slots = (t->mask + 1) * 2;
    uint64_t *key = calloc(slots, sizeof *key);
    uint32_t *child = calloc(slots, sizeof *child);
    if (!key || !child) {
        free(key);
        free(child);
        return why_set(why, ERR_NOMEM, "tokenizer: trie of %zu edges", slots);
    }
    for (size_t i = 0; i <= t->mask; i++)
        if (t->key[i] != 0)
            put_edge(key, child, slots - 1, t->key[i], t->child[i]);
    free(t->key);
    free(t->child);
    t->key = key;
    t->child = child;
    t->mask = slots - 1;
    return ERR_OK;
}

static err add_child(struct trie *t, uint32_t node, unsigned char byte, uint32_t *out, struct why *why)
{
    if (t->n_nodes == t->cap_nodes) {
        int32_t *value = realloc(t->value, t->cap_nodes * 2 * sizeof *value);
        if (!value)
            return why_set(why, ERR_NOMEM, "tokenizer: trie of %zu nodes", t->n_nodes);
        t->value = value;
        t->cap_nodes *= 2;
    }
    uint32_t child = (uint32_t)t->n_nodes;
    if (node == 0) {
        t->root[byte] = child;
    } else {
        if (t->n_edges * 2 > t->mask) {
            err e = grow_edges(t, why);
            if (e != ERR_OK)
                return e;
        }
        put_edge(t->key, t->child, t->mask, ((uint64_t)node << 8 | byte) + 1, child);
        t->n_edges++;
    }
    t->value[t->n_nodes++] = -1;
    *out = child;
    return ERR_OK;
}

err trie_put(struct trie *t, const char *s, size_t len, int32_t value, struct why *why)
{
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t next = trie_step(t, node, (unsigned char)s[i]);
        if (next == 0) {
            err e = add_child(t, node, (unsigned char)s[i], &next, why);
            if (e != ERR_OK)
                return e;
        }
        node = next;
    }
    t->value[node] = value;
    return ERR_OK;
}

size_t trie_longest(const struct trie *t, const char *s, size_t len, int32_t *value)
{
    size_t best = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        node = trie_step(t, node, (unsigned char)s[i]);
        if (node == 0)
            break;
        if (t->value[node] >= 0) {
            best = i + 1;
            *value = t->value[node];
        }
    }
    return best;
}
