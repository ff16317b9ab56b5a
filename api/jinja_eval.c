/* jinja_eval.c - expressions. */
#include "api/jinja_eval.h"

static err eval_list(struct jrun *r, const struct jnode *list, enum jkind kind, struct jval *out)
{
    struct jseq *s;
    JTRY(jseq_open(r, 0, &s));
    for (; list; list = list->next) {
        struct jval v;
        JTRY(jeval(r, list, &v));
        JTRY(jseq_push(r, s, v));
    }
    *out = jseqval(kind, s);
    return ERR_OK;
}

static err eval_dict(struct jrun *r, const struct jnode *list, struct jval *out)
{
    struct jdict *d;
    JTRY(jdict_open(r, 0, &d));
    for (; list; list = list->next->next) {
        struct jval key, value;
        JTRY(jeval(r, list, &key));
        JTRY(jeval(r, list->next, &value));
        JTRY(jdict_set(r, d, key, value));
    }
    *out = jdictval(d);
    return ERR_OK;
}

static err eval_concat(struct jrun *r, const struct jnode *list, struct jval *out)
{
    struct jval v;
    const struct jstr *s;
    JTRY(jeval(r, list, out));
    JTRY(jto_str(r, *out, &s));
    *out = jstrval(s);
    while ((list = list->next)) {
        JTRY(jeval(r, list, &v));
        JTRY(jto_str(r, v, &s));
        JTRY(jstr_concat(r, out->s, s, out));
    }
    return ERR_OK;
}

/* a < b <= c: every link is compared, the first false one decides. */
static err eval_compare(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval left, right;
    bool holds = true;
    JTRY(jeval(r, n->a, &left));
    for (const struct jnode *o = n->list; o && holds; o = o->next, left = right) {
        JTRY(jeval(r, o->a, &right));
        JTRY(jcompare_by(r, o->op, left, right, &holds));
    }
    *out = jbool(holds);
    return ERR_OK;
}

static err eval_cond(struct jrun *r, const struct jnode *n, struct jval *out)
{
    JTRY(jeval(r, n->b, out));
    if (jtruth(*out))
        return jeval(r, n->a, out);
    if (n->c)
        return jeval(r, n->c, out);
    return jundefined(
        r, out, "the inline if-expression on line %d evaluated to false and no else section was defined.",
        n->line);
}

static err eval_slice(struct jrun *r, const struct jnode *n, struct jval *out)
{
    const struct jnode *node[3] = {n->b, n->c, n->d};
    struct jval part[3] = {jnone(), jnone(), jnone()};
    JTRY(jeval(r, n->a, out));
    for (int i = 0; i < 3; i++)
        if (node[i])
            JTRY(jeval(r, node[i], &part[i]));
    return jslice(r, *out, part, out);
}

/* ---- calls, filters, tests ---------------------------------------------------------- */

static err add_keyword(struct jrun *r, struct jargs *args, size_t *room, const struct jstr *name,
                       struct jval v)
{
    for (size_t i = 0; i < args->n_kw; i++)
        if (jstr_equal(args->kw[i].name, name))
            return jfail(r, "got multiple values for keyword argument '%.*s'", (int)name->len, name->text);
    if (args->n_kw == *room) {
        struct jkwarg *more = jalloc(r, 2 * *room + 4, sizeof *more);
        if (!more)
            return jrun_nomem(r);
        for (size_t i = 0; i < args->n_kw; i++)
            more[i] = args->kw[i];
        args->kw = more;
        *room = 2 * *room + 4;
    }
    args->kw[args->n_kw++] = (struct jkwarg){name, v};
    return jstep(r, args->n_kw);
}

static err spread_dict(struct jrun *r, struct jargs *args, size_t *room, struct jval v)
{
    if (v.kind != J_DICT)
        return jfail(r, "argument after ** must be a mapping, not %s", jtype_name(v));
    for (size_t i = 0; i < v.dict->n; i++) {
        if (v.dict->pair[i].key.kind != J_STR)
            return jfail(r, "keywords must be strings");
        JTRY(add_keyword(r, args, room, v.dict->pair[i].key.s, v.dict->pair[i].value));
    }
    return ERR_OK;
}

