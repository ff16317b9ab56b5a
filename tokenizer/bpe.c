/* bpe.c - merging one word.
 *
 * Symbols form a linked list in text order; a heap holds the possible merges,
 * best rank first and leftmost among equals, so a word of n characters costs
 * O(n log n) whatever it looks like. A heap entry remembers the two ids it was
 * made for and is stale once either symbol has changed.
 */
#include "tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/bpe_pair.h"
#include "tokenizer/ids.h"
#include "tokenizer/text.h"

struct bpe_symbol {
    int32_t id; /* -1: unknown; >= vocabulary size: a ghost */
    uint32_t at, len;
    int32_t prev, next; /* -1: none */
};

struct bpe_candidate {
    uint64_t order; /* rank << 32 | index of the left symbol */
    int32_t left, right, id;
};

void bpe_scratch_fini(struct bpe_scratch *s)
{
    free(s->symbol);
    free(s->heap);
    free(s->unused);
    free(s->todo);
    *s = (struct bpe_scratch){0};
}

/* Grows an array to hold `need` items; cap is updated. */
static err room(void **array, size_t *cap, size_t need, size_t size, struct why *why)
{
    if (need <= *cap)
        return ERR_OK;
    size_t more = need + need / 2 + 64;
    void *p = realloc(*array, more * size);
    if (!p)
        return why_set(why, ERR_NOMEM, "tokenizer: a word of %zu characters", need);
    *array = p;
    *cap = more;
    return ERR_OK;
}

static void sift_up(struct bpe_candidate *heap, size_t i)
{
    struct bpe_candidate x = heap[i];
    for (; i > 0 && heap[(i - 1) / 2].order > x.order; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = x;
}

static void pop_top(struct bpe_scratch *s)
{
    struct bpe_candidate x = s->heap[--s->n_heap], *heap = s->heap;
    size_t n = s->n_heap, i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1].order < heap[child].order)
            child++;
        if (heap[child].order >= x.order)
            break;
        heap[i] = heap[child];
    }
    if (n > 0)
        heap[i] = x;
}

/* Offers the merge of symbol i with the one behind it. */
static err offer(const struct bpe *b, struct bpe_scratch *s, int32_t i, struct why *why)
{
    int32_t next = i < 0 ? -1 : s->symbol[i].next;
    if (next < 0 || s->symbol[i].id < 0 || s->symbol[next].id < 0)
        return ERR_OK;
    const struct bpe_pair *p = bpe_find(b, s->symbol[i].id, s->symbol[next].id);
    if (!p)
        return ERR_OK;
    struct bpe_candidate c = {.order = (uint64_t)p->rank << 32 | (uint32_t)i,
                              .left = s->symbol[i].id, .right = s->symbol[next].id, .id = p->id};
    err e;
    TRY(room((void **)&s->heap, &s->cap_heap, s->n_heap + 1, sizeof c, why));
    s->heap[s->n_heap++] = c;
    sift_up(s->heap, s->n_heap - 1);
    if (b->vocab->piece[p->id].type == TOKEN_UNUSED) {
        size_t k = 0;
        while (k < s->n_unused && s->unused[k].id != c.id)
            k++;
        TRY(room((void **)&s->unused, &s->cap_unused, k + 1, sizeof c, why));
        s->unused[k] = c;
        s->n_unused += k == s->n_unused;
    }
    e = ERR_OK;
out:
    return e;
}

static int32_t char_id(const struct bpe *b, const char *s, size_t *n)
{
    uint32_t cp = utf8_get(s, n);
    int32_t id = cp < 0x200 ? b->char_id[cp] : vocab_find_model(b->vocab, s, *n);
    return id >= 0 || b->n_ghosts == 0 ? id : bpe_ghost_id(b, cp);
}

static err split_chars(const struct bpe *b, struct bpe_scratch *s, const char *text, size_t len, int32_t *count,
                       struct why *why)
{
    err e = room((void **)&s->symbol, &s->cap_symbols, len, sizeof *s->symbol, why);
    if (e != ERR_OK)
        return e;
    int32_t n = 0;
    for (size_t i = 0, size; i < len; i += size, n++) {
        int32_t id = char_id(b, text + i, &size);
        s->symbol[n] = (struct bpe_symbol){
            .id = id, .at = (uint32_t)i, .len = (uint32_t)size, .prev = n - 1, .next = n + 1};
    }
    s->symbol[n - 1].next = -1;
    *count = n;
    return ERR_OK;
}

