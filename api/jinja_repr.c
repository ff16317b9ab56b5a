/* jinja_repr.c - str() and repr(): how Python writes its values. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/jinja_str.h"

/* The shortest digits that read back as the same number; exponents as Python
 * writes them: from 1e16 up and below 1e-4. */
void jfloat_repr(double f, char text[32])
{
    char digits[31];
    int precision = 0;
    if (isnan(f) || isinf(f)) {
        snprintf(text, 32, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    do
        snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= 16 || exponent < -4) { /* C writes these as Python does */
        snprintf(text, 32, "%s", digits);
        return;
    }
    int decimals = precision - exponent;
    snprintf(text, 32, "%.*f", decimals > 1 ? decimals : 1, f);
}

static void put_str_repr(struct jout *o, const struct jstr *s)
{
    bool single = s->len && memchr(s->text, '\'', s->len);
    char quote = single && !memchr(s->text, '"', s->len) ? '"' : '\'';
    uint32_t cp;
    jout_put(o, &quote, 1, false);
    for (size_t at = 0, n; at < s->len; at += n) {
        bool user = jstr_user_at(s, at);
        char c = s->text[at], escape[12];
        n = jstr_char(s, at, &cp);
        if (c == quote || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (jchar_printable(cp)) {
            jout_put(o, s->text + at, n, user);
            continue;
        } else
            snprintf(escape, sizeof escape,
                     cp < 0x100     ? "\\x%02x"
                     : cp < 0x10000 ? "\\u%04x"
                                    : "\\U%08x",
                     cp);
        jout_put(o, escape, strlen(escape), user);
    }
    jout_put(o, &quote, 1, false);
}

static err put_items(struct jout *o, const char *open, const struct jseq *s, const char *close)
{
    jout_puts(o, open);
    for (size_t i = 0; i < s->n; i++) {
        if (i)
            jout_puts(o, ", ");
        JTRY(jput_repr(o, s->v[i]));
    }
    jout_puts(o, close);
    return ERR_OK;
}

static err put_pairs(struct jout *o, const struct jdict *d)
{
    jout_puts(o, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i)
            jout_puts(o, ", ");
        JTRY(jput_repr(o, d->pair[i].key));
        jout_puts(o, ": ");
        JTRY(jput_repr(o, d->pair[i].value));
    }
    jout_puts(o, "}");
    return ERR_OK;
}

static err put_scalar(struct jout *o, struct jval v)
{
    char text[32];
    switch (v.kind) {
    case J_ABSENT:
    case J_UNDEFINED:
        break;
    case J_NONE:
        jout_puts(o, "None");
        break;
    case J_BOOL:
        jout_puts(o, v.b ? "True" : "False");
        break;
    case J_INT:
        jout_printf(o, "%" PRId64, v.i);
        break;
    case J_FLOAT:
        jfloat_repr(v.f, text);
        jout_puts(o, text);
        break;
    default: /* no template prints these on purpose */
        jout_printf(o, "<%s object>", jtype_name(v));
    }
    return ERR_OK;
}

static err put_compound(struct jout *o, struct jval v)
{
    switch (v.kind) {
    case J_LIST:
        return put_items(o, "[", v.seq, "]");
    case J_TUPLE:
        return put_items(o, "(", v.seq, v.seq->n == 1 ? ",)" : ")");
    case J_KEYS:
        return put_items(o, "dict_keys([", v.seq, "])");
    case J_VALUES:
        return put_items(o, "dict_values([", v.seq, "])");
    case J_ITEMS:
        return put_items(o, "dict_items([", v.seq, "])");
    case J_RANGE:
        jout_printf(o, "range(%" PRId64 ", %" PRId64, v.seq->range[0], v.seq->range[1]);
        if (v.seq->range[2] != 1)
            jout_printf(o, ", %" PRId64, v.seq->range[2]);
        jout_puts(o, ")");
        return ERR_OK;
    case J_DICT:
        return put_pairs(o, v.dict);
    case J_NAMESPACE:
        jout_puts(o, "<Namespace ");
        JTRY(put_pairs(o, v.dict));
        jout_puts(o, ">");
        return ERR_OK;
    default:
        return put_scalar(o, v);
    }
}

err jput_repr(struct jout *o, struct jval v)
{
    JTRY(jout_check(o)); /* once an element: a failed output ends the walk */
    if (v.kind == J_STR) {
        if (v.s->markup)
            jout_puts(o, "Markup(");
        put_str_repr(o, v.s);
        if (v.s->markup)
            jout_puts(o, ")");
        return ERR_OK;
    }
    if (v.kind == J_UNDEFINED) {
        jout_puts(o, "Undefined");
        return ERR_OK;
    }
    JTRY(jstep(o->r, 1));
    JTRY(jenter(o->r));
    err e = put_compound(o, v);
    jleave(o->r);
    return e;
}

err jput_str(struct jout *o, struct jval v)
{
    if (v.kind == J_STR) {
        jout_str(o, v.s);
        return ERR_OK;
    }
    return v.kind == J_UNDEFINED ? ERR_OK : jput_repr(o, v);
}

err jto_str(struct jrun *r, struct jval v, const struct jstr **out)
{
    struct jval text = v;
    if (v.kind != J_STR) {
        struct jout o;
        jout_init(&o, r);
        JTRY(jput_str(&o, v));
        JTRY(jout_take(&o, &text));
    }
    *out = text.s;
    return ERR_OK;
}
