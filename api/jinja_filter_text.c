/* jinja_filter_text.c - filters that make strings. */
#include <string.h>

#include "api/jinja_eval.h"
#include "api/jinja_json.h"

/* soft_str(): what is a string stays as it is, Markup included. */
static err text_of(struct jrun *r, struct jval v, const struct jstr **out)
{
    return jto_str(r, v, out);
}

static err cased(struct jrun *r, struct jval self, enum jcase how, struct jval *out)
{
    const struct jstr *s;
    JTRY(text_of(r, self, &s));
    return jstr_case(r, s, how, out);
}

JBUILTIN(filter_upper)
{
    JUNUSED_ARGS;
    return cased(r, self, JCASE_UPPER, out);
}

JBUILTIN(filter_lower)
{
    JUNUSED_ARGS;
    return cased(r, self, JCASE_LOWER, out);
}

JBUILTIN(filter_capitalize)
{
    JUNUSED_ARGS;
    return cased(r, self, JCASE_CAPITAL, out);
}

static bool begins_word(uint32_t cp)
{
    return jchar_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp));
}

/* Not str.title(): a word starts after blanks, hyphens and opening brackets only. */
JBUILTIN(filter_title)
{
    const struct jstr *s;
    struct jout o;
    uint32_t cp;
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    jout_init(&o, r);
    for (size_t at = 0, end; at < s->len; at = end) {
        struct jval part;
        bool gap = (jstr_char(s, at, &cp), begins_word(cp));
        for (end = at; end < s->len; end += jstr_char(s, end, &cp))
            if ((jstr_char(s, end, &cp), begins_word(cp)) != gap)
                break;
        JTRY(jstr_slice(r, s, at, end, &part));
        JTRY(jstr_case(r, part.s, JCASE_CAPITAL, &part));
        jout_str(&o, part.s);
    }
    return jout_take(&o, out);
}

JBUILTIN(filter_trim)
{
    const struct jstr *s, *set = NULL;
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    if (arg[0].kind != J_ABSENT && arg[0].kind != J_NONE)
        JTRY(jarg_str(r, arg[0], &set));
    return jstr_strip(r, s, set, JSTRIP_LEFT | JSTRIP_RIGHT, out);
}

JBUILTIN(filter_string)
{
    const struct jstr *s;
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    *out = jstrval(s);
    return ERR_OK;
}

JBUILTIN(filter_safe)
{
    const struct jstr *s;
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    return jstr_as_markup(r, s, true, out);
}

JBUILTIN(filter_escape)
{
    const struct jstr *s;
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    if (!s->markup)
        return jstr_escape(r, s, out);
    *out = jstrval(s);
    return ERR_OK;
}

JBUILTIN(filter_forceescape)
{
    const struct jstr *s;
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    return jstr_escape(r, s, out);
}

/* Through the method: it is the same function. */
JBUILTIN(filter_replace)
{
    static const struct jstr name = {.text = "replace", .len = 7};
    const struct jstr *s, *old, *new;
    struct jval plain, given[3];
    struct jargs args = {.pos = given, .n = 2};
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    JTRY(jstr_as_markup(r, s, false, &plain));
    JTRY(text_of(r, arg[0], &old));
    JTRY(text_of(r, arg[1], &new));
    given[0] = jstrval(old);
    given[1] = jstrval(new);
    if (arg[2].kind != J_ABSENT && arg[2].kind != J_NONE)
        given[args.n++] = arg[2];
    return jbuiltin_call(r, jbuiltin_method(plain, &name), plain, &args, out);
}

/* ---- indent ---------------------------------------------------------------------- */

/* The end of the line that starts at `at`; *next: where the next one starts. */
static size_t line_end(const struct jstr *s, size_t at, size_t *next)
{
    uint32_t cp = 0;
    size_t n = 0;
    for (; at < s->len; at += n) {
        n = jstr_char(s, at, &cp);
        if (jchar_line_break(cp))
            break;
    }
    *next = at < s->len ? at + n : s->len;
    if (at < s->len && cp == '\r' && *next < s->len && s->text[*next] == '\n')
        ++*next;
    return at;
}

static err indention(struct jrun *r, struct jval width, const struct jstr **out)
{
    struct jout o;
    struct jval s;
    int64_t n;
    if (width.kind == J_STR) {
        *out = width.s;
        return ERR_OK;
    }
    JTRY(jarg_int(r, width, 4, &n));
    jout_init(&o, r);
    for (; n > 0 && !o.failed; n--)
        jout_puts(&o, " ");
    JTRY(jout_take(&o, &s));
    *out = s.s;
    return ERR_OK;
}

