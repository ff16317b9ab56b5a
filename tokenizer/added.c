/* added.c - scanning for added tokens. */
#include "tokenizer/added.h"

#include <stdlib.h>

#include "base/buf.h"
#include "tokenizer/text.h"

err added_init(struct added_set *a, struct why *why)
{
    *a = (struct added_set){0};
    return trie_init(&a->trie, why);
}

void added_fini(struct added_set *a)
{
    trie_fini(&a->trie);
    free(a->token);
    *a = (struct added_set){0};
}

err added_put(struct added_set *a, const char *text, size_t len, struct added_token t, struct why *why)
{
    if (len == 0 || utf8_valid_prefix(text, len) != len)
        return ERR_OK; /* part of a character is never a match */
    if (a->n == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 16;
        struct added_token *token = realloc(a->token, cap * sizeof *token);
        if (!token)
            return why_set(why, ERR_NOMEM, "tokenizer: %zu added tokens", cap);
        a->token = token;
        a->cap = cap;
    }
    a->token[a->n] = t;
    err e = trie_put(&a->trie, text, len, (int32_t)a->n, why);
    a->n += e == ERR_OK;
    return e;
}

static bool word_before(const char *text, size_t at)
{
    size_t n;
    return at > 0 && cp_is_word(utf8_get(text + utf8_last(text, at), &n));
}

static bool word_after(const char *text, size_t len, size_t at)
{
    size_t n;
    return at < len && cp_is_word(utf8_get(text + at, &n));
}

bool added_next(const struct added_set *a, const char *text, size_t len, size_t floor, size_t *scan, size_t *start,
                size_t *end, const struct added_token **token, added_allow_fn *allow, const void *ctx)
{
    if (a->n == 0)
        return false;
    for (size_t i = *scan; i < len;) {
        int32_t index;
        if (a->trie.root[(unsigned char)text[i]] == 0) {
            i++;
            continue;
        }
        size_t n = trie_longest(&a->trie, text + i, len - i, &index);
        if (n == 0) {
            i++;
            continue;
        }
        const struct added_token *t = &a->token[index];
        size_t from = i, to = i + n, size;
        i = to; /* a match that is not taken still hides what overlaps it */
        if (from < floor || (t->special && !allow(ctx, from, to)))
            continue;
        if (t->single_word && (word_before(text, from) || word_after(text, len, to)))
            continue;
        if (t->lstrip) {
            while (from > floor) {
                size_t last = utf8_last(text, from);
                if (last < floor || !cp_is_space(utf8_get(text + last, &size)))
                    break;
                from = last;
            }
        }
        if (t->rstrip)
            while (to < len && cp_is_space(utf8_get(text + to, &size)))
                to += size;
        *scan = i;
        *start = from;
        *end = to;
        *token = t;
        return true;
    }
    return false;
}
