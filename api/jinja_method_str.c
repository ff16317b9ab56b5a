/* jinja_method_str.c - methods of strings. Slices and parts keep their marks. */
#include <string.h>

#include "api/jinja_eval.h"

/* strip(chars=None) */
static err strip(struct jrun *r, struct jval self, struct jval chars, unsigned sides, struct jval *out)
{
    const struct jstr *set = NULL;
    if (chars.kind != J_ABSENT && chars.kind != J_NONE)
        JTRY(jarg_str(r, chars, &set));
    return jstr_strip(r, self.s, set, sides, out);
}

JBUILTIN(str_strip)
{
    JUNUSED_ARGS;
    return strip(r, self, arg[0], JSTRIP_LEFT | JSTRIP_RIGHT, out);
}

JBUILTIN(str_lstrip)
{
    JUNUSED_ARGS;
    return strip(r, self, arg[0], JSTRIP_LEFT, out);
}

JBUILTIN(str_rstrip)
{
    JUNUSED_ARGS;
    return strip(r, self, arg[0], JSTRIP_RIGHT, out);
}

JBUILTIN(str_upper)
{
    JUNUSED_ARGS;
    return jstr_case(r, self.s, JCASE_UPPER, out);
}

JBUILTIN(str_lower)
{
    JUNUSED_ARGS;
    return jstr_case(r, self.s, JCASE_LOWER, out);
}

JBUILTIN(str_title)
{
    JUNUSED_ARGS;
    return jstr_case(r, self.s, JCASE_TITLE, out);
}

JBUILTIN(str_capitalize)
{
    JUNUSED_ARGS;
    return jstr_case(r, self.s, JCASE_CAPITAL, out);
}

JBUILTIN(str_swapcase)
{
    JUNUSED_ARGS;
    return jstr_case(r, self.s, JCASE_SWAP, out);
}

/* Byte range of self[start:end], for the methods that take such arguments. */
static err window(struct jrun *r, struct jval self, const struct jval *bounds, size_t *from, size_t *to)
{
    struct jval part[3] = {bounds[0], bounds[1], jnone()}, cut;
    *from = 0;
    *to = self.s->len;
    if (bounds[0].kind == J_ABSENT)
        return ERR_OK;
    if (bounds[1].kind == J_ABSENT)
        part[1] = jnone();
    JTRY(jslice(r, self, part, &cut));
    *from = (size_t)(cut.s->text - self.s->text);
    *to = *from + cut.s->len;
    return ERR_OK;
}

static bool has_affix(const struct jstr *s, size_t from, size_t to, const struct jstr *affix, bool end)
{
    if (affix->len > to - from)
        return false;
    return memcmp(s->text + (end ? to - affix->len : from), affix->text, affix->len) == 0;
}

static err affix(struct jrun *r, struct jval self, const struct jval *arg, bool end, struct jval *out)
{
    const char *name = end ? "endswith" : "startswith";
    size_t from, to;
    bool hit = false;
    JTRY(window(r, self, arg + 1, &from, &to));
    if (arg[0].kind == J_UNDEFINED)
        return jfail(r, "%s first arg must be str or a tuple of str, not Undefined", name);
    size_t n = arg[0].kind == J_TUPLE ? arg[0].seq->n : 1;
    for (size_t i = 0; i < n && !hit; i++) {
        struct jval one = arg[0].kind == J_TUPLE ? arg[0].seq->v[i] : arg[0];
        if (one.kind != J_STR)
            return jfail(r, "%s first arg must be str or a tuple of str, not %s", name, jtype_name(one));
        hit = has_affix(self.s, from, to, one.s, end);
        JTRY(jstep(r, 1 + one.s->len / 16));
    }
    *out = jbool(hit);
    return ERR_OK;
}

JBUILTIN(str_startswith)
{
    JUNUSED_ARGS;
    return affix(r, self, arg, false, out);
}

