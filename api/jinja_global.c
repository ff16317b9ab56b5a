/* jinja_global.c - the functions a template can call by name. */
#include <string.h>
#include <time.h>

#include "api/jinja_eval.h"

enum { RANGE_MAX = 100000 };

JBUILTIN(global_range)
{
    struct jseq *s;
    int64_t bound[3] = {0, 0, 1};
    JUNUSED_ARGS;
    if (raw->n < 1 || raw->n > 3 || raw->n_kw)
        return jfail(r, "range expected 1 to 3 arguments, got %zu", raw->n);
    for (size_t i = 0; i < raw->n; i++)
        JTRY(jarg_int(r, raw->pos[i], 0, &bound[raw->n == 1 ? 1 : i]));
    int64_t step = bound[2];
    if (step == 0)
        return jfail(r, "range() arg 3 must not be zero");
    JTRY(jseq_open(r, 0, &s));
    memcpy(s->range, bound, sizeof bound);
    for (int64_t i = bound[0]; step > 0 ? i < bound[1] : i > bound[1];) {
        if (s->n == RANGE_MAX)
            return jfail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                         RANGE_MAX);
        JTRY(jseq_push(r, s, jint(i)));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    *out = jseqval(J_RANGE, s);
    return ERR_OK;
}

/* dict(mapping or pairs, name=value, ...) */
static err fill(struct jrun *r, const struct jargs *raw, struct jdict **out)
{
    const struct jseq *pairs, *pair;
    JTRY(jdict_open(r, 0, out));
    if (raw->n > 1)
        return jfail(r, "dict expected at most 1 argument, got %zu", raw->n);
    if (raw->n && raw->pos[0].kind == J_DICT) {
        const struct jdict *d = raw->pos[0].dict;
        for (size_t i = 0; i < d->n; i++)
            JTRY(jdict_set(r, *out, d->pair[i].key, d->pair[i].value));
    } else if (raw->n) {
        JTRY(jiterate(r, raw->pos[0], &pairs));
        for (size_t i = 0; i < pairs->n; i++) {
            JTRY(jiterate(r, pairs->v[i], &pair));
            if (pair->n != 2)
                return jfail(r, "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                             pair->n);
            JTRY(jdict_set(r, *out, pair->v[0], pair->v[1]));
        }
    }
    for (size_t i = 0; i < raw->n_kw; i++)
        JTRY(jdict_set(r, *out, jstrval(raw->kw[i].name), raw->kw[i].value));
    return ERR_OK;
}

JBUILTIN(global_dict)
{
    struct jdict *d;
    JUNUSED_ARGS;
    JTRY(fill(r, raw, &d));
    *out = jdictval(d);
    return ERR_OK;
}

JBUILTIN(global_namespace)
{
    struct jdict *d;
    JUNUSED_ARGS;
    JTRY(fill(r, raw, &d));
    for (size_t i = 0; i < d->n; i++) {
        const struct jval key = d->pair[i].key;
        if (key.kind == J_STR && key.s->len && key.s->text[0] == '_')
            return jfail(r,
                         "Chat templates cannot store underscore-prefixed attributes on a namespace, but got "
                         "'%.*s'. Please rename the attribute.",
                         (int)key.s->len, key.s->text);
    }
    *out = (struct jval){.kind = J_NAMESPACE, .dict = d};
    return ERR_OK;
}

static err new_cycle(struct jrun *r, enum jkind kind, struct jval *out)
{
    struct jcycle *c = jalloc(r, 1, sizeof *c);
    if (!c)
        return jrun_nomem(r);
    *out = (struct jval){.kind = kind, .cycle = c};
    return ERR_OK;
}

JBUILTIN(global_cycler)
{
    JUNUSED_ARGS;
    if (!raw->n)
        return jfail(r, "at least one item has to be provided");
    JTRY(new_cycle(r, J_CYCLER, out));
    JTRY(jseq_open(r, raw->n, &out->cycle->items));
    for (size_t i = 0; i < raw->n; i++)
        JTRY(jseq_push(r, out->cycle->items, raw->pos[i]));
    return ERR_OK;
}

JBUILTIN(global_joiner)
{
    static const struct jstr comma = {.text = ", ", .len = 2};
    const struct jstr *sep = &comma;
    JUNUSED_ARGS;
    if (arg[0].kind != J_ABSENT)
        JTRY(jto_str(r, arg[0], &sep));
    JTRY(new_cycle(r, J_JOINER, out));
    out->cycle->sep = sep;
    return ERR_OK;
}

JBUILTIN(global_raise)
{
    const struct jstr *s;
    JUNUSED_ARGS;
    JTRY(jto_str(r, arg[0], &s));
    return jfail(r, "%.*s", (int)(s->len < 4096 ? s->len : 4096), s->text);
}

/* datetime.now().strftime(): the C library's, but that a Python time without a zone
 * prints nothing for one, and knows microseconds. */
JBUILTIN(global_strftime)
{
    const struct jstr *format;
    struct jout o;
    JUNUSED_ARGS;
    JTRY(jarg_str(r, arg[0], &format));
    jout_init(&o, r);
    for (size_t i = 0; i < format->len; i++) {
        char spec[8] = "%", text[256];
        size_t n = 1;
        if (format->text[i] != '%' || i + 1 >= format->len) {
            jout_put(&o, format->text + i, 1, jstr_user_at(format, i));
            continue;
        }
        while (n < 6 && i + n < format->len) { /* flags and width, then the letter */
            char c = format->text[i + n];
            spec[n++] = c;
            if (!c || !strchr("-_0^#123456789EO", c))
                break;
        }
        i += n - 1;
        char last = spec[n - 1];
        if (last == 'f')
            jout_puts(&o, "000000");
        else if (last == 'Z' || last == 'z')
            continue;
        else if (!last || !strchr("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY%", last) ||
                 strpbrk(spec, "123456789"))
            jout_puts(&o, spec);
        else
            jout_put(&o, text, strftime(text, sizeof text, spec, &r->now), false);
    }
    return jout_take(&o, out);
}

const struct jbuiltin *jbuiltin_global(const struct jstr *name)
{
    static const struct jbuiltin table[] = {
        {"range", global_range, NULL, 0},
        {"dict", global_dict, NULL, 0},
        {"namespace", global_namespace, NULL, 0},
        {"cycler", global_cycler, NULL, 0},
        {"joiner", global_joiner, "sep", 0},
        {"raise_exception", global_raise, "message", 1},
        {"strftime_now", global_strftime, "format", 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (jstr_is(name, table[i].name))
            return &table[i];
    return NULL;
}
