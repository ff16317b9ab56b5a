/* jinja_format.c - "..." % args and "...".format(args). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/jinja_eval.h"

/* What both languages say about one value. */
struct spec {
    char align; /* < > ^ = or 0 */
    uint32_t fill;
    char sign; /* + blank or 0 */
    bool alt, zero, comma;
    int width, precision; /* precision < 0: not given */
    char type;            /* 0: none */
};

enum { WIDTH_MAX = 4096, DIGITS_MAX = 100 };

static err put_padded(struct jout *o, const struct spec *f, const struct jstr *s, char align)
{
    size_t chars = jstr_chars(s), gap = (size_t)f->width > chars ? (size_t)f->width - chars : 0;
    size_t left = align == '>' ? gap : align == '^' ? gap / 2 : 0;
    for (size_t i = 0; i < left; i++)
        jout_char(o, f->fill, false);
    jout_str(o, s);
    for (size_t i = left; i < gap; i++)
        jout_char(o, f->fill, false);
    return jout_check(o);
}

static err put_text(struct jout *o, const struct spec *f, const struct jstr *s)
{
    struct jval cut = jstrval(s);
    if (f->precision >= 0)
        JTRY(jstr_slice(o->r, s, 0, jstr_byte_of(s, (size_t)f->precision), &cut));
    return put_padded(o, f, cut.s, f->align ? f->align : '<');
}

/* Thousands get commas up to the first character that is no digit. */
static void put_commas(struct jout *o, const char *digits)
{
    size_t n = strspn(digits, "0123456789");
    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0)
            jout_puts(o, ",");
        jout_put(o, digits + i, 1, false);
    }
    jout_puts(o, digits + n);
}

static err put_number(struct jout *o, const struct spec *f, bool negative, const char *prefix,
                      const char *digits)
{
    struct jout body;
    struct jval head, text;
    char sign[4] = {negative ? '-' : f->sign, 0};
    jout_init(&body, o->r);
    jout_puts(&body, sign);
    jout_puts(&body, prefix);
    JTRY(jout_take(&body, &head));
    jout_init(&body, o->r);
    if (f->comma)
        put_commas(&body, digits);
    else
        jout_puts(&body, digits);
    JTRY(jout_take(&body, &text));
    if ((f->zero && !f->align) || f->align == '=') { /* zeros go between the sign and the digits */
        size_t len = head.s->len + text.s->len;
        jout_str(o, head.s);
        for (; len < (size_t)f->width; len++)
            jout_char(o, f->zero ? '0' : f->fill, false);
        jout_str(o, text.s);
        return jout_check(o);
    }
    JTRY(jstr_concat(o->r, head.s, text.s, &text));
    return put_padded(o, f, text.s, f->align ? f->align : '>');
}