JBUILTIN(str_endswith)
{
    JUNUSED_ARGS;
    return affix(r, self, arg, true, out);
}

static err remove_affix(struct jrun *r, struct jval self, struct jval what, bool end, struct jval *out)
{
    const struct jstr *s;
    JTRY(jarg_str(r, what, &s));
    *out = self;
    if (!has_affix(self.s, 0, self.s->len, s, end))
        return ERR_OK;
    return jstr_slice(r, self.s, end ? 0 : s->len, end ? self.s->len - s->len : self.s->len, out);
}

JBUILTIN(str_removeprefix)
{
    JUNUSED_ARGS;
    return remove_affix(r, self, arg[0], false, out);
}

JBUILTIN(str_removesuffix)
{
    JUNUSED_ARGS;
    return remove_affix(r, self, arg[0], true, out);
}

/* In characters; -1 when it is not there. */
static err find(struct jrun *r, struct jval self, const struct jval *arg, bool last, struct jval *out)
{
    const struct jstr *what;
    size_t from, to;
    JTRY(jarg_str(r, arg[0], &what));
    JTRY(window(r, self, arg + 1, &from, &to));
    JTRY(jstep(r, (to - from) / 16 * (last ? what->len / 16 + 1 : 1)));
    struct jstr cut = {.text = self.s->text + from, .len = to - from};
    size_t at = last ? jstr_find_last(&cut, what, cut.len) : jstr_find(&cut, what, 0);
    struct jstr before = {.text = self.s->text, .len = from + at};
    *out = jint(at == SIZE_MAX ? -1 : (int64_t)jstr_chars(&before));
    return ERR_OK;
}

static err must_find(struct jrun *r, struct jval self, const struct jval *arg, bool last, struct jval *out)
{
    JTRY(find(r, self, arg, last, out));
    return out->i < 0 ? jfail(r, "substring not found") : ERR_OK;
}

JBUILTIN(str_find)
{
    JUNUSED_ARGS;
    return find(r, self, arg, false, out);
}

JBUILTIN(str_rfind)
{
    JUNUSED_ARGS;
    return find(r, self, arg, true, out);
}

JBUILTIN(str_index)
{
    JUNUSED_ARGS;
    return must_find(r, self, arg, false, out);
}

JBUILTIN(str_rindex)
{
    JUNUSED_ARGS;
    return must_find(r, self, arg, true, out);
}

JBUILTIN(str_count)
{
    const struct jstr *what;
    int64_t n = 0;
    JUNUSED_ARGS;
    JTRY(jarg_str(r, arg[0], &what));
    JTRY(jstep(r, self.s->len / 16));
    if (!what->len)
        n = (int64_t)jstr_chars(self.s) + 1;
    for (size_t at = 0; what->len && (at = jstr_find(self.s, what, at)) != SIZE_MAX; at += what->len)
        n++;
    *out = jint(n);
    return ERR_OK;
}

/* An empty `old` stands between all characters. */
JBUILTIN(str_replace)
{
    const struct jstr *old, *new;
    struct jval part;
    struct jout o;
    int64_t left;
    size_t at = 0, hit;
    uint32_t cp;
    JUNUSED_ARGS;
    JTRY(jarg_str(r, arg[0], &old));
    JTRY(jarg_str(r, arg[1], &new));
    JTRY(jarg_int(r, arg[2], -1, &left));
    jout_init(&o, r);
    for (; left != 0 && (hit = jstr_find(self.s, old, at)) != SIZE_MAX && !o.failed; left -= left > 0) {
        JTRY(jstep(r, 1));
        JTRY(jstr_slice(r, self.s, at, hit, &part));
        jout_str(&o, part.s);
        jout_str(&o, new);
        at = hit + old->len;
        if (old->len)
            continue;
        if (at >= self.s->len) {
            at = self.s->len + 1;
            break;
        }
        JTRY(jstr_slice(r, self.s, at, at + jstr_char(self.s, at, &cp), &part));
        jout_str(&o, part.s);
        at += part.s->len;
    }
    if (at < self.s->len) {
        JTRY(jstr_slice(r, self.s, at, self.s->len, &part));
        jout_str(&o, part.s);
    }
    return jout_take(&o, out);
}

