/* pretok.h - cutting normalised text into the words that models see.
 *
 * The state is a text and a list of spans of it. A step either cuts spans or
 * rewrites them (ByteLevel's alphabet, Metaspace's spaces) into a new text.
 */
#ifndef CORDEE_TOKENIZER_PRETOK_H
#define CORDEE_TOKENIZER_PRETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "tokenizer/regex.h"

enum pre_kind {
    PRE_REGEX,       /* matches of `regex` */
    PRE_STRING,      /* occurrences of `text` */
    PRE_DIGITS,      /* Nd, Nl, No, each alone (`each`) or runs */
    PRE_PUNCT,       /* ASCII punctuation and P* */
    PRE_SPACE,       /* white space */
    PRE_BYTE_LEVEL,  /* bytes become printable characters */
    PRE_METASPACE,   /* spaces become U+2581 */
};

/* What happens to a match (HF's names). */
enum pre_behavior { PRE_ISOLATED, PRE_REMOVED, PRE_MERGED_PREVIOUS, PRE_MERGED_NEXT, PRE_CONTIGUOUS };

enum pre_prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };

struct pre_step {
    enum pre_kind kind;
    enum pre_behavior behavior;
    bool invert;         /* what does not match is the match */
    struct regex *regex; /* owned; PRE_REGEX */
    char *text;          /* owned; PRE_STRING, PRE_METASPACE: the replacement */
    size_t text_len;
    bool split;               /* PRE_METASPACE: also cut before every U+2581 */
    bool add_space;           /* PRE_BYTE_LEVEL: ' ' in front unless there */
    enum pre_prepend prepend; /* PRE_METASPACE */
};

/* Growth (text_growth_limit): a blank becomes three bytes, each of these two, and every word may get a prefix. */
enum { PRE_MAX_STEPS = 24, PRE_MAX_GROWTH = 16 };
struct pre_list {
    struct pre_step step[PRE_MAX_STEPS];
    size_t n;
};
void pre_list_fini(struct pre_list *l);

struct pre_span {
    uint32_t at, len;
};
struct pre_spans {
    struct pre_span *span;
    size_t n, cap;
};

struct pre_scratch { /* zero-initialise */
    struct buf text[2];
    struct pre_spans spans[2];
    struct pre_spans found; /* matches inside one span, before the behaviour */
    struct regex_scratch regex;
};
void pre_scratch_fini(struct pre_scratch *s);

/* Cuts text[0..len), valid UTF-8; at_start: it begins the whole input.
 * *words point into *out; both valid until the scratch is used again. */
MUST_CHECK err pretokenize(const struct pre_list *l, struct pre_scratch *s, const char *text, size_t len,
                           bool at_start, const char **out, const struct pre_spans **words, struct why *why);

/* Fills the list with the steps of a named pre-tokenizer (GGUF's
 * tokenizer.ggml.pre; NULL or "" is "default"), ByteLevel included.
 * *whole_words: a word that is a piece skips the merges (Llama 3). *nfc: the
 * text is brought to NFC first (Qwen 2). */
MUST_CHECK err pretok_named(const char *name, struct pre_list *l, bool *whole_words, bool *nfc, struct why *why);

/* The same as data: *patterns (static storage, NULL behind the last) cut in turn. */
MUST_CHECK err pretok_patterns(const char *name, const char *const **patterns, bool *whole_words, bool *nfc,
                               struct why *why);

/* Appends a splitting step by regex; used by the named table and by readers. */
MUST_CHECK err pre_list_add_regex(struct pre_list *l, const char *pattern, size_t len, enum pre_behavior behavior,
                                  bool invert, struct why *why);
MUST_CHECK err pre_list_add(struct pre_list *l, struct pre_step step, struct why *why);

/* GPT-2's own pattern, which ByteLevel applies when asked to. */
extern const char pretok_gpt2[];

/* ByteLevel's alphabet: the character (code point < 0x200) of a byte, and the
 * byte of a character or -1. */
uint32_t byte_level_char(unsigned char byte);
int byte_level_byte(uint32_t cp);

#endif
