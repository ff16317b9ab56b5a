/* bpe.c - merging one word.
 *
 * Symbols form a linked list in text order; a queue gives the best merge, lowest
 * rank first and leftmost among equals, so a word of n characters costs
 * O(n log n) whatever it looks like. A symbol knows the rank of its merge with
 * the one behind it; a queue entry with another rank is stale.
 */
#include "tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/bpe_pair.h"
#include "tokenizer/ids.h"
#include "tokenizer/text.h"

#define NO_MERGE UINT32_MAX

struct bpe_symbol {
    int32_t id;         /* -1: unknown; >= vocabulary size: a ghost */
    uint32_t at, len;   /* len 0: merged into the one before */
    int32_t prev, next; /* -1: none */
    uint32_t rank;      /* of the merge with `next`, or NO_MERGE */
    int32_t merged;     /* what it would make */
};

struct bpe_undo {
    int32_t left, right, id;
};

void bpe_scratch_fini(struct bpe_scratch *s)
{
    free(s->symbol);
    merge_queue_fini(&s->queue);
    free(s->unused);
    free(s->todo);
    *s = (struct bpe_scratch){0};
}

static err remember_unused(struct bpe_scratch *s, struct bpe_undo u, struct why *why)
{
    size_t k = 0;
    while (k < s->n_unused && s->unused[k].id != u.id)
        k++;
    err e = array_room((void **)&s->unused, &s->cap_unused, k + 1, sizeof u, why);
    if (e != ERR_OK)
        return e;
    s->unused[k] = u;
    s->n_unused += k == s->n_unused;
    return ERR_OK;
}

/* Looks up the merge of symbol i with the one behind it and queues it. */
static err offer(const struct bpe *b, struct bpe_scratch *s, int32_t i, struct why *why)
{
    struct bpe_symbol *left = &s->symbol[i];
    const struct bpe_pair *p = NULL;
    left->rank = NO_MERGE;
    if (left->next >= 0 && left->id >= 0 && s->symbol[left->next].id >= 0)
        p = bpe_find(b, left->id, s->symbol[left->next].id);
    if (!p)
        return ERR_OK;
    left->rank = p->rank;
    left->merged = p->id;
    if (b->vocab->piece[p->id].type == TOKEN_UNUSED) {
        err e = remember_unused(s, (struct bpe_undo){left->id, s->symbol[left->next].id, p->id}, why);
        if (e != ERR_OK)
            return e;
    }
    return merge_queue_push(&s->queue, p->rank, (uint32_t)i, why);
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
    err e = array_room((void **)&s->symbol, &s->cap_symbols, len, sizeof *s->symbol, why);
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
    err e;
    uint32_t rank, place;
    s->n_unused = 0;
    TRY(merge_queue_begin(&s->queue, (size_t)n, b->n_ranks, why));
    for (int32_t i = 0; i < n; i++)
        TRY(offer(b, s, i, why));
    while (merge_queue_pop(&s->queue, &rank, &place)) {
        struct bpe_symbol *left = &s->symbol[place];
        if (left->len == 0 || left->rank != rank)
            continue;
        struct bpe_symbol *right = &s->symbol[left->next];
        left->id = left->merged;
        left->len += right->len;
        left->next = right->next;
        right->len = 0;
        if (left->next >= 0)
            s->symbol[left->next].prev = (int32_t)place;
        if (left->prev >= 0)
            TRY(offer(b, s, left->prev, why));
        TRY(offer(b, s, (int32_t)place, why));
    }
    e = ERR_OK;
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
    TRY(array_room((void **)&s->todo, &s->cap_todo, 2, sizeof *s->todo, why));
    for (s->todo[n++] = id; n > 0;) {
        id = s->todo[--n];
        if ((size_t)id >= b->vocab->n) {
            char u[4];
            TRY(put_unknown(b, u, utf8_put(u, b->ghost[(size_t)id - b->vocab->n]), fused, ids, why));
            continue;
        }
        const struct bpe_undo *made = NULL;
        for (size_t i = b->vocab->piece[id].type == TOKEN_UNUSED ? s->n_unused : 0; i > 0 && !made; i--)
            if (s->unused[i - 1].id == id)
                made = &s->unused[i - 1];
        if (made) {
            int32_t left = made->left, right = made->right;
            TRY(array_room((void **)&s->todo, &s->cap_todo, n + 2, sizeof *s->todo, why));
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