static err push_part(struct jrun *r, struct jseq *parts, const struct jstr *s, size_t from, size_t to)
{
    struct jval part;
    JTRY(jstr_slice(r, s, from, to, &part));
    return jseq_push(r, parts, part);
}

static err split_blanks(struct jrun *r, const struct jstr *s, int64_t left, struct jseq *parts)
{
    uint32_t cp;
    size_t at = 0, n;
    for (;;) {
        for (; at < s->len; at += n) {
            n = jstr_char(s, at, &cp);
            if (!jchar_space(cp))
                break;
        }
        if (at >= s->len)
            return ERR_OK;
        size_t end = at;
        for (; end < s->len; end += n) {
            n = jstr_char(s, end, &cp);
            if (jchar_space(cp) && left != 0)
                break;
        }
        JTRY(push_part(r, parts, s, at, end)); /* the last one takes all the rest */
        at = end;
        left -= left > 0;
    }
}

static void reverse(struct jseq *s)
{
    for (size_t i = 0; i < s->n / 2; i++) {
        struct jval v = s->v[i];
        s->v[i] = s->v[s->n - 1 - i];
        s->v[s->n - 1 - i] = v;
    }
}

static err split_from_end(struct jrun *r, const struct jstr *s, const struct jstr *sep, int64_t left,
                          struct jseq *parts)
{
    size_t end = s->len, hit;
    JTRY(jstep(r, s->len / 16 * (sep->len / 16 + 1)));
    for (; left != 0 && (hit = jstr_find_last(s, sep, end)) != SIZE_MAX; left--, end = hit)
        JTRY(push_part(r, parts, s, hit + sep->len, end));
    JTRY(push_part(r, parts, s, 0, end));
    reverse(parts);
    return ERR_OK;
}

static err split(struct jrun *r, struct jval self, const struct jval *arg, bool from_end, struct jval *out)
{
    const struct jstr *sep;
    struct jseq *parts;
    int64_t left;
    size_t at = 0, hit;
    JTRY(jarg_int(r, arg[1], -1, &left));
    JTRY(jseq_open(r, 0, &parts));
    *out = jseqval(J_LIST, parts);
    if (arg[0].kind == J_ABSENT || arg[0].kind == J_NONE) {
        if (from_end && left >= 0)
            return jfail(r, "rsplit() without a separator and with a limit is not supported");
        return split_blanks(r, self.s, left, parts);
    }
    if (arg[0].kind == J_UNDEFINED)
        return jfail(r, "must be str or None, not Undefined");
    JTRY(jarg_str(r, arg[0], &sep));
    if (!sep->len)
        return jfail(r, "empty separator");
    if (from_end)
        return split_from_end(r, self.s, sep, left, parts);
    JTRY(jstep(r, self.s->len / 16));
    for (; left != 0 && (hit = jstr_find(self.s, sep, at)) != SIZE_MAX; left--, at = hit + sep->len)
        JTRY(push_part(r, parts, self.s, at, hit));
    return push_part(r, parts, self.s, at, self.s->len);
}

JBUILTIN(str_split)
{
    JUNUSED_ARGS;
    return split(r, self, arg, false, out);
}

JBUILTIN(str_rsplit)
{
    JUNUSED_ARGS;
    return split(r, self, arg, true, out);
}

