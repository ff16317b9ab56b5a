/* jinja_eval.h - the evaluator: expressions, statements, calls, operators. */
#ifndef CORDEE_API_JINJA_EVAL_H
#define CORDEE_API_JINJA_EVAL_H

#include "api/jinja_ast.h"
#include "api/jinja_builtin.h"
#include "api/jinja_str.h"

/* Variables of one block. Names are compared by pointer (they are interned). */
struct jbinding {
    const struct jstr *name;
    struct jval value;
};
struct jscope {
    struct jscope *parent;
    struct jbinding *v; /* [n] */
    size_t n, cap;
    bool captured; /* a macro made here may outlive the block: do not reuse */
};

struct jmacro {
    const struct jmacro_def *def;
    struct jscope *scope; /* where it was defined */
};

/* The variable `loop`. */
struct jloop {
    const struct jnode *node;
    const struct jseq *items;
    struct jscope *outer;
    size_t i;
    int64_t depth; /* of recursion, from 0 */
    struct jval changed;
};

/* jinja_eval.c */
MUST_CHECK err jeval(struct jrun *r, const struct jnode *n, struct jval *out);
/* Evaluates an argument list; a spread list or dictionary is unpacked. */
MUST_CHECK err jeval_args(struct jrun *r, const struct jnode *list, struct jargs *out);
/* A filter node applied to `v`, for the text of blocks. */
MUST_CHECK err jeval_filter_block(struct jrun *r, const struct jnode *filter, struct jval v,
                                  struct jval *out);

/* jinja_exec.c */
MUST_CHECK err jexec(struct jrun *r, const struct jnode *list);
/* Runs a body in `scope` and captures what it prints. */
MUST_CHECK err jexec_capture(struct jrun *r, struct jscope *scope, const struct jnode *list,
                             struct jval *out);
MUST_CHECK err jexec_loop(struct jrun *r, const struct jnode *node, struct jval items, struct jscope *outer,
                          int64_t depth);
MUST_CHECK err jscope_open(struct jrun *r, struct jscope *parent, struct jscope **out);
MUST_CHECK err jscope_set(struct jrun *r, struct jscope *s, const struct jstr *name, struct jval v);
MUST_CHECK err jscope_get(struct jrun *r, const struct jstr *name, struct jval *out);

/* jinja_call.c */
MUST_CHECK err jcall(struct jrun *r, struct jval f, const struct jargs *args, struct jval *out);

/* jinja_ops.c: kind is one of JN_ADD .. JN_POW. */
MUST_CHECK err jarith(struct jrun *r, enum jnode_kind kind, struct jval a, struct jval b, struct jval *out);
MUST_CHECK err jnegate(struct jrun *r, struct jval a, bool minus, struct jval *out);
MUST_CHECK err jcompare_by(struct jrun *r, enum jcompare_op op, struct jval a, struct jval b, bool *out);
MUST_CHECK err jcontains(struct jrun *r, struct jval item, struct jval in, bool *out);
/* part: start, stop, step; NONE where left out. */
MUST_CHECK err jslice(struct jrun *r, struct jval v, const struct jval part[3], struct jval *out);

/* jinja_attr.c: v.name and v[key]; a miss is an Undefined, not an error. */
MUST_CHECK err jget_attr(struct jrun *r, struct jval v, const struct jstr *name, struct jval *out);
MUST_CHECK err jget_item(struct jrun *r, struct jval v, struct jval key, struct jval *out);

/* jinja_format.c: "..." % args, and str.format. */
MUST_CHECK err jformat_percent(struct jrun *r, const struct jstr *s, struct jval args, struct jval *out);
MUST_CHECK err jformat_braces(struct jrun *r, const struct jstr *s, const struct jargs *args,
                              struct jval *out);

#endif
