/* jinja_filter_seq.c - filters over sequences and dictionaries. */
#include <string.h>

#include "api/jinja_eval.h"
#include "api/jinja_pick.h"

/* Keys for sorting and comparing: strings in lower case unless told otherwise. */
static err fold(struct jrun *r, struct jval v, bool case_sensitive, struct jval *out)
{
    *out = v;
    return v.kind == J_STR && !case_sensitive ? jstr_case(r, v.s, JCASE_LOWER, out) : ERR_OK;
}

static err key_of(struct jrun *r, struct jval v, struct jval path, bool case_sensitive, struct jval *out)
{
    if (path.kind != J_ABSENT && path.kind != J_NONE)
        JTRY(jattr_path(r, v, path, (struct jval){0}, &v));
    return fold(r, v, case_sensitive, out);
}

static err copy_of(struct jrun *r, struct jval v, struct jseq **out)
{
    const struct jseq *s;
    JTRY(jiterate(r, v, &s));
    JTRY(jseq_open(r, s->n, out));
    for (size_t i = 0; i < s->n; i++)
        JTRY(jseq_push(r, *out, s->v[i]));
    return ERR_OK;
}

JBUILTIN(filter_length)
{
    size_t n;
    JUNUSED_ARGS;
    JTRY(jlength(r, self, &n));
    *out = jint((int64_t)n);
    return ERR_OK;
}

JBUILTIN(filter_first)
{
    const struct jseq *s;
    JUNUSED_ARGS;
    JTRY(jiterate(r, self, &s));
    if (!s->n)
        return jundefined(r, out, "No first item, sequence was empty.");
    *out = s->v[0];
    return ERR_OK;
}

JBUILTIN(filter_last)
{
    const struct jseq *s;
    JUNUSED_ARGS;
    if (self.kind == J_GENERATOR)
        return jfail(r, "'generator' object is not reversible");
    JTRY(jiterate(r, self, &s));
    if (!s->n)
        return jundefined(r, out, "No last item, sequence was empty.");
    *out = s->v[s->n - 1];
    return ERR_OK;
}

JBUILTIN(filter_list)
{
    struct jseq *s;
    JUNUSED_ARGS;
    JTRY(copy_of(r, self, &s));
    *out = jseqval(J_LIST, s);
    return ERR_OK;
}

JBUILTIN(filter_join)
{
    static const struct jstr nothing = {.text = ""};
    const struct jstr *glue = &nothing;
    const struct jseq *s;
    struct jout o;
    JUNUSED_ARGS;
    if (arg[0].kind != J_ABSENT)
        JTRY(jto_str(r, arg[0], &glue));
    JTRY(jiterate(r, self, &s));
    jout_init(&o, r);
    for (size_t i = 0; i < s->n; i++) {
        struct jval v = s->v[i];
        if (arg[1].kind != J_ABSENT && arg[1].kind != J_NONE)
            JTRY(jattr_path(r, v, arg[1], (struct jval){0}, &v));
        if (i)
            jout_str(&o, glue);
        JTRY(jput_str(&o, v));
        JTRY(jstep(r, 1));
    }
    return jout_take(&o, out);
}

JBUILTIN(filter_reverse)
{
    static const struct jval backwards[3] = {{.kind = J_NONE}, {.kind = J_NONE}, {.kind = J_INT, .i = -1}};
    struct jseq *s;
    JUNUSED_ARGS;
    if (self.kind == J_STR)
        return jslice(r, self, backwards, out);
    JTRY(copy_of(r, self, &s));
    for (size_t i = 0; i < s->n / 2; i++) {
        struct jval v = s->v[i];
        s->v[i] = s->v[s->n - 1 - i];
        s->v[s->n - 1 - i] = v;
    }
    *out =
        jseqval(self.kind == J_GENERATOR ? J_LIST : J_GENERATOR, s); /* what cannot be reversed is listed */
    return ERR_OK;
}

/* ---- order --------------------------------------------------------------------- */

/* "a,b": the keys of an item are compared one after the other. */
static err sort_key(struct jrun *r, struct jval item, struct jval attribute, bool case_sensitive,
                    struct jval *out)
{
    static const struct jstr comma = {.text = ",", .len = 1};
    struct jseq *keys;
    struct jval path, key;
    if (attribute.kind != J_STR)
        return key_of(r, item, attribute, case_sensitive, out);
    JTRY(jseq_open(r, 1, &keys));
    for (size_t at = 0; at <= attribute.s->len;) {
        size_t end = jstr_find(attribute.s, &comma, at);
        if (end == SIZE_MAX)
            end = attribute.s->len;
        JTRY(jstr_slice(r, attribute.s, at, end, &path));
        JTRY(key_of(r, item, path, case_sensitive, &key));
        JTRY(jseq_push(r, keys, key));
        at = end + 1;
    }
    *out = jseqval(J_LIST, keys);
    return ERR_OK;
}

