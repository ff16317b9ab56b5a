/* decoder.h - how pieces become text again.
 *
 * Steps before `fuse` work on one piece, the rest on the whole text; the
 * readers flatten what their format says into this description and refuse
 * orders that it cannot express.
 */
#ifndef CORDEE_TOKENIZER_DECODER_H
#define CORDEE_TOKENIZER_DECODER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum dec_kind {
    DEC_REPLACE,       /* text -> with, inside a piece */
    DEC_BYTE_FALLBACK, /* <0xXX> is a byte */
    DEC_STRIP,         /* up to `count` of `text` (one character) at a piece's start */
    DEC_FUSE,          /* pieces become one text */
    DEC_STRIP_TEXT,    /* the same as DEC_STRIP, once, at the text's start */
    DEC_BYTE_LEVEL,    /* printable alphabet to bytes */
    DEC_METASPACE,     /* `text` -> ' '; in the first piece -> nothing if `drop` */
    DEC_WORDPIECE,     /* blanks between words; `text` marks continuations, or beginnings with `drop` */
};

struct dec_step {
    enum dec_kind kind;
    char *text, *with; /* owned */
    size_t text_len, with_len;
    size_t count;
    bool drop;
    bool clean_up; /* DEC_WORDPIECE: no blanks in front of punctuation */
};

/* Growth (text_growth_limit) of a token's text. */
enum { DEC_MAX_STEPS = 12, DEC_MAX_GROWTH = 32 };
struct dec_list {
    struct dec_step step[DEC_MAX_STEPS];
    size_t n;
    bool blanks; /* no decoder at all: pieces are joined by ' ' */
};
void dec_list_fini(struct dec_list *l);

/* Takes ownership of the step's strings, also on failure. */
MUST_CHECK err dec_list_add(struct dec_list *l, struct dec_step step, struct why *why);

/* The same from C strings (NULL: none), which are copied. */
MUST_CHECK err dec_list_add_text(struct dec_list *l, enum dec_kind kind, const char *text, const char *with,
                                 size_t count, struct why *why);

#endif
