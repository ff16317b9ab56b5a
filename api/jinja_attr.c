/* jinja_attr.c - v.name and v[key].
 *
 * Jinja tries both ways for both forms: a dot looks for an attribute first and then
 * for a key, brackets the other way round. So {"items": 1}.items is the method and
 * {"items": 1}["items"] is 1, and {}["items"] is the method again. What the sandbox
 * forbids (names with underscores, methods that change their object) is there but
 * cannot be used: an Undefined that says so.
 */
#include <inttypes.h>
#include <string.h>

#include "api/jinja_eval.h"

static err miss(struct jrun *r, struct jval v, struct jval key, struct jval *out)
{
    const struct jstr *text;
    struct jout o;
    struct jval shown;
    jout_init(&o, r);
    JTRY(jput_repr(&o, key));
    JTRY(jout_take(&o, &shown));
    text = shown.s;
    if (key.kind == J_STR)
        return jundefined(r, out, "'%s' has no attribute %.*s", jtype_object(v), (int)text->len, text->text);
    return jundefined(r, out, "%s has no element %.*s", jtype_object(v), (int)text->len, text->text);
}

static err unsafe(struct jrun *r, struct jval v, const struct jstr *name, struct jval *out)
{
    return jundefined(r, out, "access to attribute '%.*s' of '%s' object is unsafe.", (int)name->len,
                      name->text, jtype_name(v));
}

static err neighbour(struct jrun *r, const struct jloop *loop, bool next, struct jval *out)
{
    size_t i = next ? loop->i + 1 : loop->i - 1; /* i == 0: wraps far beyond n */
    if (i < loop->items->n) {
        *out = loop->items->v[i];
        return ERR_OK;
    }
    return jundefined(r, out, "there is no %s item", next ? "next" : "previous");
}

static err loop_attr(struct jrun *r, const struct jloop *loop, const struct jstr *name, struct jval *out,
                     bool *found)
{
    int64_t i = (int64_t)loop->i, n = (int64_t)loop->items->n;
    const struct {
        const char *name;
        struct jval value;
    } rows[] = {{"index", jint(i + 1)},
                {"index0", jint(i)},
                {"first", jbool(i == 0)},
                {"last", jbool(i == n - 1)},
                {"length", jint(n)},
                {"revindex", jint(n - i)},
                {"revindex0", jint(n - i - 1)},
                {"depth", jint(loop->depth + 1)},
                {"depth0", jint(loop->depth)}};
    *found = true;
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++)
        if (jstr_is(name, rows[k].name)) {
            *out = rows[k].value;
            return ERR_OK;
        }
    if (jstr_is(name, "previtem") || jstr_is(name, "nextitem"))
        return neighbour(r, loop, jstr_is(name, "nextitem"), out);
    *found = false;
    return ERR_OK;
}

/* What Python's getattr() would find. */
static err own_attr(struct jrun *r, struct jval v, const struct jstr *name, struct jval *out, bool *found)
{
    *found = true;
    if (v.kind == J_LOOP) {
        JTRY(loop_attr(r, v.loop, name, out, found));
        if (*found)
            return ERR_OK;
        *found = true;
    }
    if (v.kind == J_NAMESPACE) {
        struct jval *hit = jdict_find(r, v.dict, name->text, name->len);
        if (hit) {
            *out = *hit;
            return ERR_OK;
        }
    }
    if (v.kind == J_MACRO && jstr_is(name, "name")) {
        *out = jstrval(v.macro->def->name);
        return ERR_OK;
    }
    if (v.kind == J_CYCLER && jstr_is(name, "current") && v.cycle->items->n) {
        *out = v.cycle->items->v[v.cycle->pos];
        return ERR_OK;
    }
    const struct jbuiltin *method = jbuiltin_method(v, name);
    if (method) {
        struct jfunc *fn = jalloc(r, 1, sizeof *fn);
        if (!fn)
            return jrun_nomem(r);
        *fn = (struct jfunc){method, v};
        *out = (struct jval){.kind = J_FUNC, .fn = fn};
        return ERR_OK;
    }
    bool dunder =
        name->len > 4 && !memcmp(name->text, "__", 2) && !memcmp(name->text + name->len - 2, "__", 2);
    if (dunder || jbuiltin_is_mutator(v, name))
        return unsafe(r, v, name, out);
    *found = false;
    return ERR_OK;
}

