/* word_cache.c - natural text repeats its words; a direct-mapped table of 64-byte
 * entries makes most of them one probe. It only ever holds what the model
 * would say, so it cannot change a result. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/ids.h"
#include "tokenizer/pipeline.h"

enum { ENTRIES = 8192, WORD_BYTES = 30, WORD_IDS = 8 };

struct word_entry {
    uint8_t len, n; /* len 0: free */
    char text[WORD_BYTES];
    int32_t id[WORD_IDS];
};
_Static_assert(sizeof(struct word_entry) == 64, "one cache line");

struct word_cache {
    struct word_entry entry[ENTRIES];
};

struct word_cache *word_cache_new(void)
{
    return calloc(1, sizeof(struct word_cache));
}

int word_cache_get(const struct word_cache *c, const char *word, size_t len, uint64_t hash, struct tok_ids *ids)
{
    const struct word_entry *w = &c->entry[hash % ENTRIES];
    if (len > WORD_BYTES || w->len != len || memcmp(w->text, word, len) != 0)
        return 0;
    for (int i = 0; i < w->n; i++)
        if (tok_ids_put(ids, w->id[i], NULL) != ERR_OK)
            return -1;
    return 1;
}

void word_cache_put(struct word_cache *c, const char *word, size_t len, uint64_t hash, const int32_t *id, size_t n)
{
    if (len == 0 || len > WORD_BYTES || n > WORD_IDS)
        return;
    struct word_entry *w = &c->entry[hash % ENTRIES];
    w->len = (uint8_t)len;
    w->n = (uint8_t)n;
    memcpy(w->text, word, len);
    memcpy(w->id, id, n * sizeof *id);
}
