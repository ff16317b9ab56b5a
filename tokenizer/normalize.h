/* normalize.h - text before it is split: a list of rewriting steps.
 *
 * Every step maps valid UTF-8 to valid UTF-8. Steps own their strings, regexes
 * and tables. Sequences of tokenizer.json are flattened into this list.
 */
#ifndef CORDEE_TOKENIZER_NORMALIZE_H
#define CORDEE_TOKENIZER_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/regex.h"
#include "tokenizer/trie.h"
#include "tokenizer/unicode_form.h"

enum norm_kind {
    NORM_FORM,          /* NFC and friends */
    NORM_LOWERCASE,
    NORM_STRIP_ACCENTS, /* drops marks */
    NORM_BERT,          /* clean, isolate ideographs, drop accents, lower */
    NORM_PREPEND,       /* text: put in front unless empty */
    NORM_REPLACE,       /* text or regex -> with */
    NORM_STRIP,         /* white space at the ends */
    NORM_NMT,           /* control characters out, odd spaces to ' ' */
    NORM_CHARSMAP,      /* by grapheme, as HF's Precompiled */
    NORM_SENTENCEPIECE, /* SentencePiece's own normaliser */
};

struct norm_step {
    enum norm_kind kind;
    char *text, *with; /* owned */
    size_t text_len, with_len;
    struct regex *regex; /* NORM_REPLACE, instead of text */
    struct charsmap map; /* NORM_CHARSMAP; NORM_SENTENCEPIECE, where unit may be NULL */
    struct unicode_form form;
    bool left, right;                                    /* NORM_STRIP */
    bool clean, ideographs, accents, lower;              /* NORM_BERT */
    bool trim_spaces, prefix, escape;                    /* NORM_SENTENCEPIECE */
    const struct trie *keep; /* NORM_SENTENCEPIECE: user-defined pieces pass unchanged; borrowed, may be NULL */
};

/* Growth (text_growth_limit): Unicode's own forms make 11 times as much at most. */
enum { NORM_MAX_STEPS = 24, NORM_MAX_GROWTH = 32 };
struct norm_list {
    struct norm_step step[NORM_MAX_STEPS];
    size_t n;
};
void norm_list_fini(struct norm_list *l);

struct norm_scratch { /* zero-initialise */
    struct buf text[2];
    struct regex_scratch regex;
};
void norm_scratch_fini(struct norm_scratch *s);

/* *out: the rewritten text, valid until the scratch is used again (it may be
 * the input itself). first: this run begins a segment, so prefixes apply. */
MUST_CHECK err normalize(const struct norm_list *l, struct norm_scratch *s, const char *text, size_t len, bool first,
                         const char **out, size_t *out_len, struct why *why);

#endif
