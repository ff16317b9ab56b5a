/* regex.h - the regular expressions of pre-tokenizers, run by PCRE2.
 *
 * Published patterns are written for Oniguruma or Rust's regex. They are
 * translated first, because the same letters mean other sets in PCRE2: \s has
 * U+180E there and White_Space does not, \w is narrower, [a[bc]] is not a union,
 * \h is not a hex digit, {1,3}+ is possessive. What cannot be said in PCRE2 is
 * refused rather than approximated.
 *
 * Threads: a regex is immutable; each thread brings its own regex_scratch.
 */
#ifndef CORDEE_TOKENIZER_REGEX_H
#define CORDEE_TOKENIZER_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct regex;

struct regex_scratch { /* zero-initialise */
    void *match;       /* pcre2_match_data */
    void *stack;       /* pcre2_jit_stack, only once 32 KiB were not enough */
    void *context;     /* pcre2_match_context with the limits */
};

/* pattern: valid UTF-8, Oniguruma flavour.
 * ERR_UNSUPPORTED: a construct that has no exact counterpart; ERR_FORMAT: syntax. */
MUST_CHECK err regex_open(const char *pattern, size_t len, struct regex **out, struct why *why);
void regex_close(struct regex *re); /* NULL is fine */

/* First match at or after `from` in text[0..len), valid UTF-8. *found says
 * whether; [*start, *end) may be empty. The subject is exactly text: lookahead
 * sees its end. ERR_LIMIT: backtracking got out of hand. */
MUST_CHECK err regex_find(const struct regex *re, struct regex_scratch *s, const char *text, size_t len, size_t from,
                          size_t *start, size_t *end, bool *found, struct why *why);

void regex_scratch_fini(struct regex_scratch *s);

/* The translation alone; appends to out. */
MUST_CHECK err regex_translate(const char *pattern, size_t len, struct buf *out, struct why *why);

#endif
