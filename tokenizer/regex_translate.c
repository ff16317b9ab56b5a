/* regex_translate.c - Oniguruma's flavour to PCRE2's, exactly or not at all.
 *
 * One pass over the pattern. Outside a class only escapes and quantifiers need
 * care. A class is rewritten item by item: nested sets are unions and are
 * flattened; `A&&[B]` becomes a lookahead in front of A. Escapes that name
 * a set (\s, \w, \d) are written out as ranges or properties.
 */
#include <string.h>

#include "tokenizer/regex.h"
#include "tokenizer/text.h"

#define SPACE_SET "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE_SET                                                                                             \
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"  \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define WORD_SET "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"

enum { MAX_NEST = 8, MAX_PATTERN = 1 << 16 };

struct reader {
    const char *s;
    size_t len, at;
    struct buf *out;
    struct why *why;
};

static bool more(const struct reader *r)
{
    return r->at < r->len;
}

static bool next_is(const struct reader *r, const char *what)
{
    size_t n = strlen(what);
    return r->len - r->at >= n && memcmp(r->s + r->at, what, n) == 0;
}

static err refuse(struct reader *r, const char *what)
{
    return why_set(r->why, ERR_UNSUPPORTED, "tokenizer: pre-tokenizer regex has %s at byte %zu: \"%.*s\"", what, r->at,
                   (int)(r->len > 120 ? 120 : r->len), r->s);
}

/* Copies one character, with a backslash if PCRE2 could take it for syntax. */
static void put_literal(struct reader *r, bool in_class)
{
    static const char outside[] = "\\^$.|?*+()[]{}", inside[] = "\\^-[]";
    char c = r->s[r->at];
    if (c != '\0' && strchr(in_class ? inside : outside, c))
        buf_putc(r->out, '\\');
    size_t n = utf8_size((unsigned char)c);
    buf_put(r->out, r->s + r->at, n);
    r->at += n;
}

/* \p{..}, \P{..}: r->at is behind the backslash. */
static err put_property(struct reader *r)
{
    size_t start = r->at++;
    if (!more(r) || r->s[r->at] != '{')
        return refuse(r, "\\p without braces");
    while (more(r) && r->s[r->at] != '}')
        r->at++;
    if (!more(r))
        return refuse(r, "\\p{ without end");
    r->at++;
    buf_putc(r->out, '\\');
    buf_put(r->out, r->s + start, r->at - start);
    return ERR_OK;
}

/* An escape that means the same inside and outside a class. The backslash is
 * at r->at. *done == false: it is not one of these. */
static err put_escape(struct reader *r, bool in_class, bool *done)
{
    if (r->at + 1 >= r->len)
        return refuse(r, "a backslash at its end");
    char c = r->s[++r->at];
    *done = true;
    switch (c) {
    case 'p':
    case 'P':
        return put_property(r);
    case 'd':
    case 'D':
        buf_puts(r->out, c == 'd' ? "\\p{Nd}" : "\\P{Nd}");
        break;
    case 'h':
        buf_puts(r->out, in_class ? "0-9a-fA-F" : "[0-9a-fA-F]");
        break;
    case 's':
        buf_puts(r->out, in_class ? SPACE_SET : "[" SPACE_SET "]");
        break;
    case 'S':
        buf_puts(r->out, in_class ? NOT_SPACE_SET : "[^" SPACE_SET "]");
        break;
    case 'w':
        buf_puts(r->out, in_class ? WORD_SET : "[" WORD_SET "]");
        break;
    case 'W':
        if (in_class)
            return refuse(r, "\\W inside a class");
        buf_puts(r->out, "[^" WORD_SET "]");
        break;
    case 't':
    case 'n':
    case 'r':
    case 'f':
    case 'v': /* Oniguruma: vertical tab; PCRE2: all vertical space */
        buf_puts(r->out, c == 't' ? "\\x09" : c == 'n' ? "\\x0a" : c == 'r' ? "\\x0d" : c == 'f' ? "\\x0c" : "\\x0b");
        break;
    case 'x': {
        size_t start = r->at++;
        if (more(r) && r->s[r->at] == '{') {
            while (more(r) && r->s[r->at] != '}')
                r->at++;
            r->at += more(r);
        } else {
            for (int i = 0; i < 2 && more(r) && strchr("0123456789abcdefABCDEF", r->s[r->at]) && r->s[r->at]; i++)
                r->at++;
        }
        buf_putc(r->out, '\\');
        buf_put(r->out, r->s + start, r->at - start);
        return ERR_OK;
    }
    case 'u': {
        if (r->len - r->at < 5)
            return refuse(r, "a short \\u");
        buf_puts(r->out, "\\x{");
        buf_put(r->out, r->s + r->at + 1, 4);
        buf_puts(r->out, "}");
        r->at += 5;
        return ERR_OK;
    }
    default:
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
            *done = false;
            return ERR_OK;
        }
        put_literal(r, in_class); /* escaped punctuation stands for itself */
        return ERR_OK;
    }
    r->at++;
    return ERR_OK;
}

