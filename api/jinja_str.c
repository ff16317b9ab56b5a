/* jinja_str.c - marked strings: the builder, slices, concatenation, searching.
 *
 * Marks are a byte a byte beside the text, and only where a string is mixed: a
 * uniform string carries one flag. Slicing is pointer arithmetic on both.
 *
 * Templates like to grow a string in a loop (ns.text = ns.text + ...). Strings are
 * immutable, so that would copy everything each time. Instead a concatenation
 * leaves room behind its text (a struct jtail); adding to the string that ends
 * the block writes there. Older strings that share the block see only their own
 * length, and a second append to the same old string finds the room taken and
 * copies.
 */
#include "api/jinja_str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct jtail {
    char *text, *mark; /* [cap] */
    size_t len, cap;
};

enum { STEP_BYTES = 16 };

/* ---- the builder ------------------------------------------------------------ */

void jout_init(struct jout *o, struct jrun *r)
{
    *o = (struct jout){.r = r, .limit = r->max_output};
}

static bool out_room(struct jout *o, size_t len)
{
    if (o->failed)
        return false;
    if (len <= o->cap - o->len)
        return true;
    size_t cap = o->cap ? o->cap * 2 : 64;
    if (len > o->limit || o->len > o->limit - len) {
        o->failed = true;
        return false;
    }
    if (cap < o->len + len)
        cap = o->len + len;
    char *both = jalloc(o->r, 2, cap);
    if (!both) {
        o->failed = true;
        return false;
    }
    if (o->len) {
        memcpy(both, o->text, o->len);
        memcpy(both + cap, o->mark, o->len);
    }
    o->text = both;
    o->mark = both + cap;
    o->cap = cap;
    return true;
}

void jout_put(struct jout *o, const char *text, size_t len, bool user)
{
    if (!len || !out_room(o, len))
        return;
    memcpy(o->text + o->len, text, len);
    memset(o->mark + o->len, user, len);
    o->len += len;
    o->any_user |= user;
    o->any_own |= !user;
}

void jout_puts(struct jout *o, const char *text)
{
    jout_put(o, text, strlen(text), false);
}

void jout_printf(struct jout *o, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n > 0)
        jout_put(o, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, false);
}

void jout_str(struct jout *o, const struct jstr *s)
{
    if (!s->mark) {
        jout_put(o, s->text, s->len, s->user);
        return;
    }
    if (!s->len || !out_room(o, s->len))
        return;
    memcpy(o->text + o->len, s->text, s->len);
    memcpy(o->mark + o->len, s->mark, s->len);
    o->len += s->len;
    o->any_user = o->any_own = true;
}

void jout_char(struct jout *o, uint32_t cp, bool user)
{
    char c[4];
    size_t n = 1;
    if (cp < 0x80) {
        c[0] = (char)cp;
    } else if (cp < 0x800) {
        c[0] = (char)(0xc0 | cp >> 6);
        c[1] = (char)(0x80 | (cp & 63));
        n = 2;
    } else if (cp < 0x10000) {
        c[0] = (char)(0xe0 | cp >> 12);
        c[1] = (char)(0x80 | (cp >> 6 & 63));
        c[2] = (char)(0x80 | (cp & 63));
        n = 3;
    } else {
        c[0] = (char)(0xf0 | (cp >> 18 & 7));
        c[1] = (char)(0x80 | (cp >> 12 & 63));
        c[2] = (char)(0x80 | (cp >> 6 & 63));
        c[3] = (char)(0x80 | (cp & 63));
        n = 4;
    }
    jout_put(o, c, n, user);
}

err jout_check(const struct jout *o)
{
    if (!o->failed)
        return ERR_OK;
    if (o->len >= o->limit / 2)
        return why_set(o->r->why, ERR_LIMIT, "the template writes more than %zu bytes", o->limit);
    return jrun_nomem(o->r);
}

err jout_take(struct jout *o, struct jval *out)
{
    JTRY(jout_check(o));
    JTRY(jstep(o->r, 1 + o->len / STEP_BYTES));
    struct jstr *s = jalloc(o->r, 1, sizeof *s);
    if (!s)
        return jrun_nomem(o->r);
    *s = (struct jstr){.text = o->text ? o->text : "",
                       .mark = o->any_user && o->any_own ? o->mark : NULL,
                       .len = o->len,
                       .user = o->any_user && !o->any_own};
    *out = jstrval(s);
    return ERR_OK;
}

/* ---- making strings ------------------------------------------------------------ */

err jstr_own(struct jrun *r, const char *text, size_t len, struct jval *out)
{
    struct jout o;
    jout_init(&o, r);
    jout_put(&o, text, len, false);
    return jout_take(&o, out);
}

err jstr_slice(struct jrun *r, const struct jstr *s, size_t start, size_t end, struct jval *out)
{
    JTRY(jstep(r, 1));
    struct jstr *part = jalloc(r, 1, sizeof *part);
    if (!part)
        return jrun_nomem(r);
    *part = (struct jstr){.text = s->text + start,
                          .mark = s->mark ? s->mark + start : NULL,
                          .len = end - start,
                          .user = s->user,
                          .markup = s->markup};
    *out = jstrval(part);
    return ERR_OK;
}

