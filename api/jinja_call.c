/* jinja_call.c - calling things: macros, recursive loops, built-ins. */
#include "api/jinja_eval.h"

#include <string.h>

/* ---- built-ins ------------------------------------------------------------------ */

static bool param_is(const char *params, size_t len, const struct jstr *name)
{
    return len == name->len && memcmp(params, name->text, len) == 0;
}

/* Sorts the arguments into one value a parameter. */
static err bind(struct jrun *r, const struct jbuiltin *b, const struct jargs *args,
                struct jval arg[JBUILTIN_MAX_PARAMS])
{
    size_t n = 0, used = 0;
    for (const char *p = b->params; *p; n++) {
        size_t len = strcspn(p, " ");
        if (n < args->n)
            arg[n] = args->pos[n];
        for (size_t i = 0; i < args->n_kw; i++)
            if (param_is(p, len, args->kw[i].name)) {
                if (n < args->n)
                    return jfail(r, "%s() got multiple values for argument '%.*s'", b->name, (int)len, p);
                arg[n] = args->kw[i].value;
                used++;
            }
        if (arg[n].kind == J_ABSENT && n < b->n_required)
            return jfail(r, "%s() missing required argument '%.*s'", b->name, (int)len, p);
        p += len + (p[len] == ' ');
    }
    if (args->n > n)
        return jfail(r, "%s() takes at most %zu arguments (%zu given)", b->name, n, args->n);
    if (used < args->n_kw)
        return jfail(r, "%s() got an unexpected keyword argument", b->name);
    return ERR_OK;
}

/* Calls a lazy one now and keeps its complaint, if it has one, for later. */
static err call_lazy(struct jrun *r, const struct jbuiltin *b, struct jval self, const struct jval *arg,
                     const struct jargs *args, struct jval *out)
{
    struct why own = {0}, *why = r->why;
    struct jseq *failed;
    int depth = r->depth;
    r->why = &own;
    err e = b->fn(r, self, arg, args, out);
    r->why = why;
    if (e != ERR_INVAL)
        return e ? why_set(why, e, "%s", own.text) : ERR_OK;
    r->depth = depth;
    JTRY(jseq_open(r, 0, &failed));
    failed->complaint = arena_strndup(&r->arena, own.text, strlen(own.text));
    if (!failed->complaint)
        return jrun_nomem(r);
    *out = jseqval(J_GENERATOR, failed);
    return ERR_OK;
}

err jbuiltin_call(struct jrun *r, const struct jbuiltin *b, struct jval self, const struct jargs *args,
                  struct jval *out)
{
    struct jval arg[JBUILTIN_MAX_PARAMS] = {0};
    if (b->params)
        JTRY(bind(r, b, args, arg));
    return b->lazy ? call_lazy(r, b, self, arg, args, out) : b->fn(r, self, arg, args, out);
}

err jarg_int(struct jrun *r, struct jval v, int64_t fallback, int64_t *out)
{
    if (v.kind != J_ABSENT && !jis_integral(v))
        return jfail(r, "'%s' object cannot be interpreted as an integer", jtype_name(v));
    *out = v.kind == J_ABSENT ? fallback : jto_int(v);
    return ERR_OK;
}

err jarg_str(struct jrun *r, struct jval v, const struct jstr **out)
{
    if (v.kind != J_STR)
        return jfail(r, "a string is required, not '%s'", jtype_name(v));
    *out = v.s;
    return ERR_OK;
}

/* ---- macros ------------------------------------------------------------------------ */

/* Takes a keyword argument out by name. */
static bool take(const struct jargs *args, bool *taken, const struct jstr *name, struct jval *out)
{
    for (size_t i = 0; i < args->n_kw; i++)
        if (!taken[i] && jstr_equal(args->kw[i].name, name)) {
            taken[i] = true;
            *out = args->kw[i].value;
            return true;
        }
    return false;
}

/* Positional and named arguments; defaults see the parameters before them. */
static err bind_params(struct jrun *r, const struct jmacro_def *m, const struct jargs *args, bool *taken,
                       struct jscope *scope)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct jparam *p = &m->param[i];
        struct jval v;
        if (i < args->n) {
            v = args->pos[i];
        } else if (!take(args, taken, p->name, &v)) {
            if (p->fallback) {
                struct jscope *outer = r->scope;
                r->scope = scope;
                err e = jeval(r, p->fallback, &v);
                r->scope = outer;
                JTRY(e);
            } else {
                JTRY(
                    jundefined(r, &v, "parameter '%.*s' was not provided", (int)p->name->len, p->name->text));
            }
        }
        JTRY(jscope_set(r, scope, p->name, v));
    }
    return ERR_OK;
}

