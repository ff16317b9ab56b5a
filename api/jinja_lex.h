/* jinja_lex.h - a template's source as tokens.
 *
 * The white-space rules are settled here: trim_blocks and lstrip_blocks are on (as
 * transformers sets them), `-` and `+` in a tag change it for that tag, one newline
 * at the end of the source is dropped. What the parser sees as data is what prints.
 */
#ifndef CORDEE_API_JINJA_LEX_H
#define CORDEE_API_JINJA_LEX_H

#include "api/jinja_value.h"

enum jtoken_kind {
    JT_END,
    JT_DATA, /* text outside tags */
    JT_PRINT_BEGIN,
    JT_PRINT_END,
    JT_BLOCK_BEGIN,
    JT_BLOCK_END,
    JT_NAME,
    JT_CONST, /* string, integer, float */
    JT_OP,    /* `op`: the characters, as in JOP("//") */
};

/* One or two characters as a number. */
#define JOP1(a) ((unsigned)(a))
#define JOP2(a, b) ((unsigned)(a) << 8 | (unsigned)(b))

struct jtoken {
    enum jtoken_kind kind;
    unsigned op;
    int line;
    struct jval value; /* CONST; NAME and DATA as a string */
};

/* The tokens of source, the last one JT_END, in r's arena. r->line is where it failed. */
MUST_CHECK err jlex(struct jrun *r, const char *source, size_t len, struct jtoken **out);

#endif
