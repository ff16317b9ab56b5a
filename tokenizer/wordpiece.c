/* wordpiece.c - greedy matching over two tries. */
#include "tokenizer/wordpiece.h"

#include <string.h>

#include "tokenizer/ids.h"
#include "tokenizer/text.h"

err wordpiece_init(struct wordpiece *w, const struct vocab *v, const char *mark, size_t mark_len, bool mark_is_first,
                   int32_t unk, size_t max_chars, struct why *why)
{
    err e;
    *w = (struct wordpiece){.unk = unk, .max_chars = max_chars};
    TRY(trie_init(&w->first, why));
    TRY(trie_init(&w->rest, why));
    for (size_t id = 0; id < v->n; id++) {
        const struct vocab_piece *p = &v->piece[id];
        if (!p->text || !p->in_model || p->len == 0)
            continue;
        bool marked = p->len > mark_len && memcmp(p->text, mark, mark_len) == 0;
        if (marked)
            TRY(trie_put(mark_is_first ? &w->first : &w->rest, p->text + mark_len, p->len - mark_len, (int32_t)id,
                         why));
        /* A word may also begin with the literal mark of continuations. */
        if (!marked || !mark_is_first)
            TRY(trie_put(mark_is_first ? &w->rest : &w->first, p->text, p->len, (int32_t)id, why));
    }
    e = ERR_OK;
out:
    if (e != ERR_OK)
        wordpiece_fini(w);
    return e;
}

void wordpiece_fini(struct wordpiece *w)
{
    trie_fini(&w->first);
    trie_fini(&w->rest);
}

err wordpiece_encode(const struct wordpiece *w, const char *text, size_t len, struct tok_ids *ids, struct why *why)
{
    err e = ERR_OK;
    size_t before = ids->n, chars = 0;
    for (size_t i = 0; i < len; i += utf8_size((unsigned char)text[i]))
        chars++;
    bool bad = chars > w->max_chars;
    for (size_t i = 0, n; !bad && i < len; i += n) {
        int32_t id = -1;
        n = trie_longest(i == 0 ? &w->first : &w->rest, text + i, len - i, &id);
        bad = n == 0;
        if (!bad)
            TRY(tok_ids_put(ids, id, why));
    }
    if (bad) {
        ids->n = before;
        if (w->unk < 0)
            return why_set(why, ERR_UNSUPPORTED, "tokenizer: a word is not in the vocabulary and there is no unk");
        TRY(tok_ids_put(ids, w->unk, why));
    }
out:
    return e;
}