/* What is left over: caller, kwargs, varargs, or a complaint. */
static err bind_rest(struct jrun *r, const struct jmacro_def *m, const struct jargs *args, bool *taken,
                     struct jscope *scope)
{
    struct jdict *rest;
    struct jseq *more;
    struct jval caller;
    if (m->takes_caller && !m->explicit_caller) {
        if (!take(args, taken, r->tmpl->caller, &caller))
            JTRY(jundefined(r, &caller, "No caller defined"));
        JTRY(jscope_set(r, scope, r->tmpl->caller, caller));
    }
    JTRY(jdict_open(r, 0, &rest));
    for (size_t i = 0; i < args->n_kw; i++)
        if (!taken[i])
            JTRY(jdict_set(r, rest, jstrval(args->kw[i].name), args->kw[i].value));
    if (m->takes_kwargs)
        JTRY(jscope_set(r, scope, r->tmpl->kwargs, jdictval(rest)));
    else if (rest->n && jstr_equal(rest->pair[0].key.s, r->tmpl->caller))
        return jfail(r,
                     "macro '%.*s' was invoked with two values for the special caller argument. This is most "
                     "likely a bug.",
                     (int)m->name->len, m->name->text);
    else if (rest->n)
        return jfail(r, "macro '%.*s' takes no keyword argument '%.*s'", (int)m->name->len, m->name->text,
                     (int)rest->pair[0].key.s->len, rest->pair[0].key.s->text);
    JTRY(jseq_open(r, 0, &more));
    for (size_t i = m->n; i < args->n; i++)
        JTRY(jseq_push(r, more, args->pos[i]));
    if (m->takes_varargs)
        return jscope_set(r, scope, r->tmpl->varargs, jseqval(J_TUPLE, more));
    if (more->n)
        return jfail(r, "macro '%.*s' takes not more than %zu argument(s)", (int)m->name->len, m->name->text,
                     m->n);
    return ERR_OK;
}

static err call_macro(struct jrun *r, const struct jmacro *m, const struct jargs *args, struct jval *out)
{
    struct jscope *scope;
    bool *taken = jalloc(r, args->n_kw, sizeof *taken);
    if (!taken)
        return jrun_nomem(r);
    JTRY(jscope_open(r, m->scope, &scope));
    JTRY(bind_params(r, m->def, args, taken, scope));
    JTRY(bind_rest(r, m->def, args, taken, scope));
    JTRY(jexec_capture(r, scope, m->def->body, out));
    if (r->flow != JFLOW_ON) /* a break that is in no loop of the macro's own */
        return jfail(r, "'break' outside loop");
    return ERR_OK;
}

/* ---- everything that can be called --------------------------------------------------- */

static err call_loop(struct jrun *r, const struct jloop *loop, const struct jargs *args, struct jval *out)
{
    struct jout text, *outer = r->out;
    if (!loop->node->recursive)
        return jfail(r, "The loop must have the 'recursive' marker to be called recursively.");
    if (args->n != 1 || args->n_kw)
        return jfail(r, "loop() takes one argument");
    jout_init(&text, r);
    r->out = &text;
    err e = jexec_loop(r, loop->node, args->pos[0], loop->outer, loop->depth + 1);
    r->out = outer;
    return e ? e : jout_take(&text, out);
}

static err call_joiner(struct jrun *r, struct jcycle *joiner, struct jval *out)
{
    static const struct jstr nothing = {.text = ""};
    (void)r;
    *out = jstrval(joiner->pos++ ? joiner->sep : &nothing);
    return ERR_OK;
}

err jcall(struct jrun *r, struct jval f, const struct jargs *args, struct jval *out)
{
    err e;
    JTRY(jenter(r));
    switch (f.kind) {
    case J_FUNC:
        e = jbuiltin_call(r, f.fn->builtin, f.fn->self, args, out);
        break;
    case J_MACRO:
        e = call_macro(r, f.macro, args, out);
        break;
    case J_LOOP:
        e = call_loop(r, f.loop, args, out);
        break;
    case J_JOINER:
        e = call_joiner(r, f.cycle, out);
        break;
    case J_UNDEFINED:
        e = jfail(r, "%s", f.undef->text);
        break;
    default:
        e = jfail(r, "'%s' object is not callable", jtype_name(f));
    }
    jleave(r);
    return e;
}
