/* bpe_table.c - the pair table of a BPE model, from merges or from scores. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tokenizer/bpe.h"
#include "tokenizer/bpe_pair.h"
#include "tokenizer/text.h"

err bpe_init(struct bpe *b, const struct vocab *v, size_t n_merges, struct why *why)
{
    *b = (struct bpe){.vocab = v, .unk = -1};
    size_t slots = 64;
    while (slots < n_merges * 2)
        slots *= 2;
    b->pair = calloc(slots, sizeof *b->pair);
    if (!b->pair)
        return why_set(why, ERR_NOMEM, "tokenizer: table of %zu merges", n_merges);
    b->mask = slots - 1;
    for (uint32_t cp = 0; cp < 0x200; cp++) {
        char u[4];
        b->char_id[cp] = vocab_find_model(v, u, utf8_put(u, cp));
    }
    return ERR_OK;
}

void bpe_fini(struct bpe *b)
{
    free(b->pair);
    free(b->ghost);
    *b = (struct bpe){0};
}

static struct bpe_pair *slot_of(struct bpe_pair *pair, size_t mask, uint64_t key)
{
    size_t i = bpe_hash(key) & mask;
    while (pair[i].key != 0 && pair[i].key != key)
        i = (i + 1) & mask;
    return &pair[i];
}

static err put_pair(struct bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id, struct why *why)
{
    if (b->n_pairs * 2 > b->mask) {
        size_t slots = (b->mask + 1) * 2;
        struct bpe_pair *bigger = calloc(slots, sizeof *bigger);
        if (!bigger)
            return why_set(why, ERR_NOMEM, "tokenizer: table of %zu merges", slots);
        for (size_t i = 0; i <= b->mask; i++)
            if (b->pair[i].key != 0)
                *slot_of(bigger, slots - 1, b->pair[i].key) = b->pair[i];
        free(b->pair);
        b->pair = bigger;
        b->mask = slots - 1;
    }
    uint64_t key = bpe_key(left, right);
    struct bpe_pair *p = slot_of(b->pair, b->mask, key);
    if (p->key != 0) /* a pair given twice keeps its better rank */
        return ERR_OK;
    *p = (struct bpe_pair){.key = key, .rank = rank, .id = id};
    b->n_pairs++;
    if (rank >= b->n_ranks)
        b->n_ranks = (size_t)rank + 1;
    return ERR_OK;
}

err bpe_put_merge(struct bpe *b, const struct tok_merge *m, uint32_t rank, struct why *why)
{
    char small[256], *whole = small;
    size_t len = (size_t)m->left_len + m->right_len;
    if (len > VOCAB_MAX_PIECE_BYTES)
        return why_set(why, ERR_FORMAT, "tokenizer: merge %u has %zu bytes", rank, len);
    if (len > sizeof small && !(whole = malloc(len)))
        return why_set(why, ERR_NOMEM, "tokenizer: merge %u", rank);
    memcpy(whole, m->left, m->left_len);
    memcpy(whole + m->left_len, m->right, m->right_len);
    int32_t left = vocab_find(b->vocab, m->left, m->left_len);
    int32_t right = vocab_find(b->vocab, m->right, m->right_len);
    int32_t id = vocab_find(b->vocab, whole, len);
    if (whole != small)
        free(whole);
    if (left < 0 || right < 0 || id < 0)
        return why_set(why, ERR_FORMAT, "tokenizer: merge %u (\"%.*s\" + \"%.*s\") is not of the vocabulary", rank,
                       (int)(m->left_len > 40 ? 40 : m->left_len), m->left,
                       (int)(m->right_len > 40 ? 40 : m->right_len), m->right);
    const struct vocab_piece *piece = b->vocab->piece;
    if (!piece[left].in_model || !piece[right].in_model || !piece[id].in_model)
        return ERR_OK;
    return put_pair(b, left, right, rank, id, why);
}