static err partition(struct jrun *r, struct jval self, struct jval by, bool last, struct jval *out)
{
    const struct jstr *sep;
    struct jseq *parts;
    JTRY(jarg_str(r, by, &sep));
    if (!sep->len)
        return jfail(r, "empty separator");
    JTRY(jseq_open(r, 3, &parts));
    JTRY(jstep(r, self.s->len / 16 * (last ? sep->len / 16 + 1 : 1)));
    size_t len = self.s->len, hit = last ? jstr_find_last(self.s, sep, len) : jstr_find(self.s, sep, 0);
    bool none = hit == SIZE_MAX;
    size_t a = none ? (last ? 0 : len) : hit, b = none ? a : hit + sep->len;
    JTRY(push_part(r, parts, self.s, 0, a));
    JTRY(push_part(r, parts, self.s, a, b));
    JTRY(push_part(r, parts, self.s, b, len));
    *out = jseqval(J_TUPLE, parts);
    return ERR_OK;
}

JBUILTIN(str_partition)
{
    JUNUSED_ARGS;
    return partition(r, self, arg[0], false, out);
}

JBUILTIN(str_rpartition)
{
    JUNUSED_ARGS;
    return partition(r, self, arg[0], true, out);
}

JBUILTIN(str_splitlines)
{
    struct jseq *parts;
    uint32_t cp;
    bool keep = jtruth(arg[0]);
    JUNUSED_ARGS;
    JTRY(jseq_open(r, 0, &parts));
    for (size_t at = 0, start = 0; at < self.s->len;) {
        size_t end = at;
        at += jstr_char(self.s, at, &cp);
        if (!jchar_line_break(cp)) {
            if (at >= self.s->len)
                JTRY(push_part(r, parts, self.s, start, at));
            continue;
        }
        if (cp == '\r' && at < self.s->len && self.s->text[at] == '\n')
            at++;
        JTRY(push_part(r, parts, self.s, start, keep ? at : end));
        start = at;
    }
    *out = jseqval(J_LIST, parts);
    return ERR_OK;
}

JBUILTIN(str_join)
{
    const struct jseq *s;
    struct jout o;
    JUNUSED_ARGS;
    JTRY(jiterate(r, arg[0], &s));
    jout_init(&o, r);
    for (size_t i = 0; i < s->n; i++) {
        if (s->v[i].kind != J_STR)
            return jfail(r, "sequence item %zu: expected str instance, %s found", i, jtype_name(s->v[i]));
        JTRY(jstep(r, 1));
        if (i)
            jout_str(&o, self.s);
        jout_str(&o, s->v[i].s);
    }
    return jout_take(&o, out);
}

JBUILTIN(str_format)
{
    JUNUSED_ARGS;
    return jformat_braces(r, self.s, raw, out);
}

static err pad(struct jrun *r, struct jval self, const struct jval *arg, bool left, char fill,
               struct jval *out)
{
    struct jout o;
    int64_t width;
    JTRY(jarg_int(r, arg[0], 0, &width));
    width -= (int64_t)jstr_chars(self.s);
    jout_init(&o, r);
    if (!left)
        jout_str(&o, self.s);
    for (; width > 0 && !o.failed; width--)
        jout_put(&o, &fill, 1, false);
    if (left)
        jout_str(&o, self.s);
    return jout_take(&o, out);
}

JBUILTIN(str_ljust)
{
    JUNUSED_ARGS;
    return pad(r, self, arg, false, ' ', out);
}

JBUILTIN(str_rjust)
{
    JUNUSED_ARGS;
    return pad(r, self, arg, true, ' ', out);
}

JBUILTIN(str_zfill)
{
    JUNUSED_ARGS;
    bool sign = self.s->len && (self.s->text[0] == '+' || self.s->text[0] == '-');
    if (!sign)
        return pad(r, self, arg, true, '0', out);
    struct jval head, tail, width = arg[0];
    JTRY(jstr_slice(r, self.s, 0, 1, &head));
    JTRY(jstr_slice(r, self.s, 1, self.s->len, &tail));
    JTRY(jarith(r, JN_SUB, width, jint(1), &width));
    JTRY(pad(r, tail, &width, true, '0', &tail));
    return jstr_concat(r, head.s, tail.s, out);
}