typedef err key_fn(struct jrun *r, struct jval item, struct jval attribute, bool case_sensitive,
                   struct jval *out);

static err sorted(struct jrun *r, struct jval v, bool reverse, bool case_sensitive, struct jval attribute,
                  key_fn *key_by, struct jseq **out)
{
    struct jseq *keys;
    JTRY(copy_of(r, v, out));
    JTRY(jseq_open(r, (*out)->n, &keys));
    for (size_t i = 0; i < (*out)->n; i++) {
        struct jval key;
        JTRY(key_by(r, (*out)->v[i], attribute, case_sensitive, &key));
        JTRY(jseq_push(r, keys, key));
    }
    return jsort(r, keys->v, (*out)->v, keys->n, reverse);
}

JBUILTIN(filter_sort)
{
    struct jseq *s;
    JUNUSED_ARGS;
    JTRY(sorted(r, self, jtruth(arg[0]), jtruth(arg[1]), arg[2], sort_key, &s));
    *out = jseqval(J_LIST, s);
    return ERR_OK;
}

static err pairs_of(struct jrun *r, const struct jdict *d, struct jseq **out)
{
    JTRY(jseq_open(r, d->n, out));
    for (size_t i = 0; i < d->n; i++) {
        struct jseq *pair;
        JTRY(jseq_open(r, 2, &pair));
        JTRY(jseq_push(r, pair, d->pair[i].key));
        JTRY(jseq_push(r, pair, d->pair[i].value));
        JTRY(jseq_push(r, *out, jseqval(J_TUPLE, pair)));
    }
    return ERR_OK;
}

JBUILTIN(filter_dictsort)
{
    const struct jstr *by;
    struct jseq *pairs;
    int64_t at = 0;
    JUNUSED_ARGS;
    if (arg[1].kind != J_ABSENT) {
        JTRY(jarg_str(r, arg[1], &by));
        if (!jstr_is(by, "key") && !jstr_is(by, "value"))
            return jfail(r, "You can only sort by either \"key\" or \"value\"");
        at = jstr_is(by, "value");
    }
    if (self.kind == J_UNDEFINED)
        return jfail(r, "%s", self.undef->text);
    if (self.kind != J_DICT)
        return jfail(r, "'%s' object has no attribute 'items'", jtype_name(self));
    JTRY(pairs_of(r, self.dict, &pairs));
    JTRY(sorted(r, jseqval(J_LIST, pairs), jtruth(arg[2]), jtruth(arg[0]), jint(at), sort_key, &pairs));
    *out = jseqval(J_LIST, pairs);
    return ERR_OK;
}

JBUILTIN(filter_items)
{
    struct jseq *pairs;
    JUNUSED_ARGS;
    if (self.kind == J_UNDEFINED)
        JTRY(jseq_open(r, 0, &pairs));
    else if (self.kind == J_DICT)
        JTRY(pairs_of(r, self.dict, &pairs));
    else
        return jfail(r, "Can only get item pairs from a mapping.");
    *out = jseqval(J_GENERATOR, pairs);
    return ERR_OK;
}

static err extreme(struct jrun *r, struct jval v, const struct jval *arg, bool largest, struct jval *out)
{
    const struct jseq *s;
    struct jval best_key, key;
    int order;
    JTRY(jiterate(r, v, &s));
    if (!s->n)
        return jundefined(r, out, "No aggregated item, sequence was empty.");
    *out = s->v[0];
    JTRY(key_of(r, s->v[0], arg[1], jtruth(arg[0]), &best_key));
    for (size_t i = 1; i < s->n; i++) {
        JTRY(key_of(r, s->v[i], arg[1], jtruth(arg[0]), &key));
        JTRY(jcompare(r, key, best_key, largest ? ">" : "<", &order));
        if (largest ? order > 0 : order < 0) {
            best_key = key;
            *out = s->v[i];
        }
    }
    return ERR_OK;
}

JBUILTIN(filter_min)
{
    JUNUSED_ARGS;
    return extreme(r, self, arg, false, out);
}

JBUILTIN(filter_max)
{
    JUNUSED_ARGS;
    return extreme(r, self, arg, true, out);
}

JBUILTIN(filter_sum)
{
    const struct jseq *s;
    JUNUSED_ARGS;
    *out = arg[1].kind == J_ABSENT ? jint(0) : arg[1];
    JTRY(jiterate(r, self, &s));
    for (size_t i = 0; i < s->n; i++) {
        struct jval v = s->v[i];
        if (arg[0].kind != J_ABSENT && arg[0].kind != J_NONE)
            JTRY(jattr_path(r, v, arg[0], (struct jval){0}, &v));
        JTRY(jarith(r, JN_ADD, *out, v, out));
    }
    return ERR_OK;
}

