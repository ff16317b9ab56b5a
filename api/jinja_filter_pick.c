/* jinja_filter_pick.c - map, select and their kin: filters that apply filters and
 * tests by name; default and attr. */
#include "api/jinja_eval.h"

JBUILTIN(filter_default)
{
    JUNUSED_ARGS;
    bool replace = self.kind == J_UNDEFINED || (jtruth(arg[1]) && !jtruth(self));
    static const struct jstr nothing = {.text = ""};
    *out = !replace ? self : arg[0].kind == J_ABSENT ? jstrval(&nothing) : arg[0];
    return ERR_OK;
}

JBUILTIN(filter_attr)
{
    const struct jstr *name;
    JUNUSED_ARGS;
    JTRY(jarg_str(r, arg[0], &name));
    if (self.kind == J_DICT && !jbuiltin_method(self, name)) /* keys are no attributes */
        return jundefined(r, out, "'dict object' has no attribute '%.*s'", (int)name->len, name->text);
    return jget_attr(r, self, name, out);
}

/* The arguments after the first n. */
static struct jargs rest_of(const struct jargs *args, size_t n)
{
    return (struct jargs){
        .pos = n ? args->pos + n : args->pos, .n = args->n - n, .kw = args->kw, .n_kw = args->n_kw};
}

static err named(struct jrun *r, const struct jargs *raw, size_t at, const char *what,
                 const struct jbuiltin *(*find)(const struct jstr *), const struct jbuiltin **out)
{
    const struct jstr *name;
    JTRY(jarg_str(r, raw->pos[at], &name));
    *out = find(name);
    return *out ? ERR_OK : jfail(r, "No %s named '%.*s'.", what, (int)name->len, name->text);
}

static err map_attribute(struct jrun *r, const struct jseq *s, const struct jargs *raw, struct jseq *mapped)
{
    struct jval path = {0}, fallback = {0};
    for (size_t i = 0; i < raw->n_kw; i++) {
        if (jstr_is(raw->kw[i].name, "attribute"))
            path = raw->kw[i].value;
        else if (jstr_is(raw->kw[i].name, "default"))
            fallback = raw->kw[i].value;
        else
            return jfail(r, "Unexpected keyword argument '%.*s'", (int)raw->kw[i].name->len,
                         raw->kw[i].name->text);
    }
    if (path.kind == J_ABSENT)
        return jfail(r, "map requires a filter argument");
    for (size_t i = 0; i < s->n; i++) {
        struct jval v;
        JTRY(jattr_path(r, s->v[i], path, fallback, &v));
        JTRY(jseq_push(r, mapped, v));
    }
    return ERR_OK;
}

JBUILTIN(filter_map)
{
    const struct jbuiltin *filter;
    const struct jseq *s;
    struct jseq *mapped;
    JUNUSED_ARGS;
    JTRY(jseq_open(r, 0, &mapped));
    *out = jseqval(J_GENERATOR, mapped);
    if (!jtruth(self)) /* Jinja looks at nothing else then: None is as good as an empty list */
        return ERR_OK;
    JTRY(jiterate(r, self, &s));
    if (!raw->n)
        return map_attribute(r, s, raw, mapped);
    JTRY(named(r, raw, 0, "filter", jbuiltin_filter, &filter));
    struct jargs args = rest_of(raw, 1);
    JTRY(jenter(r)); /* a filter may be map itself */
    for (size_t i = 0; i < s->n; i++) {
        struct jval v;
        JTRY(jstep(r, 1));
        JTRY(jbuiltin_call(r, filter, s->v[i], &args, &v));
        JTRY(jseq_push(r, mapped, v));
    }
    jleave(r);
    return ERR_OK;
}

/* by_attr: the first argument is an attribute, the test follows it. */
static err pick(struct jrun *r, struct jval self, const struct jargs *raw, bool by_attr, bool keep,
                struct jval *out)
{
    const struct jbuiltin *test = NULL;
    const struct jseq *s;
    struct jseq *picked;
    size_t used = by_attr;
    JTRY(jseq_open(r, 0, &picked));
    *out = jseqval(J_GENERATOR, picked);
    if (!jtruth(self)) /* as in map */
        return ERR_OK;
    if (by_attr && !raw->n)
        return jfail(r, "Missing parameter for attribute name");
    if (raw->n > used)
        JTRY(named(r, raw, used++, "test", jbuiltin_test, &test));
    struct jargs args = rest_of(raw, used);
    JTRY(jiterate(r, self, &s));
    JTRY(jenter(r));
    for (size_t i = 0; i < s->n; i++) {
        struct jval v = s->v[i];
        JTRY(jstep(r, 1));
        if (by_attr)
            JTRY(jattr_path(r, v, raw->pos[0], (struct jval){0}, &v));
        if (test)
            JTRY(jbuiltin_call(r, test, v, &args, &v));
        if (jtruth(v) == keep)
            JTRY(jseq_push(r, picked, s->v[i]));
    }
    jleave(r);
    return ERR_OK;
}

JBUILTIN(filter_select)
{
    JUNUSED_ARGS;
    return pick(r, self, raw, false, true, out);
}

JBUILTIN(filter_reject)
{
    JUNUSED_ARGS;
    return pick(r, self, raw, false, false, out);
}

JBUILTIN(filter_selectattr)
{
    JUNUSED_ARGS;
    return pick(r, self, raw, true, true, out);
}

JBUILTIN(filter_rejectattr)
{
    JUNUSED_ARGS;
    return pick(r, self, raw, true, false, out);
}

const struct jbuiltin jfilters_pick[] = {
    {"default", filter_default, "default_value boolean", 0},
    {"d", filter_default, "default_value boolean", 0},
    {"attr", filter_attr, "name", 1},
    {"map", filter_map, NULL, 0, true},
    {"select", filter_select, NULL, 0, true},
    {"reject", filter_reject, NULL, 0, true},
    {"selectattr", filter_selectattr, NULL, 0, true},
    {"rejectattr", filter_rejectattr, NULL, 0, true},
    {0},
};

const struct jbuiltin *jbuiltin_filter(const struct jstr *name)
{
    const struct jbuiltin *const tables[] = {jfilters_text, jfilters_seq, jfilters_pick, jfilters_number};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const struct jbuiltin *b = tables[i]; b->name; b++)
            if (jstr_is(name, b->name))
                return b;
    return NULL;
}
