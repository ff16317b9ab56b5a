/* unigram.c - Viterbi forwards, pieces backwards. */
#include "tokenizer/unigram.h"

#include <stdlib.h>

#include "tokenizer/ids.h"
#include "tokenizer/text.h"

struct unigram_node {
    double score;  /* of the best way to get here */
    uint32_t from; /* where its last piece starts */
    int32_t id;    /* that piece; -1: unknown character; -2: not reached */
};

void unigram_scratch_fini(struct unigram_scratch *s)
{
    free(s->node);
    *s = (struct unigram_scratch){0};
}

err unigram_init(struct unigram *u, const struct vocab *v, int32_t unk, bool byte_fallback, struct why *why)
{
    err e;
    *u = (struct unigram){.vocab = v, .unk = unk, .byte_fallback = byte_fallback};
    TRY(trie_init(&u->trie, why));
    double least = 0;
    for (size_t id = 0; id < v->n; id++) {
        const struct vocab_piece *p = &v->piece[id];
        if (!p->text || p->len == 0)
            continue;
        if (p->score < least)
            least = p->score;
        if (p->in_model && p->type != TOKEN_UNUSED)
            TRY(trie_put(&u->trie, p->text, p->len, (int32_t)id, why));
    }
    u->unk_score = least - 10.0; /* SentencePiece's penalty */
    e = ERR_OK;
out:
    if (e != ERR_OK)
        unigram_fini(u);
    return e;
}

void unigram_fini(struct unigram *u)
{
    trie_fini(&u->trie);
}

static void reach(const struct unigram *u, struct unigram_node *node, double score, size_t from, int32_t id)
{
    if (node->id == -2 || score > node->score)
        *node = (struct unigram_node){u->single ? (double)(float)score : score, (uint32_t)from, id};
}

static void forward(const struct unigram *u, struct unigram_node *node, const char *text, size_t len)
{
    for (size_t i = 0; i <= len; i++)
        node[i] = (struct unigram_node){.id = -2};
    for (size_t i = 0, size; i < len; i += size) {
        double here = node[i].score;
        bool single = false;
        uint32_t at = 0;
        size = utf8_size((unsigned char)text[i]);
        for (size_t j = i; j < len; j++) {
            at = trie_step(&u->trie, at, (unsigned char)text[j]);
            if (at == 0)
                break;
            int32_t id = u->trie.value[at];
            if (id < 0)
                continue;
            reach(u, &node[j + 1], here + u->vocab->piece[id].score, i, id);
            single |= j + 1 == i + size;
        }
        if (!single)
            reach(u, &node[i + size], here + u->unk_score, i, -1);
    }
}

/* A run of unknown characters: bytes if all are there, else one unk. */
static err put_unknown(const struct unigram *u, const char *s, size_t len, struct tok_ids *ids, struct why *why)
{
    err e = ERR_OK;
    bool bytes = u->byte_fallback;
    for (size_t i = 0; bytes && i < len; i++)
        bytes = u->vocab->byte_id[(unsigned char)s[i]] >= 0;
    if (!bytes && u->unk < 0)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer: a character is not in the vocabulary and there is no unk");
    for (size_t i = 0; bytes && i < len; i++)
        TRY(tok_ids_put(ids, u->vocab->byte_id[(unsigned char)s[i]], why));
    if (!bytes)
        TRY(tok_ids_put(ids, u->unk, why));
out:
    return e;
}

err unigram_encode(const struct unigram *u, struct unigram_scratch *s, const char *text, size_t len,
                   struct tok_ids *ids, struct why *why)
{
    err e = ERR_OK;
    if (len == 0)
        return ERR_OK;
    if (len + 1 > s->cap) {
        size_t cap = (len + 1) * 3 / 2;
        struct unigram_node *node = realloc(s->node, cap * sizeof *node);
        if (!node)
            return why_set(why, ERR_NOMEM, "tokenizer: a word of %zu bytes", len);
        s->node = node;
        s->cap = cap;
    }
    struct unigram_node *node = s->node;
    forward(u, node, text, len);

    /* Walk back, leaving in each start the end of its piece. */
    for (size_t end = len, from; end > 0; end = from) {
        from = node[end].from;
        node[from].score = (double)end;
    }
    for (size_t i = 0, end; i < len; i = end) {
        end = (size_t)node[i].score;
        if (node[end].id >= 0) {
            TRY(tok_ids_put(ids, node[end].id, why));
            continue;
        }
        for (size_t next; end < len && node[next = (size_t)node[end].score].id < 0;)
            end = next;
        TRY(put_unknown(u, text + i, end - i, ids, why));
    }
out:
    return e;
}