/* Items of a set until its closing bracket, which is consumed; nested plain
 * sets are united. Stops in front of && (outermost set only). */
static err put_set_items(struct reader *r, int depth)
{
    bool first = true, after_set = false;
    for (; more(r); first = false) {
        char c = r->s[r->at];
        err e = ERR_OK;
        bool is_set = c == '[' || (c == '\\' && r->at + 1 < r->len && strchr("sSwWdDpPh", r->s[r->at + 1]));
        if (c == ']' && !first) {
            r->at++;
            return ERR_OK;
        }
        if (next_is(r, "&&")) {
            return depth == 0 ? ERR_OK : refuse(r, "&& inside a nested set");
        } else if (next_is(r, "[:")) {
            const char *end = memmem(r->s + r->at, r->len - r->at, ":]", 2);
            if (!end)
                return refuse(r, "an unfinished [: :]");
            size_t n = (size_t)(end + 2 - (r->s + r->at));
            buf_put(r->out, r->s + r->at, n);
            r->at += n;
        } else if (c == '[') {
            r->at++;
            if (next_is(r, "^"))
                return refuse(r, "a negated set inside a set");
            if (depth >= MAX_NEST)
                return refuse(r, "too deeply nested sets");
            e = put_set_items(r, depth + 1);
        } else if (c == '\\') {
            bool done;
            e = put_escape(r, true, &done);
            if (e == ERR_OK && !done)
                return refuse(r, "an unknown escape in a set");
        } else if (c == '-') { /* range or literal: PCRE2 decides as Oniguruma does */
            bool literal = first || after_set || (r->at + 1 < r->len && r->s[r->at + 1] == ']');
            buf_puts(r->out, literal ? "\\-" : "-");
            r->at++;
        } else {
            put_literal(r, true);
        }
        if (e != ERR_OK)
            return e;
        after_set = is_set;
    }
    return refuse(r, "a set without end");
}

/* A whole class; r->at is at its '['. */
static err put_class(struct reader *r)
{
    err e;
    struct buf head, tail, *out = r->out;
    buf_init(&head);
    buf_init(&tail);

    r->at++;
    bool negated = next_is(r, "^");
    r->at += negated;
    r->out = &head;
    TRY(put_set_items(r, 0));
    bool meets = false, meets_not = false;
    if (next_is(r, "&&")) {
        if (negated || !next_is(r, "&&[")) {
            e = refuse(r, "an intersection of this form");
            goto out;
        }
        r->at += 3;
        meets = true;
        meets_not = next_is(r, "^");
        r->at += meets_not;
        r->out = &tail;
        TRY(put_set_items(r, 1));
        if (!next_is(r, "]")) {
            e = refuse(r, "more than one intersection in a set");
            goto out;
        }
        r->at++;
    }
    if (meets) {
        buf_puts(out, meets_not ? "(?:(?![" : "(?:(?=[");
        buf_put(out, tail.data, tail.len);
        buf_puts(out, "])");
    }
    buf_puts(out, negated ? "[^" : "[");
    buf_put(out, head.data, head.len);
    buf_puts(out, meets ? "])" : "]");
    e = head.failed || tail.failed ? why_set(r->why, ERR_NOMEM, "tokenizer: regular expression") : ERR_OK;

out:
    r->out = out;
    buf_fini(&head);
    buf_fini(&tail);
    return e;
}

