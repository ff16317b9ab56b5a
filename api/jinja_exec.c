/* jinja_exec.c - statements, scopes and loops.
 *
 * Jinja's scopes: a loop's iteration, a macro, a block that captures text and
 * `with` have one of their own; `if` has not. Names are looked up outwards and set
 * in the innermost scope, so a loop cannot change what is outside but through a
 * namespace.
 */
#include "api/jinja_eval.h"

#include <string.h>

/* ---- scopes ------------------------------------------------------------------------ */

err jscope_open(struct jrun *r, struct jscope *parent, struct jscope **out)
{
    struct jscope *s = jalloc(r, 1, sizeof *s);
    if (!s)
        return jrun_nomem(r);
    s->parent = parent;
    *out = s;
    return ERR_OK;
}

err jscope_set(struct jrun *r, struct jscope *s, const struct jstr *name, struct jval v)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].name == name) {
            s->v[i].value = v;
            return ERR_OK;
        }
    if (s->n == s->cap) {
        struct jbinding *more = jgrow(r, s->v, s->n, &s->cap, sizeof *more);
        if (!more)
            return jrun_nomem(r);
        s->v = more;
    }
    s->v[s->n++] = (struct jbinding){name, v};
    return jstep(r, s->n / 8);
}

err jscope_get(struct jrun *r, const struct jstr *name, struct jval *out)
{
    size_t looked = 0;
    for (const struct jscope *s = r->scope; s; s = s->parent) {
        for (size_t i = 0; i < s->n; i++)
            if (s->v[i].name == name) {
                *out = s->v[i].value;
                return ERR_OK;
            }
        looked += 1 + s->n;
    }
    JTRY(jstep(r, looked / 8));
    struct jval *var;
    JTRY(jdict_get(r, r->vars, jstrval(name), &var));
    if (var) {
        *out = *var;
        return ERR_OK;
    }
    const struct jbuiltin *global = jbuiltin_global(name);
    if (!global)
        return jundefined(r, out, "'%.*s' is undefined", (int)name->len, name->text);
    struct jfunc *fn = jalloc(r, 1, sizeof *fn);
    if (!fn)
        return jrun_nomem(r);
    fn->builtin = global;
    *out = (struct jval){.kind = J_FUNC, .fn = fn};
    return ERR_OK;
}

/* Runs a body in another scope, where `loop` values and the like were set. */
static err exec_in(struct jrun *r, struct jscope *scope, const struct jnode *list)
{
    struct jscope *outer = r->scope;
    r->scope = scope;
    err e = jexec(r, list);
    r->scope = outer;
    return e;
}

err jexec_capture(struct jrun *r, struct jscope *scope, const struct jnode *list, struct jval *out)
{
    struct jout text, *outer = r->out;
    jout_init(&text, r);
    r->out = &text;
    err e = exec_in(r, scope, list);
    r->out = outer;
    return e ? e : jout_take(&text, out);
}

/* ---- assignment ----------------------------------------------------------------------- */

static err assign(struct jrun *r, struct jscope *scope, const struct jnode *target, struct jval v);

static err unpack(struct jrun *r, struct jscope *scope, const struct jnode *targets, struct jval v)
{
    const struct jseq *s;
    size_t n = 0;
    for (const struct jnode *t = targets; t; t = t->next)
        n++;
    JTRY(jiterate(r, v, &s));
    if (s->n > n)
        return jfail(r, "too many values to unpack (expected %zu)", n);
    if (s->n < n)
        return jfail(r, "not enough values to unpack (expected %zu, got %zu)", n, s->n);
    for (size_t i = 0; targets; targets = targets->next)
        JTRY(assign(r, scope, targets, s->v[i++]));
    return ERR_OK;
}