struct scored {
    double score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Can this piece be reached by merging characters? */
static bool mergeable(const struct vocab_piece *p)
{
    return p->text && p->in_model && p->len > 0 && utf8_valid_prefix(p->text, p->len) == p->len;
}

/* Characters that occur in pieces but are none: they take part in merges. */
static err find_ghosts(struct bpe *b, struct why *why)
{
    size_t cap = 0;
    for (size_t id = 0; id < b->vocab->n; id++) {
        const struct vocab_piece *p = &b->vocab->piece[id];
        if (!mergeable(p))
            continue;
        for (size_t i = 0, n; i < p->len; i += n) {
            uint32_t cp = utf8_get(p->text + i, &n);
            if (n == p->len || vocab_find_model(b->vocab, p->text + i, n) >= 0)
                continue;
            if (b->n_ghosts == cap) {
                uint32_t *ghost = realloc(b->ghost, (cap = cap ? cap * 2 : 64) * sizeof *ghost);
                if (!ghost)
                    return why_set(why, ERR_NOMEM, "tokenizer: characters of pieces");
                b->ghost = ghost;
            }
            b->ghost[b->n_ghosts++] = cp;
        }
    }
    if (b->n_ghosts == 0)
        return ERR_OK;
    qsort(b->ghost, b->n_ghosts, sizeof *b->ghost, by_value);
    size_t n = 1;
    for (size_t i = 1; i < b->n_ghosts; i++)
        if (b->ghost[i] != b->ghost[n - 1])
            b->ghost[n++] = b->ghost[i];
    b->n_ghosts = n;
    return ERR_OK;
}

static int32_t part_id(const struct bpe *b, const char *s, size_t len)
{
    int32_t id = vocab_find_model(b->vocab, s, len);
    if (id >= 0 || len > 4 || utf8_size((unsigned char)s[0]) != len)
        return id;
    size_t n;
    return bpe_ghost_id(b, utf8_get(s, &n));
}

err bpe_put_scores(struct bpe *b, struct why *why)
{
    err e;
    const struct vocab *v = b->vocab;
    size_t n = 0;
    struct scored *order = malloc(v->n * sizeof *order);
    if (!order)
        FAIL(ERR_NOMEM, "tokenizer: %zu scores", v->n);
    TRY(find_ghosts(b, why));
    for (size_t id = 0; id < v->n; id++)
        if (mergeable(&v->piece[id]))
            order[n++] = (struct scored){v->piece[id].score, (int32_t)id};
    qsort(order, n, sizeof *order, by_score);

    uint32_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        const struct vocab_piece *p = &v->piece[order[i].id];
        if (i > 0 && order[i].score != order[i - 1].score)
            rank++; /* equal scores merge from left to right */
        for (size_t k = utf8_size((unsigned char)p->text[0]); k < p->len; k += utf8_size((unsigned char)p->text[k])) {
            int32_t left = part_id(b, p->text, k);
            int32_t right = left < 0 ? -1 : part_id(b, p->text + k, p->len - k);
            if (right >= 0)
                TRY(put_pair(b, left, right, rank, order[i].id, why));
        }
    }
    e = ERR_OK;
out:
    free(order);
    return e;
}

void bpe_find_cuts(struct bpe *b)
{
    size_t meta_len = strlen(META);
    b->cut_at_meta = !b->whole_words && vocab_find_model(b->vocab, META, meta_len) >= 0;
    if (!b->cut_at_meta)
        return;
    for (size_t id = 0; id < b->vocab->n; id++) {
        const struct vocab_piece *p = &b->vocab->piece[id];
        if (!p->text || !p->in_model)
            continue;
        for (const char *at = p->text, *end = p->text + p->len; (at = memmem(at, (size_t)(end - at), META, meta_len));
             at += meta_len)
            if (at > p->text && !(at - p->text >= 3 && memcmp(at - 3, META, meta_len) == 0))
                b->crosses[(unsigned char)at[-1]] = true;
    }
}
