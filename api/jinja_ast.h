/* jinja_ast.h - a template as a tree. Built once by the parser, never changed.
 *
 * Lists of nodes are linked through `next`. Names are interned: two nodes with the
 * same name share one struct jstr, so scopes compare pointers.
 */
#ifndef CORDEE_API_JINJA_AST_H
#define CORDEE_API_JINJA_AST_H

#include "api/jinja.h"
#include "api/jinja_value.h"

enum jnode_kind {
    /* expressions */
    JN_CONST,
    JN_NAME,
    JN_TUPLE, /* list */
    JN_LIST,  /* list */
    JN_DICT,  /* list: key, value, key, value */
    JN_NOT,   /* a */
    JN_NEG,
    JN_POS,
    JN_AND, /* a, b */
    JN_OR,
    JN_ADD,
    JN_SUB,
    JN_MUL,
    JN_DIV,
    JN_FLOORDIV,
    JN_MOD,
    JN_POW,
    JN_CONCAT,  /* list */
    JN_COMPARE, /* a, then list of JN_OPERAND */
    JN_OPERAND, /* op, a */
    JN_COND,    /* a if b else c; c may be NULL */
    JN_ATTR,    /* a.name */
    JN_ITEM,    /* a[b] */
    JN_SLICE,   /* a[b:c:d], each may be NULL */
    JN_CALL,    /* a(list) */
    JN_FILTER,  /* a|builtin(list); a NULL: the text of a block */
    JN_TEST,    /* a is builtin(list) */
    JN_KEYWORD, /* in argument lists: name=a */
    JN_SPREAD,  /* *a */
    JN_SPREAD_DICT,
    /* statements */
    JN_DATA,         /* constant: text */
    JN_PRINT,        /* a */
    JN_IF,           /* a, body, orelse */
    JN_FOR,          /* a (target) in b if c, body, orelse */
    JN_SET,          /* a (target) = b */
    JN_SET_BLOCK,    /* a (target), b (filter or NULL), body */
    JN_MACRO,        /* name, macro */
    JN_CALL_BLOCK,   /* a (call), macro (the caller) */
    JN_FILTER_BLOCK, /* a (filter), body */
    JN_WITH,         /* list of JN_SET, body */
    JN_SCOPE,        /* body in a scope of its own: {% generation %} */
    JN_BREAK,
    JN_CONTINUE,
};

enum jcompare_op { JC_EQ, JC_NE, JC_LT, JC_LE, JC_GT, JC_GE, JC_IN, JC_NOT_IN };

/* The parameters and the body of a macro, or of what a call block hands over. */
struct jmacro_def {
    const struct jstr *name;
    struct jparam *param; /* [n] */
    size_t n;
    struct jnode *body;
    bool takes_caller, takes_kwargs, takes_varargs; /* the body names them */
    bool explicit_caller;                           /* it is a parameter */
};
struct jparam {
    const struct jstr *name;
    struct jnode *fallback; /* NULL: none */
};

struct jnode {
    enum jnode_kind kind;
    int line;
    struct jnode *next;
    struct jnode *a, *b, *c, *d;
    struct jnode *list, *body, *orelse;
    union {
        struct jval constant;
        const struct jstr *name;
        const struct jbuiltin *builtin; /* NULL: unknown, an error when it is reached */
        enum jcompare_op op;
        struct jmacro_def *macro;
        bool recursive; /* FOR */
    };
    const struct jstr *word; /* FILTER, TEST: as written */
};

/* What jinja_open() makes. */
struct jinja {
    struct arena arena;
    struct jnode *body;
    const struct jstr *loop, *caller, *kwargs, *varargs; /* the names that scopes are given */
};

#endif
