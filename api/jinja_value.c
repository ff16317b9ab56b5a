/* jinja_value.c - sequences, dictionaries, truth, equality and order of values. */
#include "api/jinja_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/jinja_str.h"

enum { DICT_SMALL = 8 };

const char *jtype_name(struct jval v)
{
    static const char *const name[] = {
#define JKIND_TEXT(kind, text) text,
        JKIND_MAP(JKIND_TEXT)
#undef JKIND_TEXT
    };
    return v.kind == J_STR && v.s->markup ? "Markup" : name[v.kind];
}

const char *jtype_object(struct jval v)
{
    switch (v.kind) {
    case J_NONE:
        return "None";
    case J_STR:
        return "str object";
    case J_BOOL:
        return "bool object";
    case J_INT:
        return "int object";
    case J_FLOAT:
        return "float object";
    case J_LIST:
        return "list object";
    case J_TUPLE:
        return "tuple object";
    case J_DICT:
        return "dict object";
    case J_GENERATOR:
        return "generator object";
    case J_RANGE:
        return "range object";
    case J_NAMESPACE:
        return "jinja2.utils.Namespace object";
    default:
        return jtype_name(v);
    }
}

bool jtruth(struct jval v)
{
    switch (v.kind) {
    case J_ABSENT:
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v.b;
    case J_INT:
        return v.i != 0;
    case J_FLOAT:
        return v.f != 0;
    case J_STR:
        return v.s->len > 0;
    case J_DICT:
        return v.dict->n > 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_KEYS:
    case J_VALUES:
    case J_ITEMS:
        return v.seq->n > 0;
    default:
        return true;
    }
}

err jundefined(struct jrun *r, struct jval *out, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct jundef *u = jalloc(r, 1, sizeof *u);
    char *copy = arena_strndup(&r->arena, text,
                               n < 0                     ? 0
                               : (size_t)n < sizeof text ? (size_t)n
                                                         : sizeof text - 1);
    if (!u || !copy)
        return jrun_nomem(r);
    u->text = copy;
    *out = (struct jval){.kind = J_UNDEFINED, .undef = u};
    return ERR_OK;
}

err jlength(struct jrun *r, struct jval v, size_t *out)
{
    if (v.kind == J_STR) {
        *out = jstr_chars(v.s);
        return jstep(r, v.s->len / 16);
    }
    if (jis_seq(v) && v.kind != J_GENERATOR)
        *out = v.seq->n;
    else if (v.kind == J_DICT)
        *out = v.dict->n;
    else if (v.kind == J_UNDEFINED)
        *out = 0;
    else
        return jfail(r, "object of type '%s' has no len()", jtype_name(v));
    return ERR_OK;
}

/* ---- equality and order ---------------------------------------------------------- */

static err equal_seq(struct jrun *r, const struct jseq *a, const struct jseq *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++)
        JTRY(jequal(r, a->v[i], b->v[i], out));
    return ERR_OK;
}

static err equal_dict(struct jrun *r, const struct jdict *a, const struct jdict *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        struct jval *other;
        JTRY(jdict_get(r, b, a->pair[i].key, &other));
        *out = false;
        if (other)
            JTRY(jequal(r, a->pair[i].value, *other, out));
    }
    return ERR_OK;
}

err jequal(struct jrun *r, struct jval a, struct jval b, bool *out)
{
    err e = ERR_OK;
    JTRY(jstep(r, 1));
    *out = false;
    if (jis_number(a) && jis_number(b)) {
        *out = jis_integral(a) && jis_integral(b) ? jto_int(a) == jto_int(b) : jto_float(a) == jto_float(b);
        return ERR_OK;
    }
    if (a.kind != b.kind)
        return ERR_OK;
    if (a.kind == J_STR) {
        *out = jstr_equal(a.s, b.s);
        return *out ? jstep(r, a.s->len / 16) : ERR_OK;
    }
    JTRY(jenter(r));
    if (a.kind == J_LIST || a.kind == J_TUPLE || a.kind == J_RANGE)
        e = equal_seq(r, a.seq, b.seq, out);
    else if (a.kind == J_DICT)
        e = equal_dict(r, a.dict, b.dict, out);
    else if (a.kind <= J_NONE)
        *out = true;
    else
        *out = a.seq == b.seq; /* whatever it is, the same object */
    jleave(r);
    return e;
}

static err compare_seq(struct jrun *r, const struct jseq *a, const struct jseq *b, const char *op, int *out)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        bool same;
        JTRY(jequal(r, a->v[i], b->v[i], &same));
        if (!same)
            return jcompare(r, a->v[i], b->v[i], op, out);
    }
    *out = (a->n > b->n) - (a->n < b->n);
    return ERR_OK;
}