/* {n}, {n,}, {,m}, {n,m}; any other brace is a literal. */
static err put_brace(struct reader *r)
{
    size_t i = r->at + 1, digits = 0;
    bool comma = false;
    for (; i < r->len && ((r->s[i] >= '0' && r->s[i] <= '9') || (r->s[i] == ',' && !comma)); i++) {
        comma |= r->s[i] == ',';
        digits += r->s[i] != ',';
    }
    if (i >= r->len || r->s[i] != '}' || digits == 0) {
        put_literal(r, false);
        return ERR_OK;
    }
    if (i + 1 < r->len && r->s[i + 1] == '+')
        return refuse(r, "{..}+ (a repeated repeat in one flavour, possessive in another)");
    buf_puts(r->out, r->s[r->at + 1] == ',' ? "{0" : "{");
    buf_put(r->out, r->s + r->at + 1, i - r->at);
    r->at = i + 1;
    return ERR_OK;
}

/* Escapes that exist only outside sets: anchors and back references. */
static err put_anchor(struct reader *r)
{
    char c = r->s[r->at]; /* behind the backslash */
    switch (c) {
    case 'A':
    case 'z':
    case 'Z':
    case 'G':
        buf_putc(r->out, '\\');
        buf_putc(r->out, c);
        break;
    case 'b':
        buf_puts(r->out, "(?:(?<=[" WORD_SET "])(?![" WORD_SET "])|(?<![" WORD_SET "])(?=[" WORD_SET "]))");
        break;
    default:
        return refuse(r, "an unknown escape");
    }
    r->at++;
    return ERR_OK;
}

/* Only these openings mean the same in both flavours. */
static err put_group(struct reader *r)
{
    static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i)", "(?-i:", "(?-i)"};
    if (next_is(r, "(?")) {
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            if (next_is(r, known[i])) {
                buf_puts(r->out, known[i]);
                r->at += strlen(known[i]);
                return ERR_OK;
            }
        }
        return refuse(r, "an unknown group");
    }
    if (next_is(r, "(*"))
        return refuse(r, "a verb");
    buf_puts(r->out, "(?:"); /* captures are never used */
    r->at++;
    return ERR_OK;
}

err regex_translate(const char *pattern, size_t len, struct buf *out, struct why *why)
{
    struct reader r = {.s = pattern, .len = len, .out = out, .why = why};
    if (len > MAX_PATTERN)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer: pre-tokenizer regex of %zu bytes", len);
    while (more(&r)) {
        err e = ERR_OK;
        switch (r.s[r.at]) {
        case '[':
            e = put_class(&r);
            break;
        case '{':
            e = put_brace(&r);
            break;
        case '(':
            e = put_group(&r);
            break;
        case '\\': {
            bool done;
            e = put_escape(&r, false, &done);
            if (e == ERR_OK && !done)
                e = put_anchor(&r);
            break;
        }
        case '\0':
            buf_puts(out, "\\x00");
            r.at++;
            break;
        case ')':
        case '|':
        case '?':
        case '*':
        case '+':
        case '.':
        case '^':
        case '$':
            buf_putc(out, r.s[r.at++]);
            break;
        default:
            put_literal(&r, false);
        }
        if (e != ERR_OK)
            return e;
    }
    return out->failed ? why_set(why, ERR_NOMEM, "tokenizer: regular expression") : ERR_OK;
}