static err assign_attr(struct jrun *r, const struct jnode *target, struct jval v)
{
    struct jval ns;
    JTRY(jeval(r, target->a, &ns));
    if (ns.kind != J_NAMESPACE)
        return jfail(r, "cannot assign attribute on non-namespace object");
    if (target->name->text[0] == '_')
        return jfail(r,
                     "Chat templates cannot store underscore-prefixed attributes on a namespace, but got "
                     "'%.*s'. Please rename the attribute.",
                     (int)target->name->len, target->name->text);
    return jdict_set(r, ns.dict, jstrval(target->name), v);
}

static err assign(struct jrun *r, struct jscope *scope, const struct jnode *target, struct jval v)
{
    if (target->kind == JN_NAME)
        return jscope_set(r, scope, target->name, v);
    if (target->kind == JN_ATTR)
        return assign_attr(r, target, v);
    return unpack(r, scope, target->list, v);
}

/* ---- loops ------------------------------------------------------------------------------- */

/* The scope of the next iteration: the last one, emptied, unless a macro holds on to it. */
static err iteration_scope(struct jrun *r, struct jscope *outer, struct jscope **scope)
{
    if (!*scope || (*scope)->captured)
        return jscope_open(r, outer, scope);
    (*scope)->n = 0;
    return ERR_OK;
}

/* for ... in items if ...: those that pass. */
static err select_items(struct jrun *r, const struct jnode *n, const struct jseq *items, struct jscope *outer,
                        const struct jseq **out)
{
    struct jscope *scope = NULL, *was = r->scope;
    struct jseq *some;
    struct jval pass;
    err e = ERR_OK;
    JTRY(jseq_open(r, 0, &some));
    for (size_t i = 0; i < items->n && !e; i++) {
        JTRY(iteration_scope(r, outer, &scope));
        JTRY(assign(r, scope, n->a, items->v[i]));
        r->scope = scope;
        e = jeval(r, n->c, &pass);
        r->scope = was;
        if (!e && jtruth(pass))
            e = jseq_push(r, some, items->v[i]);
    }
    *out = some;
    return e;
}

err jexec_loop(struct jrun *r, const struct jnode *n, struct jval over, struct jscope *outer, int64_t depth)
{
    struct jloop *loop = jalloc(r, 1, sizeof *loop);
    struct jscope *scope = NULL;
    const struct jseq *items;
    if (!loop)
        return jrun_nomem(r);
    JTRY(jiterate(r, over, &items));
    if (n->c)
        JTRY(select_items(r, n, items, outer, &items));
    *loop = (struct jloop){.node = n, .items = items, .outer = outer, .depth = depth};
    for (; loop->i < items->n; loop->i++) {
        JTRY(jstep(r, 1));
        JTRY(iteration_scope(r, outer, &scope));
        JTRY(jscope_set(r, scope, r->tmpl->loop, (struct jval){.kind = J_LOOP, .loop = loop}));
        JTRY(assign(r, scope, n->a, items->v[loop->i]));
        JTRY(exec_in(r, scope, n->body));
        bool stop = r->flow == JFLOW_BREAK;
        r->flow = JFLOW_ON;
        if (stop)
            return ERR_OK;
    }
    if (items->n || !n->orelse)
        return ERR_OK;
    JTRY(jscope_open(r, outer, &scope));
    return exec_in(r, scope, n->orelse);
}

/* ---- statements ---------------------------------------------------------------------------- */

static err exec_if(struct jrun *r, const struct jnode *n)
{
    struct jval v;
    for (;;) {
        JTRY(jeval(r, n->a, &v));
        if (jtruth(v))
            return jexec(r, n->body);
        n = n->orelse;
        if (!n || n->kind != JN_IF || n->next)
            return jexec(r, n);
        JTRY(jstep(r, 1)); /* elif: the same again, without going deeper */
    }
}

static err exec_set(struct jrun *r, const struct jnode *n)
{
    struct jval v;
    if (n->kind == JN_SET) {
        JTRY(jeval(r, n->b, &v));
        return assign(r, r->scope, n->a, v);
    }
    struct jscope *scope;
    JTRY(jscope_open(r, r->scope, &scope));
    JTRY(jexec_capture(r, scope, n->body, &v));
    if (n->b)
        JTRY(jeval_filter_block(r, n->b, v, &v));
    return assign(r, r->scope, n->a, v);
}