err jeval_args(struct jrun *r, const struct jnode *list, struct jargs *out)
{
    struct jseq *pos;
    const struct jseq *more;
    size_t room = 0;
    struct jval v;
    *out = (struct jargs){0};
    if (!list)
        return ERR_OK;
    JTRY(jseq_open(r, 0, &pos));
    for (; list; list = list->next) {
        bool plain = list->kind != JN_KEYWORD && list->kind != JN_SPREAD && list->kind != JN_SPREAD_DICT;
        JTRY(jeval(r, plain ? list : list->a, &v));
        if (plain) {
            JTRY(jseq_push(r, pos, v));
        } else if (list->kind == JN_KEYWORD) {
            JTRY(add_keyword(r, out, &room, list->name, v));
        } else if (list->kind == JN_SPREAD) {
            JTRY(jiterate(r, v, &more));
            for (size_t i = 0; i < more->n; i++)
                JTRY(jseq_push(r, pos, more->v[i]));
        } else {
            JTRY(spread_dict(r, out, &room, v));
        }
    }
    out->pos = pos->v;
    out->n = pos->n;
    return ERR_OK;
}

static err eval_call(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval f;
    struct jargs args;
    JTRY(jeval(r, n->a, &f));
    JTRY(jeval_args(r, n->list, &args));
    r->line = n->line;
    return jcall(r, f, &args, out);
}

/* Filters and tests alike. */
static err apply(struct jrun *r, const struct jnode *n, struct jval v, struct jval *out)
{
    struct jargs args;
    if (!n->builtin)
        return jfail(r, "No %s named '%.*s' found.", n->kind == JN_FILTER ? "filter" : "test",
                     (int)n->word->len, n->word->text);
    JTRY(jeval_args(r, n->list, &args));
    r->line = n->line;
    return jbuiltin_call(r, n->builtin, v, &args, out);
}

static err eval_builtin(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval v;
    JTRY(jeval(r, n->a, &v));
    return apply(r, n, v, out);
}

err jeval_filter_block(struct jrun *r, const struct jnode *filter, struct jval v, struct jval *out)
{
    if (filter->a) {
        JTRY(jenter(r));
        err e = jeval_filter_block(r, filter->a, v, &v);
        jleave(r);
        JTRY(e);
    }
    return apply(r, filter, v, out);
}

/* ---- all of them ------------------------------------------------------------------------- */

static err eval_two(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval a, b;
    JTRY(jeval(r, n->a, &a));
    if (n->kind == JN_AND || n->kind == JN_OR) {
        *out = a;
        return jtruth(a) == (n->kind == JN_AND) ? jeval(r, n->b, out) : ERR_OK;
    }
    JTRY(jeval(r, n->b, &b));
    r->line = n->line;
    return n->kind == JN_ITEM ? jget_item(r, a, b, out) : jarith(r, n->kind, a, b, out);
}

static err eval_one(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval a;
    JTRY(jeval(r, n->a, &a));
    r->line = n->line;
    if (n->kind == JN_ATTR)
        return jget_attr(r, a, n->name, out);
    if (n->kind != JN_NOT)
        return jnegate(r, a, n->kind == JN_NEG, out);
    *out = jbool(!jtruth(a));
    return ERR_OK;
}

static err eval_inner(struct jrun *r, const struct jnode *n, struct jval *out)
{
    switch (n->kind) {
    case JN_TUPLE:
        return eval_list(r, n->list, J_TUPLE, out);
    case JN_LIST:
        return eval_list(r, n->list, J_LIST, out);
    case JN_DICT:
        return eval_dict(r, n->list, out);
    case JN_CONCAT:
        return eval_concat(r, n->list, out);
    case JN_COMPARE:
        return eval_compare(r, n, out);
    case JN_COND:
        return eval_cond(r, n, out);
    case JN_SLICE:
        return eval_slice(r, n, out);
    case JN_CALL:
        return eval_call(r, n, out);
    case JN_FILTER:
    case JN_TEST:
        return eval_builtin(r, n, out);
    case JN_NOT:
    case JN_NEG:
    case JN_POS:
    case JN_ATTR:
        return eval_one(r, n, out);
    default:
        return eval_two(r, n, out);
    }
}

err jeval(struct jrun *r, const struct jnode *n, struct jval *out)
{
    JTRY(jstep(r, 1));
    if (n->kind == JN_CONST) {
        *out = n->constant;
        return ERR_OK;
    }
    if (n->kind == JN_NAME) {
        r->line = n->line;
        return jscope_get(r, n->name, out);
    }
    JTRY(jenter(r));
    err e = eval_inner(r, n, out);
    jleave(r);
    return e;
}