/* is...(): true when there is a character and all of them are so. */
static err all_chars(struct jrun *r, struct jval self, bool (*is)(uint32_t), struct jval *out)
{
    bool all = self.s->len > 0;
    uint32_t cp;
    JTRY(jstep(r, self.s->len / 16));
    for (size_t at = 0; at < self.s->len && all;) {
        at += jstr_char(self.s, at, &cp);
        all = is(cp);
    }
    *out = jbool(all);
    return ERR_OK;
}

static bool alnum(uint32_t cp)
{
    return jchar_alpha(cp) || jchar_digit(cp);
}

JBUILTIN(str_isdigit)
{
    JUNUSED_ARGS;
    return all_chars(r, self, jchar_digit, out);
}

JBUILTIN(str_isalpha)
{
    JUNUSED_ARGS;
    return all_chars(r, self, jchar_alpha, out);
}

JBUILTIN(str_isalnum)
{
    JUNUSED_ARGS;
    return all_chars(r, self, alnum, out);
}

JBUILTIN(str_isspace)
{
    JUNUSED_ARGS;
    return all_chars(r, self, jchar_space, out);
}

/* isupper() and islower() are the tests `upper` and `lower`. */
static err by_test(struct jrun *r, struct jval self, const char *name, const struct jargs *raw,
                   struct jval *out)
{
    struct jstr s = {.text = name, .len = strlen(name)};
    return jbuiltin_call(r, jbuiltin_test(&s), self, raw, out);
}

JBUILTIN(str_isupper)
{
    JUNUSED_ARGS;
    return by_test(r, self, "upper", raw, out);
}

JBUILTIN(str_islower)
{
    JUNUSED_ARGS;
    return by_test(r, self, "lower", raw, out);
}

const struct jbuiltin jmethods_str[] = {
    {"strip", str_strip, "chars", 0},
    {"lstrip", str_lstrip, "chars", 0},
    {"rstrip", str_rstrip, "chars", 0},
    {"upper", str_upper, "", 0},
    {"lower", str_lower, "", 0},
    {"casefold", str_lower, "", 0},
    {"title", str_title, "", 0},
    {"capitalize", str_capitalize, "", 0},
    {"swapcase", str_swapcase, "", 0},
    {"startswith", str_startswith, "prefix start end", 1},
    {"endswith", str_endswith, "suffix start end", 1},
    {"removeprefix", str_removeprefix, "prefix", 1},
    {"removesuffix", str_removesuffix, "suffix", 1},
    {"find", str_find, "sub start end", 1},
    {"rfind", str_rfind, "sub start end", 1},
    {"index", str_index, "sub start end", 1},
    {"rindex", str_rindex, "sub start end", 1},
    {"count", str_count, "sub", 1},
    {"replace", str_replace, "old new count", 2},
    {"split", str_split, "sep maxsplit", 0},
    {"rsplit", str_rsplit, "sep maxsplit", 0},
    {"partition", str_partition, "sep", 1},
    {"rpartition", str_rpartition, "sep", 1},
    {"splitlines", str_splitlines, "keepends", 0},
    {"join", str_join, "iterable", 1},
    {"format", str_format, NULL, 0},
    {"ljust", str_ljust, "width", 1},
    {"rjust", str_rjust, "width", 1},
    {"zfill", str_zfill, "width", 1},
    {"isdigit", str_isdigit, "", 0},
    {"isdecimal", str_isdigit, "", 0},
    {"isnumeric", str_isdigit, "", 0},
    {"isalpha", str_isalpha, "", 0},
    {"isalnum", str_isalnum, "", 0},
    {"isupper", str_isupper, "", 0},
    {"islower", str_islower, "", 0},
    {"isspace", str_isspace, "", 0},
    {0},
};
