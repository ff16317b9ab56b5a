#include "api/jinja_json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/jinja_pick.h"
#include "api/jinja_str.h"

/* ---- in ------------------------------------------------------------------------ */

static err get_string(struct jrun *r, const char *text, size_t len, bool user, struct jval *out)
{
    struct jstr *s = jalloc(r, 1, sizeof *s);
    if (!s)
        return jrun_nomem(r);
    *s = (struct jstr){.text = text, .len = len, .user = user};
    *out = jstrval(s);
    return ERR_OK;
}

static err get_array(struct jrun *r, const json_t *j, bool user, struct jval *out)
{
    struct jseq *s;
    JTRY(jseq_open(r, json_array_size(j), &s));
    for (size_t i = 0; i < json_array_size(j); i++) {
        struct jval v;
        JTRY(jjson_get(r, json_array_get(j, i), user, &v));
        JTRY(jseq_push(r, s, v));
    }
    *out = jseqval(J_LIST, s);
    return ERR_OK;
}

static err get_object(struct jrun *r, const json_t *j, bool user, struct jval *out)
{
    struct jdict *d;
    json_t *object = (json_t *)j; /* the iterators of jansson do not know const */
    JTRY(jdict_open(r, json_object_size(j), &d));
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        struct jval key, value;
        JTRY(get_string(r, json_object_iter_key(it), strlen(json_object_iter_key(it)), user, &key));
        JTRY(jjson_get(r, json_object_iter_value(it), user, &value));
        JTRY(jdict_set(r, d, key, value));
    }
    *out = jdictval(d);
    return ERR_OK;
}

err jjson_get(struct jrun *r, const json_t *j, bool user, struct jval *out)
{
    err e = ERR_OK;
    JTRY(jstep(r, 1));
    JTRY(jenter(r));
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        e = get_object(r, j, user, out);
        break;
    case JSON_ARRAY:
        e = get_array(r, j, user, out);
        break;
    case JSON_STRING:
        e = get_string(r, json_string_value(j), json_string_length(j), user, out);
        break;
    case JSON_INTEGER:
        *out = jint(json_integer_value(j));
        break;
    case JSON_REAL:
        *out = jfloat(json_real_value(j));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = jbool(json_is_true(j));
        break;
    default:
        *out = jnone();
    }
    jleave(r);
    return e;
}

/* ---- out ------------------------------------------------------------------------- */

struct dump {
    struct jout o;
    const struct jjson_style *style;
    const struct jstr *indent; /* NULL: one line */
};

static err put_value(struct dump *d, struct jval v, size_t level);

static void put_string(struct dump *d, const struct jstr *s)
{
    static const char plain[] = "\"\"\\\\\nn\rr\tt\ff\bb";
    uint32_t cp;
    jout_puts(&d->o, "\"");
    for (size_t at = 0, n; at < s->len; at += n) {
        bool user = jstr_user_at(s, at);
        char escape[16] = "";
        n = jstr_char(s, at, &cp);
        for (size_t i = 0; i + 1 < sizeof plain; i += 2)
            if (cp == (unsigned char)plain[i])
                snprintf(escape, sizeof escape, "\\%c", plain[i + 1]);
        if (!escape[0] && (cp < 0x20 || (d->style->ascii && cp > 0x7e && cp < 0x10000)))
            snprintf(escape, sizeof escape, "\\u%04x", cp);
        else if (d->style->ascii && cp >= 0x10000)
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd7c0 + (cp >> 10), 0xdc00 + (cp & 0x3ff));
        jout_put(&d->o, escape[0] ? escape : s->text + at, escape[0] ? strlen(escape) : n, user);
    }
    jout_puts(&d->o, "\"");
}

static void new_line(struct dump *d, size_t level)
{
    if (!d->indent)
        return;
    jout_puts(&d->o, "\n");
    while (level-- > 0 && !d->o.failed)
        jout_str(&d->o, d->indent);
}

