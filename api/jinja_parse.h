/* jinja_parse.h - what the two halves of the parser share: statements
 * (jinja_parse.c) and expressions (jinja_parse_expr.c). */
#ifndef CORDEE_API_JINJA_PARSE_H
#define CORDEE_API_JINJA_PARSE_H

#include "api/jinja_ast.h"
#include "api/jinja_lex.h"

/* Names that a macro takes in because its body mentions them. */
enum jparse_uses { JUSES_CALLER = 1, JUSES_KWARGS = 2, JUSES_VARARGS = 4 };

struct jparser {
    struct jrun *r;
    const struct jtoken *at;
    const struct jstr **names; /* interned, open hash of n_slots */
    size_t n_names, n_slots;
    unsigned uses; /* enum jparse_uses, since the innermost macro began */
    /* The first unknown filter or test that would run unconditionally. Under an `if`
     * (statement or expression) it is an error only when reached, elsewhere at once. */
    const struct jnode *unknown;
};

MUST_CHECK err jparse_fail(struct jparser *p, const char *what);
MUST_CHECK err jparse_node(struct jparser *p, enum jnode_kind kind, struct jnode **out);
MUST_CHECK err jparse_intern(struct jparser *p, const struct jstr *name, const struct jstr **out);

static inline bool jparse_op(const struct jparser *p, unsigned op)
{
    return p->at->kind == JT_OP && p->at->op == op;
}
bool jparse_word(const struct jparser *p, const char *word);
/* Consumes it when it is there. */
bool jparse_skip_op(struct jparser *p, unsigned op);
bool jparse_skip_word(struct jparser *p, const char *word);
MUST_CHECK err jparse_expect_op(struct jparser *p, unsigned op);
MUST_CHECK err jparse_expect_word(struct jparser *p, const char *word);
MUST_CHECK err jparse_name(struct jparser *p, const struct jstr **out);

/* An expression; with its `x if y else z`, or without (`no_cond`). */
MUST_CHECK err jparse_expr(struct jparser *p, bool no_cond, struct jnode **out);
/* An expression or, with commas, a tuple; `stop` is a word that ends it (or NULL). */
MUST_CHECK err jparse_tuple(struct jparser *p, bool no_cond, const char *stop, struct jnode **out);
/* A name, a.b (for namespaces) or a tuple of names. */
MUST_CHECK err jparse_target(struct jparser *p, bool allow_attr, struct jnode **out);
MUST_CHECK err jparse_call_args(struct jparser *p, struct jnode **list);
/* a.b(c)[d] behind `node`. */
MUST_CHECK err jparse_postfix(struct jparser *p, struct jnode **node);
MUST_CHECK err jparse_unary(struct jparser *p, bool filters, struct jnode **out);
/* `|name(args)` chains behind `node`; NULL for the text of a block. `first`: the
 * bar of the first one is already consumed. */
MUST_CHECK err jparse_filters(struct jparser *p, struct jnode **node, bool first);

/* The whole template; fills all of *out but its arena. */
MUST_CHECK err jparse(struct jrun *r, const struct jtoken *tokens, struct jinja *out);

#endif