err jcompare(struct jrun *r, struct jval a, struct jval b, const char *op, int *out)
{
    JTRY(jstep(r, 1));
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED)
        return jfail(r, "%s", (a.kind == J_UNDEFINED ? a : b).undef->text);
    if (jis_number(a) && jis_number(b)) {
        if (jis_integral(a) && jis_integral(b))
            *out = (jto_int(a) > jto_int(b)) - (jto_int(a) < jto_int(b));
        else
            *out = (jto_float(a) > jto_float(b)) - (jto_float(a) < jto_float(b));
        return ERR_OK;
    }
    if (a.kind == J_STR && b.kind == J_STR) {
        *out = jstr_order(a.s, b.s);
        return ERR_OK;
    }
    if (a.kind == b.kind && (a.kind == J_LIST || a.kind == J_TUPLE)) {
        JTRY(jenter(r));
        err e = compare_seq(r, a.seq, b.seq, op, out);
        jleave(r);
        return e;
    }
    return jfail(r, "'%s' not supported between instances of '%s' and '%s'", op, jtype_name(a),
                 jtype_name(b));
}

/* ---- sequences ------------------------------------------------------------------------ */

err jseq_open(struct jrun *r, size_t room, struct jseq **out)
{
    JTRY(jstep(r, 1 + room / 16));
    struct jseq *s = jalloc(r, 1, sizeof *s);
    struct jval *v = room ? jalloc(r, room, sizeof *v) : NULL;
    if (!s || (room && !v))
        return jrun_nomem(r);
    *s = (struct jseq){.v = v, .cap = room};
    *out = s;
    return ERR_OK;
}

err jseq_push(struct jrun *r, struct jseq *s, struct jval v)
{
    if (s->n == s->cap) {
        struct jval *more = jgrow(r, s->v, s->n, &s->cap, sizeof *more);
        if (!more)
            return jrun_nomem(r);
        s->v = more;
    }
    s->v[s->n++] = v;
    return jstep(r, 1);
}

static err characters(struct jrun *r, const struct jstr *text, struct jseq **out)
{
    struct jseq *s;
    struct jval c;
    uint32_t cp;
    struct jstr plain = *text;
    plain.markup = false; /* Python's Markup is iterated as str */
    JTRY(jseq_open(r, 0, &s));
    for (size_t at = 0, n; at < text->len; at += n) {
        n = jstr_char(text, at, &cp);
        JTRY(jstr_slice(r, &plain, at, at + n, &c));
        JTRY(jseq_push(r, s, c));
    }
    *out = s;
    return ERR_OK;
}

err jiterate(struct jrun *r, struct jval v, const struct jseq **out)
{
    static const struct jseq empty;
    struct jseq *s;
    if (v.kind == J_GENERATOR) {
        if (v.seq->complaint && !v.seq->spent)
            return jfail(r, "%s", v.seq->complaint);
        *out = v.seq->spent ? &empty : v.seq;
        v.seq->spent = true;
        return ERR_OK;
    }
    if (jis_seq(v)) {
        *out = v.seq;
        return ERR_OK;
    }
    switch (v.kind) {
    case J_UNDEFINED:
        *out = &empty;
        return ERR_OK;
    case J_STR:
        JTRY(characters(r, v.s, &s));
        break;
    case J_DICT:
        JTRY(jseq_open(r, v.dict->n, &s));
        for (size_t i = 0; i < v.dict->n; i++)
            JTRY(jseq_push(r, s, v.dict->pair[i].key));
        break;
    default:
        return jfail(r, "'%s' object is not iterable", jtype_name(v));
    }
    *out = s;
    return ERR_OK;
}

/* ---- dictionaries ---------------------------------------------------------------------- */