static bool hashable(struct jval key)
{
    return key.kind == J_STR || jis_number(key) || key.kind == J_NONE || key.kind == J_TUPLE;
}

static err own_item(struct jrun *r, struct jval v, struct jval key, struct jval *out, bool *found)
{
    *found = false;
    if (v.kind == J_DICT && hashable(key)) {
        struct jval *hit;
        JTRY(jdict_get(r, v.dict, key, &hit));
        if (hit)
            *out = *hit;
        *found = hit != NULL;
        return ERR_OK;
    }
    if (!jis_integral(key))
        return ERR_OK;
    int64_t i = jto_int(key);
    if (v.kind == J_STR) {
        size_t n = v.s->len, at;
        uint32_t cp;
        JTRY(jstep(r, n / 16));
        if (i < 0) {
            int64_t chars = (int64_t)jstr_chars(v.s);
            if (i < -chars)
                return ERR_OK;
            i += chars;
        }
        at = (uint64_t)i < n ? jstr_byte_of(v.s, (size_t)i) : n;
        *found = at < n;
        return *found ? jstr_slice(r, v.s, at, at + jstr_char(v.s, at, &cp), out) : ERR_OK;
    }
    if (v.kind != J_LIST && v.kind != J_TUPLE && v.kind != J_RANGE)
        return ERR_OK;
    if (i < 0 && i >= -(int64_t)v.seq->n)
        i += (int64_t)v.seq->n;
    *found = i >= 0 && (uint64_t)i < v.seq->n;
    if (*found)
        *out = v.seq->v[i];
    return ERR_OK;
}

err jget_attr(struct jrun *r, struct jval v, const struct jstr *name, struct jval *out)
{
    bool found;
    if (v.kind == J_UNDEFINED)
        return jfail(r, "%s", v.undef->text);
    JTRY(own_attr(r, v, name, out, &found));
    if (!found)
        JTRY(own_item(r, v, jstrval(name), out, &found));
    return found ? ERR_OK : miss(r, v, jstrval(name), out);
}

err jget_item(struct jrun *r, struct jval v, struct jval key, struct jval *out)
{
    bool found;
    if (v.kind == J_UNDEFINED)
        return jfail(r, "%s", v.undef->text);
    JTRY(own_item(r, v, key, out, &found));
    if (!found && key.kind == J_STR)
        JTRY(own_attr(r, v, key.s, out, &found));
    return found ? ERR_OK : miss(r, v, key, out);
}

static bool all_digits(const struct jstr *s, int64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s->len; i++) {
        if (!jchar_digit((unsigned char)s->text[i]) || i > 9)
            return false;
        *out = *out * 10 + (s->text[i] - '0');
    }
    return s->len > 0;
}

err jattr_path(struct jrun *r, struct jval v, struct jval path, struct jval fallback, struct jval *out)
{
    static const struct jstr dot = {.text = ".", .len = 1};
    if (path.kind != J_STR)
        return jget_item(r, v, path, out);
    for (size_t at = 0; at <= path.s->len;) {
        size_t end = jstr_find(path.s, &dot, at);
        struct jval part;
        int64_t index;
        if (end == SIZE_MAX)
            end = path.s->len;
        JTRY(jstr_slice(r, path.s, at, end, &part));
        if (all_digits(part.s, &index))
            part = jint(index);
        JTRY(jget_item(r, v, part, &v));
        if (v.kind == J_UNDEFINED && fallback.kind != J_ABSENT)
            v = fallback;
        at = end + 1;
    }
    *out = v;
    return ERR_OK;
}