static err put_array(struct dump *d, const struct jseq *s, size_t level)
{
    jout_puts(&d->o, "[");
    for (size_t i = 0; i < s->n; i++) {
        if (i)
            jout_str(&d->o, d->style->item);
        new_line(d, level + 1);
        JTRY(put_value(d, s->v[i], level + 1));
    }
    if (s->n)
        new_line(d, level);
    jout_puts(&d->o, "]");
    return ERR_OK;
}

static err put_scalar(struct dump *d, struct jval v)
{
    char text[32];
    switch (v.kind) {
    case J_STR:
        put_string(d, v.s);
        return ERR_OK;
    case J_NONE:
        jout_puts(&d->o, "null");
        return ERR_OK;
    case J_BOOL:
        jout_puts(&d->o, v.b ? "true" : "false");
        return ERR_OK;
    case J_INT:
        return jput_str(&d->o, v);
    case J_FLOAT:
        jfloat_repr(v.f, text);
        jout_puts(&d->o, isnan(v.f) ? "NaN" : isinf(v.f) ? (v.f < 0 ? "-Infinity" : "Infinity") : text);
        return ERR_OK;
    default:
        return jfail(d->o.r, "Object of type %s is not JSON serializable", jtype_name(v));
    }
}

static err put_key(struct dump *d, struct jval key)
{
    if (key.kind == J_STR)
        return put_scalar(d, key);
    if (key.kind != J_NONE && !jis_number(key))
        return jfail(d->o.r, "keys must be str, int, float, bool or None, not %s", jtype_name(key));
    jout_puts(&d->o, "\"");
    JTRY(put_scalar(d, key));
    jout_puts(&d->o, "\"");
    return ERR_OK;
}

static err put_object(struct dump *d, const struct jdict *dict, size_t level)
{
    struct jseq *keys;
    JTRY(jseq_open(d->o.r, dict->n, &keys));
    for (size_t i = 0; i < dict->n; i++)
        JTRY(jseq_push(d->o.r, keys, dict->pair[i].key));
    if (d->style->sort_keys)
        JTRY(jsort(d->o.r, keys->v, keys->v, keys->n, false));
    jout_puts(&d->o, "{");
    for (size_t i = 0; i < keys->n; i++) {
        struct jval *value;
        if (i)
            jout_str(&d->o, d->style->item);
        new_line(d, level + 1);
        JTRY(put_key(d, keys->v[i]));
        jout_str(&d->o, d->style->key);
        JTRY(jdict_get(d->o.r, dict, keys->v[i], &value));
        JTRY(value ? put_value(d, *value, level + 1) : jrun_nomem(d->o.r));
    }
    if (keys->n)
        new_line(d, level);
    jout_puts(&d->o, "}");
    return ERR_OK;
}

static err put_value(struct dump *d, struct jval v, size_t level)
{
    JTRY(jout_check(&d->o));
    if (v.kind != J_LIST && v.kind != J_TUPLE && v.kind != J_DICT)
        return put_scalar(d, v);
    JTRY(jstep(d->o.r, 1));
    JTRY(jenter(d->o.r));
    err e = v.kind == J_DICT ? put_object(d, v.dict, level) : put_array(d, v.seq, level);
    jleave(d->o.r);
    return e;
}

static err indent_text(struct jrun *r, struct jval indent, const struct jstr **out)
{
    struct jval s;
    struct jout o;
    *out = NULL;
    if (indent.kind == J_NONE || indent.kind == J_ABSENT)
        return ERR_OK;
    if (indent.kind == J_STR) {
        *out = indent.s;
        return ERR_OK;
    }
    if (!jis_integral(indent))
        return jfail(r, "can't multiply sequence by non-int of type '%s'", jtype_name(indent));
    jout_init(&o, r);
    for (int64_t i = 0; i < jto_int(indent) && !o.failed; i++)
        jout_puts(&o, " ");
    JTRY(jout_take(&o, &s));
    *out = s.s;
    return ERR_OK;
}

err jjson_put(struct jrun *r, struct jval v, const struct jjson_style *style, struct jval *out)
{
    struct dump d = {.style = style};
    jout_init(&d.o, r);
    JTRY(indent_text(r, style->indent, &d.indent));
    JTRY(put_value(&d, v, 0));
    return jout_take(&d.o, out);
}
