/* charsmap.h - SentencePiece's precompiled normalisation table.
 *
 * Layout: u32 bytes of the trie, a double-array trie (u32 units, Darts-clone
 * form) over UTF-8 keys, then replacement strings, NUL-terminated, that the
 * trie's values index. Everything is checked when opened or when followed;
 * a walk that leaves the table is "no match".
 */
#ifndef CORDEE_TOKENIZER_CHARSMAP_H
#define CORDEE_TOKENIZER_CHARSMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct charsmap {
    uint32_t *unit; /* owned copies */
    size_t n_units;
    char *text;
    size_t text_len;
};

MUST_CHECK err charsmap_init(struct charsmap *m, const void *data, size_t bytes, struct why *why);
void charsmap_fini(struct charsmap *m);

/* Looks for a key that is a prefix of s[0..len). longest: the longest key, else
 * the shortest (as HF's crate takes it). Returns the key's bytes, 0: none;
 * *to, *to_len: replacement, valid UTF-8, borrowed. */
size_t charsmap_find(const struct charsmap *m, const char *s, size_t len, int longest, const char **to,
                     size_t *to_len);

#endif