static err put_int(struct jout *o, const struct spec *f, int64_t i)
{
    char digits[80];
    const char *prefix = "";
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    size_t n = sizeof digits - 1;
    unsigned base = f->type == 'x' || f->type == 'X' ? 16 : f->type == 'o' ? 8 : f->type == 'b' ? 2 : 10;
    digits[n] = 0;
    do
        digits[--n] = (f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
    while ((u /= base) && n > 0);
    if (f->alt)
        prefix = f->type == 'x'   ? "0x"
                 : f->type == 'X' ? "0X"
                 : f->type == 'o' ? "0o"
                 : f->type == 'b' ? "0b"
                                  : "";
    return put_number(o, f, i < 0, prefix, digits + n);
}

static err put_float(struct jout *o, const struct spec *f, double x)
{
    char digits[512], form[16];
    bool negative = x < 0 || (x == 0 && 1 / x < 0);
    if (negative)
        x = -x;
    if (f->type == 0 && f->precision < 0) {
        jfloat_repr(x, digits);
        return put_number(o, f, negative, "", digits);
    }
    char type = f->type == '%' || f->type == 0 ? (f->type ? 'f' : 'g') : f->type;
    snprintf(form, sizeof form, "%%%s.*%c", f->alt ? "#" : "", type);
    snprintf(digits, sizeof digits - 1, form, f->precision < 0 ? 6 : f->precision,
             f->type == '%' ? x * 100 : x);
    if (f->type == '%')
        strcat(digits, "%");
    return put_number(o, f, negative, "", digits);
}

static bool int_type(char c)
{
    return c && strchr("dioxXbu", c);
}

static bool float_type(char c)
{
    return c && strchr("eEfFgG%", c);
}

/* ---- % ------------------------------------------------------------------------------- */

struct percent {
    struct jrun *r;
    const struct jstr *s;
    size_t at;
    struct jval args;
    size_t used;
};

static err next_arg(struct percent *p, struct jval *out)
{
    bool tuple = p->args.kind == J_TUPLE;
    if (p->used >= (tuple ? p->args.seq->n : 1))
        return jfail(p->r, "not enough arguments for format string");
    *out = tuple ? p->args.seq->v[p->used] : p->args;
    p->used++;
    return ERR_OK;
}

static bool percent_char(const struct percent *p, char *c)
{
    *c = p->at < p->s->len ? p->s->text[p->at] : 0;
    return p->at < p->s->len;
}

static err percent_number(struct percent *p, int *out)
{
    char c;
    struct jval v;
    if (percent_char(p, &c) && c == '*') {
        p->at++;
        JTRY(next_arg(p, &v));
        if (!jis_integral(v) || jto_int(v) < 0 || jto_int(v) > WIDTH_MAX)
            return jfail(p->r, "* wants int");
        *out = (int)jto_int(v);
        return ERR_OK;
    }
    for (*out = 0; percent_char(p, &c) && c >= '0' && c <= '9' && *out <= WIDTH_MAX; p->at++)
        *out = *out * 10 + (c - '0');
    return *out <= WIDTH_MAX ? ERR_OK : jfail(p->r, "width too big");
}

static err percent_spec(struct percent *p, struct spec *f)
{
    char c;
    *f = (struct spec){.fill = ' ', .precision = -1};
    for (; percent_char(p, &c) && c && strchr("-+ #0", c); p->at++) {
        f->align = c == '-' ? '<' : f->align;
        f->sign = c == '+' || (c == ' ' && !f->sign) ? c : f->sign;
        f->alt |= c == '#';
        f->zero |= c == '0';
    }
    JTRY(percent_number(p, &f->width));
    if (percent_char(p, &c) && c == '.') {
        p->at++;
        JTRY(percent_number(p, &f->precision));
        if (f->precision > DIGITS_MAX)
            return jfail(p->r, "precision too big");
    }
    while (percent_char(p, &c) && c && strchr("hlL", c))
        p->at++;
    if (!percent_char(p, &f->type) || !f->type)
        return jfail(p->r, "incomplete format");
    p->at++;
    return ERR_OK;
}

static err percent_value(struct percent *p, struct spec *f, struct jval v, struct jout *o)
{
    const struct jstr *s;
    struct jout text;
    if (f->type == 's' || f->type == 'r' || f->type == 'a') {
        if (f->type == 's') {
            JTRY(jto_str(p->r, v, &s));
        } else {
            struct jval shown;
            jout_init(&text, p->r);
            JTRY(jput_repr(&text, v));
            JTRY(jout_take(&text, &shown));
            s = shown.s;
        }
        f->align = f->align ? f->align : '>';
        return put_text(o, f, s);
    }
    if (f->type == 'c' && v.kind == J_STR && jstr_chars(v.s) == 1)
        return put_padded(o, f, v.s, f->align ? f->align : '>');
    if (v.kind == J_UNDEFINED)
        return jfail(p->r, "%s", v.undef->text);
    if (!jis_number(v))
        return jfail(p->r, "%%%c format: a real number is required, not %s", f->type, jtype_name(v));
    if (float_type(f->type) && f->type != '%')
        return put_float(o, f, jto_float(v));
    if (!int_type(f->type))
        return jfail(p->r, "unsupported format character '%c'", f->type);
    if (v.kind == J_FLOAT && !(v.f > -9.2e18 && v.f < 9.2e18))
        return jfail(p->r, "an integer beyond 64 bits");
    return put_int(o, f, v.kind == J_FLOAT ? (int64_t)v.f : jto_int(v));
}

/* %(name)s */
static err percent_key(struct percent *p, struct jval *out, bool *named)
{
    static const struct jstr close = {.text = ")", .len = 1};
    char c;
    *named = percent_char(p, &c) && c == '(';
    if (!*named)
        return ERR_OK;
    size_t end = jstr_find(p->s, &close, p->at);
    if (p->args.kind != J_DICT)
        return jfail(p->r, "format requires a mapping");
    if (end == SIZE_MAX)
        return jfail(p->r, "incomplete format key");
    struct jval *hit = jdict_find(p->r, p->args.dict, p->s->text + p->at + 1, end - p->at - 1);
    if (!hit)
        return jfail(p->r, "'%.*s'", (int)(end - p->at - 1), p->s->text + p->at + 1);
    *out = *hit;
    p->at = end + 1;
    return ERR_OK;
}

err jformat_percent(struct jrun *r, const struct jstr *s, struct jval args, struct jval *out)
{
    struct percent p = {.r = r, .s = s, .args = args};
    struct jout o;
    bool any_named = false;
    jout_init(&o, r);
    while (p.at < s->len) {
        if (s->text[p.at] != '%') {
            jout_put(&o, s->text + p.at, 1, jstr_user_at(s, p.at));
            p.at++;
            continue;
        }
        struct spec f;
        struct jval v = jnone();
        bool named;
        p.at++;
        JTRY(jstep(r, 1));
        JTRY(percent_key(&p, &v, &named));
        any_named |= named;
        JTRY(percent_spec(&p, &f));
        if (f.type == '%') {
            jout_puts(&o, "%");
            continue;
        }
        if (!named)
            JTRY(next_arg(&p, &v));
        JTRY(percent_value(&p, &f, v, &o));
    }
    bool subscripts =
        args.kind == J_DICT || args.kind == J_LIST || args.kind == J_RANGE || args.kind == J_UNDEFINED;
    if (!any_named && !subscripts && p.used < (args.kind == J_TUPLE ? args.seq->n : 1))
        return jfail(r, "not all arguments converted during string formatting");
    JTRY(jout_take(&o, out));
    return s->markup ? jstr_as_markup(r, out->s, true, out) : ERR_OK;
}

/* ---- {} -------------------------------------------------------------------------------- */

/* A field may name its value and then walk into it: {0}, {name}, {0.a[b]}. */
static err brace_value(struct jrun *r, const struct jstr *field, const struct jargs *args, size_t *next,
                       struct jval *out)
{
    size_t end = 0;
    int64_t index = 0;
    bool digits = true;
    for (; end < field->len && field->text[end] != '.' && field->text[end] != '['; end++) {
        char c = field->text[end];
        digits &= c >= '0' && c <= '9' && end < 6;
        index = digits ? index * 10 + (c - '0') : 0;
    }
    if (digits) {
        size_t i = end ? (size_t)index : (*next)++;
        if (i >= args->n)
            return jfail(r, "Replacement index %zu out of range for positional args tuple", i);
        *out = args->pos[i];
    } else {
        struct jstr name = {.text = field->text, .len = end};
        size_t i = 0;
        while (i < args->n_kw && !jstr_equal(args->kw[i].name, &name))
            i++;
        if (i == args->n_kw)
            return jfail(r, "'%.*s'", (int)end, field->text);
        *out = args->kw[i].value;
    }
    while (end < field->len) {
        bool item = field->text[end] == '[';
        size_t start = ++end;
        while (end < field->len && !strchr(item ? "]" : ".[", field->text[end]))
            end++;
        struct jval part;
        JTRY(jstr_slice(r, field, start, end, &part));
        JTRY(item ? jattr_path(r, *out, part, (struct jval){0}, out) : jget_attr(r, *out, part.s, out));
        end += item;
    }
    return ERR_OK;
}

static err brace_spec(struct jrun *r, const struct jstr *s, struct spec *f)
{
    size_t at = 0, n;
    uint32_t cp = 0;
    *f = (struct spec){.fill = ' ', .precision = -1};
    n = s->len ? jstr_char(s, 0, &cp) : 0;
    if (n && n < s->len && s->text[n] && strchr("<>^=", s->text[n])) {
        f->fill = cp;
        f->align = s->text[n];
        at = n + 1;
    } else if (s->len && s->text[0] && strchr("<>^=", s->text[0])) {
        f->align = s->text[at++];
    }
    for (; at < s->len && s->text[at] && strchr("+- ", s->text[at]); at++)
        f->sign = s->text[at] == '-' ? 0 : s->text[at];
    for (; at < s->len && (s->text[at] == '#' || s->text[at] == '0'); at++) {
        f->alt |= s->text[at] == '#';
        f->zero |= s->text[at] == '0';
    }
    for (; at < s->len && jchar_digit((unsigned char)s->text[at]) && f->width <= WIDTH_MAX; at++)
        f->width = f->width * 10 + (s->text[at] - '0');
    if (at < s->len && s->text[at] == ',') {
        f->comma = true;
        at++;
    }
    if (at < s->len && s->text[at] == '.')
        for (at++, f->precision = 0;
             at < s->len && jchar_digit((unsigned char)s->text[at]) && f->precision <= DIGITS_MAX; at++)
            f->precision = f->precision * 10 + (s->text[at] - '0');
    if (at < s->len)
        f->type = s->text[at++];
    if (at < s->len || f->width > WIDTH_MAX || f->precision > DIGITS_MAX)
        return jfail(r, "Invalid format specifier");
    return ERR_OK;
}

static err brace_put(struct jrun *r, struct jval v, char conversion, const struct spec *f, struct jout *o)
{
    const struct jstr *s;
    if (conversion == 'r') {
        struct jout text;
        jout_init(&text, r);
        JTRY(jput_repr(&text, v));
        JTRY(jout_take(&text, &v));
    } else if (conversion == 's') {
        JTRY(jto_str(r, v, &s));
        v = jstrval(s);
    } else if (conversion) {
        return jfail(r, "Unknown conversion specifier '%c'", conversion);
    }
    if (jis_number(v) && (v.kind != J_BOOL || f->type)) {
        if (v.kind == J_FLOAT ? !f->type || float_type(f->type) : float_type(f->type))
            return put_float(o, f, jto_float(v));
        if (v.kind != J_FLOAT && (!f->type || int_type(f->type)))
            return put_int(o, f, jto_int(v));
    } else if (!f->type || (f->type == 's' && v.kind == J_STR)) {
        JTRY(jto_str(r, v, &s));
        return put_text(o, f, s);
    }
    return jfail(r, "Unknown format code '%c' for object of type '%s'", f->type, jtype_name(v));
}

/* One replacement field: name!conversion:spec. */
static err brace_field(struct jrun *r, const struct jstr *field, const struct jargs *args, size_t *next,
                       struct jout *o)
{
    size_t colon = 0, bang;
    struct jval name, spec_text, v;
    struct spec f;
    while (colon < field->len && field->text[colon] != ':')
        colon++;
    bang = colon >= 2 && field->text[colon - 2] == '!' ? colon - 2 : colon;
    JTRY(jstr_slice(r, field, 0, bang, &name));
    JTRY(jstr_slice(r, field, colon < field->len ? colon + 1 : colon, field->len, &spec_text));
    JTRY(brace_value(r, name.s, args, next, &v));
    JTRY(brace_spec(r, spec_text.s, &f));
    return brace_put(r, v, bang < colon ? field->text[colon - 1] : 0, &f, o);
}

err jformat_braces(struct jrun *r, const struct jstr *s, const struct jargs *args, struct jval *out)
{
    struct jout o;
    size_t next = 0;
    jout_init(&o, r);
    for (size_t at = 0; at < s->len; at++) {
        char c = s->text[at];
        bool twice = at + 1 < s->len && s->text[at + 1] == c;
        if ((c != '{' && c != '}') || twice) {
            jout_put(&o, &c, 1, jstr_user_at(s, at));
            at += c == '{' || c == '}';
            continue;
        }
        size_t end = at + 1;
        while (end < s->len && s->text[end] != '}' && s->text[end] != '{')
            end++;
        if (c == '}' || end >= s->len || s->text[end] == '{')
            return jfail(r, "Single '%c' encountered in format string", c);
        struct jval field;
        JTRY(jstep(r, 1));
        JTRY(jstr_slice(r, s, at + 1, end, &field));
        JTRY(brace_field(r, field.s, args, &next, &o));
        at = end;
    }
    JTRY(jout_take(&o, out));
    return s->markup ? jstr_as_markup(r, out->s, true, out) : ERR_OK;
}