static err make_macro(struct jrun *r, const struct jmacro_def *def, struct jval *out)
{
    struct jmacro *m = jalloc(r, 1, sizeof *m);
    if (!m)
        return jrun_nomem(r);
    *m = (struct jmacro){def, r->scope};
    for (struct jscope *s = r->scope; s && !s->captured; s = s->parent)
        s->captured = true;
    *out = (struct jval){.kind = J_MACRO, .macro = m};
    return ERR_OK;
}

/* {% call(x) f(y) %}: f(y, caller=body). */
static err exec_call_block(struct jrun *r, const struct jnode *n)
{
    struct jval f, caller, out;
    struct jargs args;
    JTRY(make_macro(r, n->macro, &caller));
    JTRY(jeval(r, n->a->a, &f));
    JTRY(jeval_args(r, n->a->list, &args));
    struct jkwarg *kw = jalloc(r, args.n_kw + 1, sizeof *kw);
    if (!kw)
        return jrun_nomem(r);
    if (args.n_kw)
        memcpy(kw, args.kw, args.n_kw * sizeof *kw);
    kw[args.n_kw++] = (struct jkwarg){r->tmpl->caller, caller};
    args.kw = kw;
    r->line = n->line;
    JTRY(jcall(r, f, &args, &out));
    return jput_str(r->out, out);
}

static err exec_filter_block(struct jrun *r, const struct jnode *n)
{
    struct jscope *scope;
    struct jval v;
    JTRY(jscope_open(r, r->scope, &scope));
    JTRY(jexec_capture(r, scope, n->body, &v));
    JTRY(jeval_filter_block(r, n->a, v, &v));
    return jput_str(r->out, v);
}

static err exec_with(struct jrun *r, const struct jnode *n)
{
    struct jscope *scope;
    struct jval v;
    JTRY(jscope_open(r, r->scope, &scope));
    for (const struct jnode *s = n->list; s; s = s->next) {
        JTRY(jeval(r, s->b, &v)); /* in the outer scope: values do not see each other */
        JTRY(assign(r, scope, s->a, v));
    }
    return exec_in(r, scope, n->body);
}

static err exec_one(struct jrun *r, const struct jnode *n)
{
    struct jval v;
    struct jscope *scope;
    switch (n->kind) {
    case JN_DATA:
        jout_str(r->out, n->constant.s);
        return jout_check(r->out);
    case JN_PRINT:
        JTRY(jeval(r, n->a, &v));
        JTRY(jput_str(r->out, v));
        return jout_check(r->out);
    case JN_IF:
        return exec_if(r, n);
    case JN_FOR:
        JTRY(jeval(r, n->b, &v));
        return jexec_loop(r, n, v, r->scope, 0);
    case JN_SET:
    case JN_SET_BLOCK:
        return exec_set(r, n);
    case JN_MACRO:
        JTRY(make_macro(r, n->macro, &v));
        return jscope_set(r, r->scope, n->macro->name, v);
    case JN_CALL_BLOCK:
        return exec_call_block(r, n);
    case JN_FILTER_BLOCK:
        return exec_filter_block(r, n);
    case JN_WITH:
        return exec_with(r, n);
    case JN_SCOPE:
        JTRY(jscope_open(r, r->scope, &scope));
        return exec_in(r, scope, n->body);
    case JN_BREAK:
        r->flow = JFLOW_BREAK;
        return ERR_OK;
    case JN_CONTINUE:
        r->flow = JFLOW_CONTINUE;
        return ERR_OK;
    default:
        return jfail(r, "not a statement");
    }
}

err jexec(struct jrun *r, const struct jnode *list)
{
    JTRY(jenter(r));
    err e = ERR_OK;
    for (; list && !e && r->flow == JFLOW_ON; list = list->next) {
        r->line = list->line;
        e = jstep(r, 1);
        if (!e)
            e = exec_one(r, list);
    }
    jleave(r);
    return e;
}