static err merge_all(const struct bpe *b, struct bpe_scratch *s, int32_t n, struct why *why)
{
    err e = ERR_OK;
    s->n_heap = s->n_unused = 0;
    for (int32_t i = 0; i + 1 < n; i++)
        TRY(offer(b, s, i, why));
    while (s->n_heap > 0) {
        struct bpe_candidate c = s->heap[0];
        pop_top(s);
        int32_t i = (int32_t)(c.order & 0xffffffffu);
        struct bpe_symbol *left = &s->symbol[i];
        if (left->len == 0 || left->id != c.left || left->next < 0 || s->symbol[left->next].id != c.right)
            continue;
        struct bpe_symbol *right = &s->symbol[left->next];
        left->id = c.id;
        left->len += right->len;
        left->next = right->next;
        right->len = 0;
        if (left->next >= 0)
            s->symbol[left->next].prev = i;
        TRY(offer(b, s, left->prev, why));
        TRY(offer(b, s, i, why));
    }
out:
    return e;
}

/* Characters without a piece: bytes, or unk, or nothing. */
static err put_unknown(const struct bpe *b, const char *s, size_t len, bool *fused, struct tok_ids *ids,
                       struct why *why)
{
    err e = ERR_OK;
    if (b->byte_fallback) {
        bool all = true;
        for (size_t i = 0; i < len; i++)
            all &= b->vocab->byte_id[(unsigned char)s[i]] >= 0;
        for (size_t i = 0; all && i < len; i++)
            TRY(tok_ids_put(ids, b->vocab->byte_id[(unsigned char)s[i]], why));
        if (all) {
            *fused = false;
            return ERR_OK;
        }
    }
    if (b->unk >= 0 && !(b->fuse_unk && *fused))
        TRY(tok_ids_put(ids, b->unk, why));
    *fused = true;
out:
    return e;
}

/* Emits an id; an UNUSED piece is undone into the parts that it was last
 * offered for, as SentencePiece does. */
static err put_id(const struct bpe *b, struct bpe_scratch *s, int32_t id, bool *fused, struct tok_ids *ids,
                  struct why *why)
{
    err e = ERR_OK;
    size_t n = 0;
    TRY(room((void **)&s->todo, &s->cap_todo, 2, sizeof *s->todo, why));
    for (s->todo[n++] = id; n > 0;) {
        id = s->todo[--n];
        if ((size_t)id >= b->vocab->n) {
            char u[4];
            TRY(put_unknown(b, u, utf8_put(u, b->ghost[(size_t)id - b->vocab->n]), fused, ids, why));
            continue;
        }
        const struct bpe_candidate *made = NULL;
        for (size_t i = b->vocab->piece[id].type == TOKEN_UNUSED ? s->n_unused : 0; i > 0 && !made; i--)
            if (s->unused[i - 1].id == id)
                made = &s->unused[i - 1];
        if (made) {
            int32_t left = made->left, right = made->right;
            TRY(room((void **)&s->todo, &s->cap_todo, n + 2, sizeof *s->todo, why));
            s->todo[n++] = right;
            s->todo[n++] = left;
            continue;
        }
        TRY(tok_ids_put(ids, id, why));
        *fused = false;
    }
out:
    return e;
}

err bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *text, size_t len, struct tok_ids *ids,
               struct why *why)
{
    err e;
    bool fused = false;
    int32_t n;
    if (len == 0)
        return ERR_OK;
    if (b->whole_words) {
        int32_t id = vocab_find_model(b->vocab, text, len);
        if (id >= 0)
            return tok_ids_put(ids, id, why);
    }
    TRY(split_chars(b, s, text, len, &n, why));
    TRY(merge_all(b, s, n, why));
    for (int32_t i = 0; i >= 0; i = s->symbol[i].next) {
        const struct bpe_symbol *y = &s->symbol[i];
        if (y->id < 0)
            TRY(put_unknown(b, text + y->at, y->len, &fused, ids, why));
        else
            TRY(put_id(b, s, y->id, &fused, ids, why));
    }
    e = ERR_OK;
out:
    return e;
}

size_t bpe_cut(const struct bpe *b, const char *text, size_t len)
{
    size_t meta_len = strlen(META);
    if (!b->cut_at_meta)
        return len;
    size_t i = 0;
    while (len - i >= meta_len && memcmp(text + i, META, meta_len) == 0)
        i += meta_len;
    while (i < len) {
        const char *at = memchr(text + i, META[0], len - i);
        if (!at || (size_t)(text + len - at) < meta_len)
            return len;
        i = (size_t)(at - text);
        if (memcmp(at, META, meta_len) != 0) {
            i++;
            continue;
        }
        if (!b->crosses[(unsigned char)text[i - 1]])
            return i;
        while (len - i >= meta_len && memcmp(text + i, META, meta_len) == 0)
            i += meta_len; /* never inside a run of U+2581 */
    }
    return len;
}