static uint64_t hash_bytes(const char *p, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)p[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static err hash_value(struct jrun *r, struct jval v, uint64_t *out)
{
    double f;
    switch (v.kind) {
    case J_STR:
        *out = hash_bytes(v.s->text, v.s->len);
        return jstep(r, 1 + v.s->len / 16);
    case J_BOOL:
    case J_INT:
    case J_FLOAT: /* 1, 1.0 and True are one key; so all hash as floats */
        f = jto_float(v) + 0.0;
        if (f == 0)
            f = 0; /* -0.0 */
        *out = hash_bytes((const char *)&f, sizeof f);
        return ERR_OK;
    case J_NONE:
        *out = 1;
        return ERR_OK;
    case J_TUPLE:
    case J_RANGE:
        *out = 2;
        JTRY(jenter(r));
        for (size_t i = 0; i < v.seq->n; i++) {
            uint64_t h;
            JTRY(hash_value(r, v.seq->v[i], &h));
            *out = *out * 31 + h;
        }
        jleave(r);
        return jstep(r, v.seq->n);
    case J_UNDEFINED: /* all of them are equal */
        *out = 3;
        return ERR_OK;
    case J_LIST:
    case J_DICT:
    case J_KEYS:
    case J_VALUES:
    case J_ITEMS:
        return jfail(r, "unhashable type: '%s'", jtype_name(v));
    default: /* equal only to itself */
        *out = hash_bytes((const char *)&v.seq, sizeof v.seq);
        return ERR_OK;
    }
}

/* The slot in the index where the key is or would be. Colliding keys may be sent on
 * purpose, so every probe costs a step. */
static err find_slot(struct jrun *r, const struct jdict *d, struct jval key, uint64_t hash, size_t *out)
{
    size_t at = hash & (d->n_index - 1);
    for (; d->index[at]; at = (at + 1) & (d->n_index - 1)) {
        bool same;
        JTRY(jequal(r, d->pair[d->index[at] - 1].key, key, &same));
        if (same)
            break;
    }
    *out = at;
    return ERR_OK;
}

static err build_index(struct jrun *r, struct jdict *d, size_t n_index)
{
    d->index = jalloc(r, n_index, sizeof *d->index);
    if (!d->index)
        return jrun_nomem(r);
    d->n_index = n_index;
    for (size_t i = 0; i < d->n; i++) {
        uint64_t h;
        size_t at;
        JTRY(hash_value(r, d->pair[i].key, &h));
        JTRY(find_slot(r, d, d->pair[i].key, h, &at));
        d->index[at] = (uint32_t)i + 1;
    }
    return ERR_OK;
}

err jdict_open(struct jrun *r, size_t room, struct jdict **out)
{
    JTRY(jstep(r, 1 + room / 16));
    struct jdict *d = jalloc(r, 1, sizeof *d);
    struct jpair *pair = room ? jalloc(r, room, sizeof *pair) : NULL;
    if (!d || (room && !pair))
        return jrun_nomem(r);
    *d = (struct jdict){.pair = pair, .cap = room};
    *out = d;
    return ERR_OK;
}

/* *pos: of the pair, d->n when there is none. *slot: where the index wants it. */
static err dict_locate(struct jrun *r, const struct jdict *d, struct jval key, size_t *pos, size_t *slot)
{
    uint64_t hash;
    JTRY(hash_value(r, key, &hash)); /* also for small ones: it refuses lists */
    if (d->index) {
        JTRY(find_slot(r, d, key, hash, slot));
        *pos = d->index[*slot] ? d->index[*slot] - 1 : d->n;
        return ERR_OK;
    }
    for (*pos = 0; *pos < d->n; ++*pos) {
        bool same;
        JTRY(jequal(r, d->pair[*pos].key, key, &same));
        if (same)
            break;
    }
    return ERR_OK;
}

err jdict_get(struct jrun *r, const struct jdict *d, struct jval key, struct jval **out)
{
    size_t pos, slot;
    JTRY(dict_locate(r, d, key, &pos, &slot));
    *out = pos < d->n ? &d->pair[pos].value : NULL;
    return ERR_OK;
}

err jdict_set(struct jrun *r, struct jdict *d, struct jval key, struct jval value)
{
    size_t pos, slot = 0;
    JTRY(dict_locate(r, d, key, &pos, &slot));
    if (pos < d->n) {
        d->pair[pos].value = value;
        return ERR_OK;
    }
    if (d->n == d->cap) {
        struct jpair *more = jgrow(r, d->pair, d->n, &d->cap, sizeof *more);
        if (!more)
            return jrun_nomem(r);
        d->pair = more;
    }
    d->pair[d->n++] = (struct jpair){key, value};
    if (d->index && 2 * d->n <= d->n_index)
        d->index[slot] = (uint32_t)d->n;
    else if (d->n > DICT_SMALL)
        JTRY(build_index(r, d, d->n_index ? 2 * d->n_index : 4 * DICT_SMALL));
    return jstep(r, 1);
}

struct jval *jdict_find(struct jrun *r, const struct jdict *d, const char *name, size_t len)
{
    struct jstr s = {.text = name, .len = len};
    struct jval *out = NULL;
    struct why *why = r->why;
    r->why = NULL; /* running out of steps here is noticed at the next step */
    if (jdict_get(r, d, jstrval(&s), &out))
        out = NULL;
    r->why = why;
    return out;
}