JBUILTIN(filter_indent)
{
    const struct jstr *s, *blank;
    struct jout o;
    struct jval line;
    bool first = jtruth(arg[1]), blanks = jtruth(arg[2]);
    size_t at = 0;
    JUNUSED_ARGS;
    if (self.kind == J_UNDEFINED)
        return jfail(r, "%s", self.undef->text);
    JTRY(jarg_str(r, self, &s)); /* the one filter of text that takes only text */
    JTRY(indention(r, arg[0], &blank));
    jout_init(&o, r);
    if (first)
        jout_str(&o, blank);
    /* Python appends a newline and splits, so text that ends with one has an empty last line. */
    for (bool more = true, begun = false; more; begun = true) {
        size_t next, end = line_end(s, at, &next);
        more = end < s->len;
        if (begun) {
            jout_puts(&o, "\n");
            if (end > at || blanks)
                jout_str(&o, blank);
        }
        JTRY(jstr_slice(r, s, at, end, &line));
        jout_str(&o, line.s);
        at = next;
    }
    JTRY(jout_take(&o, out));
    return s->markup ? jstr_as_markup(r, out->s, true, out) : ERR_OK;
}

/* ---- the rest ----------------------------------------------------------------------- */

JBUILTIN(filter_format)
{
    const struct jstr *s;
    struct jseq *pos;
    struct jdict *named;
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    if (raw->n && raw->n_kw)
        return jfail(r, "can't handle positional and keyword arguments at the same time");
    if (!raw->n_kw) {
        JTRY(jseq_open(r, raw->n, &pos));
        for (size_t i = 0; i < raw->n; i++)
            JTRY(jseq_push(r, pos, raw->pos[i]));
        return jformat_percent(r, s, jseqval(J_TUPLE, pos), out);
    }
    JTRY(jdict_open(r, raw->n_kw, &named));
    for (size_t i = 0; i < raw->n_kw; i++)
        JTRY(jdict_set(r, named, jstrval(raw->kw[i].name), raw->kw[i].value));
    return jformat_percent(r, s, jdictval(named), out);
}

JBUILTIN(filter_wordcount)
{
    const struct jstr *s;
    int64_t n = 0;
    bool in_word = false;
    uint32_t cp;
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    for (size_t at = 0; at < s->len;) {
        at += jstr_char(s, at, &cp);
        bool word = cp == '_' || jchar_alpha(cp) || jchar_digit(cp);
        n += word && !in_word;
        in_word = word;
    }
    *out = jint(n);
    return ERR_OK;
}

JBUILTIN(filter_center)
{
    const struct jstr *s;
    struct jout o;
    int64_t width, chars;
    JUNUSED_ARGS;
    JTRY(text_of(r, self, &s));
    JTRY(jarg_int(r, arg[0], 80, &width));
    chars = (int64_t)jstr_chars(s);
    int64_t gap = width > chars ? width - chars : 0, left = gap / 2 + (gap & width & 1);
    jout_init(&o, r);
    for (int64_t i = 0; i < gap && !o.failed; i++) {
        if (i == left)
            jout_str(&o, s);
        jout_puts(&o, " ");
    }
    if (left >= gap)
        jout_str(&o, s);
    return jout_take(&o, out);
}

static err separators(struct jrun *r, struct jval v, struct jjson_style *style)
{
    if (v.kind == J_ABSENT || v.kind == J_NONE)
        return ERR_OK;
    if ((v.kind != J_LIST && v.kind != J_TUPLE) || v.seq->n != 2)
        return jfail(r, "separators must be a pair");
    JTRY(jarg_str(r, v.seq->v[0], &style->item));
    return jarg_str(r, v.seq->v[1], &style->key);
}

/* transformers' own: no HTML escapes, ensure_ascii off. */
JBUILTIN(filter_tojson)
{
    static const struct jstr comma = {.text = ",", .len = 1}, comma_blank = {.text = ", ", .len = 2},
                             colon = {.text = ": ", .len = 2};
    struct jjson_style style = {
        .ascii = jtruth(arg[0]), .sort_keys = jtruth(arg[3]), .indent = arg[1], .key = &colon};
    JUNUSED_ARGS;
    style.item = arg[1].kind == J_ABSENT || arg[1].kind == J_NONE ? &comma_blank : &comma;
    JTRY(separators(r, arg[2], &style));
    return jjson_put(r, self, &style, out);
}

const struct jbuiltin jfilters_text[] = {
    {"upper", filter_upper, "", 0},
    {"lower", filter_lower, "", 0},
    {"capitalize", filter_capitalize, "", 0},
    {"title", filter_title, "", 0},
    {"trim", filter_trim, "chars", 0},
    {"string", filter_string, "", 0},
    {"safe", filter_safe, "", 0},
    {"escape", filter_escape, "", 0},
    {"e", filter_escape, "", 0},
    {"forceescape", filter_forceescape, "", 0},
    {"replace", filter_replace, "old new count", 2},
    {"indent", filter_indent, "width first blank", 0},
    {"format", filter_format, NULL, 0},
    {"wordcount", filter_wordcount, "", 0},
    {"center", filter_center, "width", 0},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0},
    {0},
};