JBUILTIN(filter_unique)
{
    const struct jseq *s;
    struct jdict *seen;
    struct jseq *kept;
    JUNUSED_ARGS;
    JTRY(jiterate(r, self, &s));
    JTRY(jdict_open(r, 0, &seen));
    JTRY(jseq_open(r, 0, &kept));
    for (size_t i = 0; i < s->n; i++) {
        struct jval key;
        size_t n = seen->n;
        JTRY(key_of(r, s->v[i], arg[1], jtruth(arg[0]), &key));
        JTRY(jdict_set(r, seen, key, jnone()));
        if (seen->n > n)
            JTRY(jseq_push(r, kept, s->v[i]));
    }
    *out = jseqval(J_GENERATOR, kept);
    return ERR_OK;
}

/* ---- groups ------------------------------------------------------------------------ */

JBUILTIN(filter_groupby)
{
    struct jseq *s, *groups, *group = NULL, *pair;
    struct jval last = {0};
    JUNUSED_ARGS;
    JTRY(sorted(r, self, false, jtruth(arg[2]), arg[0], key_of, &s));
    JTRY(jseq_open(r, 0, &groups));
    for (size_t i = 0; i < s->n; i++) {
        struct jval name, key;
        bool same = false;
        JTRY(jattr_path(r, s->v[i], arg[0], arg[1], &name));
        JTRY(fold(r, name, jtruth(arg[2]), &key));
        if (group)
            JTRY(jequal(r, key, last, &same));
        if (!same) {
            JTRY(jseq_open(r, 2, &pair));
            JTRY(jseq_open(r, 0, &group));
            JTRY(jseq_push(r, pair, name));
            JTRY(jseq_push(r, pair, jseqval(J_LIST, group)));
            JTRY(jseq_push(r, groups, jseqval(J_TUPLE, pair)));
            last = key;
        }
        JTRY(jseq_push(r, group, s->v[i]));
    }
    *out = jseqval(J_LIST, groups);
    return ERR_OK;
}

JBUILTIN(filter_batch)
{
    const struct jseq *s;
    struct jseq *rows, *row = NULL;
    int64_t size;
    JUNUSED_ARGS;
    JTRY(jarg_int(r, arg[0], 1, &size));
    JTRY(jiterate(r, self, &s));
    JTRY(jseq_open(r, 0, &rows));
    for (size_t i = 0; i < s->n; i++) {
        if (!row || (int64_t)row->n == size) {
            JTRY(jseq_open(r, 0, &row));
            JTRY(jseq_push(r, rows, jseqval(J_LIST, row)));
        }
        JTRY(jseq_push(r, row, s->v[i]));
    }
    if (row && arg[1].kind != J_ABSENT && arg[1].kind != J_NONE)
        while ((int64_t)row->n < size)
            JTRY(jseq_push(r, row, arg[1]));
    *out = jseqval(J_GENERATOR, rows);
    return ERR_OK;
}

JBUILTIN(filter_slice)
{
    const struct jseq *s;
    struct jseq *rows, *row;
    int64_t n;
    size_t at = 0;
    JUNUSED_ARGS;
    JTRY(jarg_int(r, arg[0], 1, &n));
    JTRY(jiterate(r, self, &s));
    if (n <= 0)
        return jfail(r, "integer division or modulo by zero");
    JTRY(jseq_open(r, 0, &rows));
    size_t each = s->n / (size_t)n, longer = s->n % (size_t)n;
    for (size_t i = 0; i < (size_t)n; i++) {
        JTRY(jseq_open(r, 0, &row));
        for (size_t k = 0; k < each + (i < longer); k++)
            JTRY(jseq_push(r, row, s->v[at++]));
        if (arg[1].kind != J_ABSENT && arg[1].kind != J_NONE && i >= longer)
            JTRY(jseq_push(r, row, arg[1]));
        JTRY(jseq_push(r, rows, jseqval(J_LIST, row)));
    }
    *out = jseqval(J_GENERATOR, rows);
    return ERR_OK;
}

const struct jbuiltin jfilters_seq[] = {
    {"length", filter_length, "", 0},
    {"count", filter_length, "", 0},
    {"first", filter_first, "", 0},
    {"last", filter_last, "", 0},
    {"list", filter_list, "", 0},
    {"join", filter_join, "d attribute", 0},
    {"reverse", filter_reverse, "", 0},
    {"sort", filter_sort, "reverse case_sensitive attribute", 0},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0},
    {"items", filter_items, "", 0, true},
    {"min", filter_min, "case_sensitive attribute", 0},
    {"max", filter_max, "case_sensitive attribute", 0},
    {"sum", filter_sum, "attribute start", 0},
    {"unique", filter_unique, "case_sensitive attribute", 0, true},
    {"groupby", filter_groupby, "attribute default case_sensitive", 1},
    {"batch", filter_batch, "linecount fill_with", 1, true},
    {"slice", filter_slice, "slices fill_with", 1, true},
    {0},
};