static void tail_put(struct jtail *t, const struct jstr *s)
{
    if (!s->len)
        return;
    memcpy(t->text + t->len, s->text, s->len);
    if (s->mark)
        memcpy(t->mark + t->len, s->mark, s->len);
    else
        memset(t->mark + t->len, s->user, s->len);
    t->len += s->len;
}

err jstr_concat(struct jrun *r, const struct jstr *a, const struct jstr *b, struct jval *out)
{
    struct jtail *t = a->tail;
    bool mixed = a->mark || b->mark || (a->len && b->len && a->user != b->user);
    size_t start = 0;

    if (a->len > r->max_output || b->len > r->max_output - a->len)
        return why_set(r->why, ERR_LIMIT, "the template makes a string of more than %zu bytes",
                       r->max_output);
    if (t && a->text + a->len == t->text + t->len && t->cap - t->len >= b->len) {
        start = (size_t)(a->text - t->text);
        JTRY(jstep(r, 1 + b->len / STEP_BYTES));
    } else {
        size_t len = a->len + b->len, cap = t ? 2 * len + 64 : len + 64;
        JTRY(jstep(r, 1 + len / STEP_BYTES));
        char *both = jalloc(r, 2, cap);
        t = jalloc(r, 1, sizeof *t);
        if (!both || !t)
            return jrun_nomem(r);
        *t = (struct jtail){.text = both, .mark = both + cap, .cap = cap};
        tail_put(t, a);
    }
    tail_put(t, b);

    struct jstr *s = jalloc(r, 1, sizeof *s);
    if (!s)
        return jrun_nomem(r);
    *s = (struct jstr){.text = t->text + start,
                       .mark = mixed ? t->mark + start : NULL,
                       .len = a->len + b->len,
                       .tail = t,
                       .user = a->len ? a->user : b->user};
    *out = jstrval(s);
    return ERR_OK;
}

err jstr_as_markup(struct jrun *r, const struct jstr *s, bool markup, struct jval *out)
{
    struct jstr *copy = jalloc(r, 1, sizeof *copy);
    if (!copy)
        return jrun_nomem(r);
    *copy = *s;
    copy->markup = markup;
    *out = jstrval(copy);
    return ERR_OK;
}

err jstr_escape(struct jrun *r, const struct jstr *s, struct jval *out)
{
    static const char *const entity[256] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&#34;", ['\''] = "&#39;"};
    struct jout o;
    struct jval text;
    jout_init(&o, r);
    for (size_t i = 0; i < s->len; i++) {
        const char *e = entity[(unsigned char)s->text[i]];
        bool user = jstr_user_at(s, i);
        jout_put(&o, e ? e : s->text + i, e ? strlen(e) : 1, user);
    }
    JTRY(jout_take(&o, &text));
    return jstr_as_markup(r, text.s, true, out);
}

/* ---- looking at strings ---------------------------------------------------------- */

size_t jstr_char(const struct jstr *s, size_t at, uint32_t *cp)
{
    unsigned char c = (unsigned char)s->text[at];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    int n = utf8_decode(s->text + at, s->len - at, cp);
    if (n > 0)
        return (size_t)n;
    *cp = 0xfffd;
    return 1;
}

size_t jstr_back(const struct jstr *s, size_t at)
{
    size_t start = at - 1;
    while (start > 0 && at - start < 4 && ((unsigned char)s->text[start] & 0xc0) == 0x80)
        start--;
    uint32_t cp;
    return start + jstr_char(s, start, &cp) == at ? start : at - 1;
}

size_t jstr_chars(const struct jstr *s)
{
    size_t n = 0;
    uint32_t cp;
    for (size_t at = 0; at < s->len; n++)
        at += jstr_char(s, at, &cp);
    return n;
}

size_t jstr_byte_of(const struct jstr *s, size_t i_char)
{
    size_t at = 0;
    uint32_t cp;
    while (i_char-- > 0 && at < s->len)
        at += jstr_char(s, at, &cp);
    return at;
}

bool jstr_user_at(const struct jstr *s, size_t at)
{
    return s->mark ? s->mark[at] != 0 : s->user;
}

bool jstr_equal(const struct jstr *a, const struct jstr *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

bool jstr_is(const struct jstr *s, const char *text)
{
    size_t len = strlen(text);
    return s->len == len && memcmp(s->text, text, len) == 0;
}

int jstr_order(const struct jstr *a, const struct jstr *b)
{
    size_t len = a->len < b->len ? a->len : b->len;
    int c = len ? memcmp(a->text, b->text, len) : 0;
    if (c)
        return c < 0 ? -1 : 1;
    return (a->len > b->len) - (a->len < b->len);
}

size_t jstr_find(const struct jstr *s, const struct jstr *what, size_t from)
{
    if (from > s->len)
        return SIZE_MAX;
    if (!what->len)
        return from;
    const char *hit = memmem(s->text + from, s->len - from, what->text, what->len);
    return hit ? (size_t)(hit - s->text) : SIZE_MAX;
}

size_t jstr_find_last(const struct jstr *s, const struct jstr *what, size_t end)
{
    if (what->len > end)
        return SIZE_MAX;
    for (size_t at = end - what->len + 1; at-- > 0;)
        if (memcmp(s->text + at, what->text, what->len) == 0)
            return at;
    return SIZE_MAX;
}
