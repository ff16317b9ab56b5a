/* jinja_method.c - methods of dictionaries, lists and Jinja's own objects, and the
 * table of them all. */
#include <string.h>

#include "api/jinja_eval.h"

/* ---- dict, list, tuple ---------------------------------------------------------------- */

JBUILTIN(dict_get)
{
    struct jval *hit;
    JUNUSED_ARGS;
    JTRY(jdict_get(r, self.dict, arg[0], &hit));
    *out = hit ? *hit : arg[1].kind == J_ABSENT ? jnone() : arg[1];
    return ERR_OK;
}

static err view(struct jrun *r, const struct jdict *d, enum jkind kind, struct jval *out)
{
    struct jseq *s, *pair;
    JTRY(jseq_open(r, d->n, &s));
    for (size_t i = 0; i < d->n; i++) {
        struct jval v = kind == J_KEYS ? d->pair[i].key : d->pair[i].value;
        if (kind == J_ITEMS) {
            JTRY(jseq_open(r, 2, &pair));
            JTRY(jseq_push(r, pair, d->pair[i].key));
            JTRY(jseq_push(r, pair, d->pair[i].value));
            v = jseqval(J_TUPLE, pair);
        }
        JTRY(jseq_push(r, s, v));
    }
    *out = jseqval(kind, s);
    return ERR_OK;
}

JBUILTIN(dict_keys)
{
    JUNUSED_ARGS;
    return view(r, self.dict, J_KEYS, out);
}

JBUILTIN(dict_values)
{
    JUNUSED_ARGS;
    return view(r, self.dict, J_VALUES, out);
}

JBUILTIN(dict_items)
{
    JUNUSED_ARGS;
    return view(r, self.dict, J_ITEMS, out);
}

/* Values do not change, so a copy is the thing itself. */
JBUILTIN(any_copy)
{
    JUNUSED_ARGS;
    *out = self;
    return ERR_OK;
}

JBUILTIN(list_count)
{
    int64_t n = 0;
    bool same;
    JUNUSED_ARGS;
    for (size_t i = 0; i < self.seq->n; i++) {
        JTRY(jequal(r, self.seq->v[i], arg[0], &same));
        n += same;
    }
    *out = jint(n);
    return ERR_OK;
}

JBUILTIN(list_index)
{
    bool same;
    JUNUSED_ARGS;
    for (size_t i = 0; i < self.seq->n; i++) {
        JTRY(jequal(r, self.seq->v[i], arg[0], &same));
        if (same) {
            *out = jint((int64_t)i);
            return ERR_OK;
        }
    }
    return jfail(r, "the value is not in the %s", jtype_name(self));
}

/* ---- loop, cycler ------------------------------------------------------------------------ */

JBUILTIN(loop_cycle)
{
    JUNUSED_ARGS;
    if (!raw->n)
        return jfail(r, "no items for cycling given");
    *out = raw->pos[self.loop->i % raw->n];
    return ERR_OK;
}

JBUILTIN(loop_changed)
{
    struct jseq *now;
    bool same = false;
    JUNUSED_ARGS;
    JTRY(jseq_open(r, raw->n, &now));
    for (size_t i = 0; i < raw->n; i++)
        JTRY(jseq_push(r, now, raw->pos[i]));
    struct jval v = jseqval(J_TUPLE, now);
    if (self.loop->changed.kind != J_ABSENT)
        JTRY(jequal(r, self.loop->changed, v, &same));
    self.loop->changed = v;
    *out = jbool(!same);
    return ERR_OK;
}

JBUILTIN(cycler_next)
{
    struct jcycle *c = self.cycle;
    JUNUSED_ARGS;
    *out = c->items->v[c->pos];
    c->pos = (c->pos + 1) % c->items->n;
    return ERR_OK;
}

JBUILTIN(cycler_reset)
{
    JUNUSED_ARGS;
    self.cycle->pos = 0;
    *out = jnone();
    return ERR_OK;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static const struct jbuiltin dict_methods[] = {
    {"get", dict_get, "key default", 1}, {"keys", dict_keys, "", 0}, {"values", dict_values, "", 0},
    {"items", dict_items, "", 0},        {"copy", any_copy, "", 0},  {0},
};
static const struct jbuiltin list_methods[] = {
    {"count", list_count, "value", 1},
    {"index", list_index, "value", 1},
    {"copy", any_copy, "", 0},
    {0},
};
static const struct jbuiltin loop_methods[] = {
    {"cycle", loop_cycle, NULL, 0},
    {"changed", loop_changed, NULL, 0},
    {0},
};
static const struct jbuiltin cycler_methods[] = {
    {"next", cycler_next, "", 0},
    {"reset", cycler_reset, "", 0},
    {0},
};

static const struct jbuiltin *methods_of(enum jkind kind)
{
    switch (kind) {
    case J_STR:
        return jmethods_str;
    case J_DICT:
        return dict_methods;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
        return list_methods;
    case J_LOOP:
        return loop_methods;
    case J_CYCLER:
        return cycler_methods;
    default:
        return NULL;
    }
}

const struct jbuiltin *jbuiltin_method(struct jval self, const struct jstr *name)
{
    if (self.kind != J_LIST && self.kind != J_DICT && jstr_is(name, "copy"))
        return NULL;
    for (const struct jbuiltin *b = methods_of(self.kind); b && b->name; b++)
        if (jstr_is(name, b->name))
            return b;
    return NULL;
}

bool jbuiltin_is_mutator(struct jval self, const struct jstr *name)
{
    static const char *const list[] = {"append", "clear",  "pop",    "reverse", "insert",
                                       "sort",   "extend", "remove", NULL};
    static const char *const dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const char *const none[] = {NULL};
    const char *const *names = self.kind == J_LIST ? list : self.kind == J_DICT ? dict : none;
    for (; *names; names++)
        if (jstr_is(name, *names))
            return true;
    return false;
}
