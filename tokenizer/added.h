/* added.h - added tokens: strings that are found in the text before anything
 * else looks at it, leftmost first, the longest of those that start together.
 *
 * Tokens with `normalized` are looked for after normalisation, the others in
 * the raw text. Control tokens are taken only where the caller allows it.
 */
#ifndef CORDEE_TOKENIZER_ADDED_H
#define CORDEE_TOKENIZER_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tokenizer/trie.h"

struct added_token {
    int32_t id;
    bool special; /* a control token */
    bool lstrip, rstrip, single_word;
};

struct added_set {
    struct trie trie; /* value: index into token[] */
    struct added_token *token;
    size_t n, cap;
};

MUST_CHECK err added_init(struct added_set *a, struct why *why);
void added_fini(struct added_set *a);
MUST_CHECK err added_put(struct added_set *a, const char *text, size_t len, struct added_token t, struct why *why);

/* Is text[from..to) wholly inside a part where control tokens are allowed? */
typedef bool added_allow_fn(const void *ctx, size_t from, size_t to);

/* The next token at or after *from in text[0..len). True: [*start, *end) is
 * what it takes up (with the blanks it strips), *scan where to look next.
 * floor: nothing before it may be taken. */
bool added_next(const struct added_set *a, const char *text, size_t len, size_t floor, size_t *scan, size_t *start,
                size_t *end, const struct added_token **token, added_allow_fn *allow, const void *ctx);

#endif
