#include "api/jinja_lex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/jinja_str.h"

struct lexer {
    struct jrun *r;
    const char *text; /* newlines are \n, [len] */
    size_t len, at;
    int line;
    bool line_start;      /* the last tag ended with its newline, or there was none yet */
    struct jtoken *token; /* [n] */
    size_t n, cap;
    char open[256]; /* brackets inside a tag */
    size_t n_open;
};

static err bad(struct lexer *x, const char *what)
{
    x->r->line = x->line;
    return why_set(x->r->why, ERR_FORMAT, "%s", what);
}

static err push(struct lexer *x, struct jtoken t)
{
    if (x->n == x->cap) {
        struct jtoken *more = jgrow(x->r, x->token, x->n, &x->cap, sizeof *more);
        if (!more)
            return jrun_nomem(x->r);
        x->token = more;
    }
    t.line = x->line;
    x->token[x->n++] = t;
    return ERR_OK;
}

static err push_text(struct lexer *x, enum jtoken_kind kind, const char *text, size_t len)
{
    struct jstr *s = jalloc(x->r, 1, sizeof *s);
    if (!s)
        return jrun_nomem(x->r);
    *s = (struct jstr){.text = text, .len = len};
    return push(x, (struct jtoken){.kind = kind, .value = jstrval(s)});
}

static bool at_text(const struct lexer *x, size_t at, const char *what)
{
    size_t n = strlen(what);
    return n <= x->len - at && memcmp(x->text + at, what, n) == 0;
}

/* Moves over the text and counts its lines. */
static void advance(struct lexer *x, size_t to)
{
    for (; x->at < to; x->at++)
        x->line += x->text[x->at] == '\n';
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    struct jstr s = {.text = x->text, .len = x->len};
    uint32_t cp;
    while (at < x->len) {
        size_t n = jstr_char(&s, at, &cp);
        if (!jchar_space(cp))
            break;
        at += n;
    }
    return at;
}

/* ---- text between tags ---------------------------------------------------------- */

/* Emits [x->at, end), cut at the right as the tag that follows wants: '-' takes all
 * white space, nothing takes the blanks in front of a tag that starts its line
 * (`strips`: blocks and comments, not prints), '+' keeps all. */
static err data_before(struct lexer *x, size_t end, char sign, bool strips)
{
    size_t start = x->at, cut = end;
    struct jstr s = {.text = x->text + start, .len = end - start};
    uint32_t cp;
    while (cut > start) {
        size_t at = start + jstr_back(&s, cut - start);
        jstr_char(&s, at - start, &cp);
        if (!jchar_space(cp) || (sign != '-' && cp == '\n'))
            break;
        cut = at;
    }
    bool fresh_line = cut > start ? x->text[cut - 1] == '\n' : x->line_start;
    if (sign != '-' && (sign == '+' || !strips || !fresh_line))
        cut = end;
    if (cut > start)
        JTRY(push_text(x, JT_DATA, x->text + start, cut - start));
    advance(x, end);
    return ERR_OK;
}

/* The end of a tag whose last two characters are `close`: after `-` white space
 * goes, else (trim) the newline right behind. SIZE_MAX when no such end is here. */
static size_t tag_end(const struct lexer *x, size_t at, const char *close, bool trim)
{
    char sign = at < x->len && (x->text[at] == '-' || (x->text[at] == '+' && trim)) ? x->text[at] : 0;
    if (sign && at_text(x, at + 1, close))
        return sign == '-' ? skip_space(x, at + 3) : at + 3;
    if (!at_text(x, at, close))
        return SIZE_MAX;
    at += 2;
    return trim && at < x->len && x->text[at] == '\n' ? at + 1 : at;
}

static void end_tag(struct lexer *x, size_t to)
{
    advance(x, to);
    x->line_start = x->text[to - 1] == '\n';
}

/* Length of a sign at `at`: 0 or 1. */
static size_t sign_length(const struct lexer *x, size_t at)
{
    return at < x->len && (x->text[at] == '-' || x->text[at] == '+');
}

static err lex_comment(struct lexer *x)
{
    size_t at = x->at + 2, end = 0;
    at += sign_length(x, at);
    while (at < x->len && (end = tag_end(x, at, "#}", true)) == SIZE_MAX)
        at++;
    if (at >= x->len)
        return bad(x, "Missing end of comment tag");
    end_tag(x, end);
    return ERR_OK;
}

/* The end of {% raw %} that starts at `at`, SIZE_MAX when it is another tag. */
static size_t raw_begin(const struct lexer *x, size_t at)
{
    at = skip_space(x, at + 2 + sign_length(x, at + 2));
    if (!at_text(x, at, "raw"))
        return SIZE_MAX;
    at = skip_space(x, at + 3);
    if (at_text(x, at, "-%}"))
        return skip_space(x, at + 3);
    return at_text(x, at, "%}") ? at + 2 : SIZE_MAX;
}

static err lex_raw(struct lexer *x, size_t start)
{
    end_tag(x, start);
    if (start >= x->len)
        return ERR_OK; /* nothing to be raw: Jinja does not miss the end either */
    for (size_t at = start; at < x->len; at++) {
        if (!at_text(x, at, "{%"))
            continue;
        size_t sign = sign_length(x, at + 2), word = skip_space(x, at + 2 + sign);
        if (!at_text(x, word, "endraw"))
            continue;
        size_t end = tag_end(x, skip_space(x, word + 6), "%}", true);
        if (end == SIZE_MAX)
            continue;
        JTRY(data_before(x, at, sign ? x->text[at + 2] : 0, true));
        end_tag(x, end);
        return ERR_OK;
    }
    return bad(x, "Missing end of raw directive");
}

/* ---- inside tags ------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One escape, after its backslash; returns how many bytes it took, 0 when it is none
 * (Python keeps the backslash then), SIZE_MAX when it is a broken one. */
static size_t unescape(struct jout *o, const char *text, size_t len)
{
    static const char plain[] = "n\nt\tr\r\\\\'\'\"\"a\ab\bf\fv\v";
    uint32_t cp = 0;
    size_t n = 0, digits;
    if (text[0] == '\n')
        return 1;
    for (size_t i = 0; i + 1 < sizeof plain; i += 2)
        if (plain[i] == text[0]) {
            jout_put(o, plain + i + 1, 1, false);
            return 1;
        }
    if (text[0] >= '0' && text[0] <= '7') {
        while (n < 3 && n < len && text[n] >= '0' && text[n] <= '7')
            cp = cp * 8 + (uint32_t)(text[n++] - '0');
        jout_char(o, cp, false);
        return n;
    }
    digits = text[0] == 'x' ? 2 : text[0] == 'u' ? 4 : text[0] == 'U' ? 8 : 0;
    if (!digits)
        return text[0] == 'N' ? SIZE_MAX : 0;
    if (digits >= len)
        return SIZE_MAX;
    for (n = 1; n <= digits; n++) {
        int d = hex_digit(text[n]);
        if (d < 0)
            return SIZE_MAX;
        cp = cp << 4 | (uint32_t)d;
    }
    jout_char(o, cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff) ? 0xfffd : cp, false);
    return n;
}

static err lex_string(struct lexer *x)
{
    char quote = x->text[x->at];
    struct jtoken t = {.kind = JT_CONST};
    struct jout o;
    size_t at = x->at + 1, run = at;
    jout_init(&o, x->r);
    while (at < x->len && x->text[at] != quote) {
        if (x->text[at] != '\\') {
            at++;
            continue;
        }
        jout_put(&o, x->text + run, at - run, false);
        if (++at >= x->len)
            break;
        size_t n = unescape(&o, x->text + at, x->len - at);
        if (n == SIZE_MAX)
            return bad(x, "malformed character escape");
        if (!n)
            jout_puts(&o, "\\");
        run = at + n;
        at += n ? n : 1;
    }
    if (at >= x->len)
        return bad(x, "unexpected char: a string without end");
    jout_put(&o, x->text + run, at - run, false);
    JTRY(jout_take(&o, &t.value));
    JTRY(push(x, t));
    advance(x, at + 1);
    return ERR_OK;
}

/* Copies [start, end) without underscores. */
static bool plain_number(const struct lexer *x, size_t start, size_t end, char text[64])
{
    size_t n = 0;
    for (; start < end; start++) {
        if (x->text[start] == '_')
            continue;
        if (n == 63)
            return false;
        text[n++] = x->text[start];
    }
    text[n] = 0;
    return true;
}

static size_t digits(const struct lexer *x, size_t at, int base)
{
    while (at < x->len) {
        int d = x->text[at] == '_' ? 0 : hex_digit(x->text[at]);
        if (d < 0 || d >= base)
            break;
        at++;
    }
    return at;
}

static err lex_number(struct lexer *x)
{
    char text[64];
    size_t start = x->at, end;
    int base = 10;
    bool real = false;
    if (x->text[start] == '0' && start + 1 < x->len) {
        char c = x->text[start + 1] | 32;
        base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
    }
    if (base != 10)
        start += 2;
    end = digits(x, start, base);
    if (base == 10 && !(start > 0 && x->text[start - 1] == '.')) {
        if (end + 1 < x->len && x->text[end] == '.' && hex_digit(x->text[end + 1]) >= 0 &&
            jchar_digit((unsigned char)x->text[end + 1])) {
            end = digits(x, end + 1, 10);
            real = true;
        }
        if (end < x->len && (x->text[end] | 32) == 'e') {
            size_t sign = sign_length(x, end + 1), last = digits(x, end + 1 + sign, 10);
            if (last > end + 1 + sign) {
                end = last;
                real = true;
            }
        }
    }
    if (end == start || !plain_number(x, start, end, text))
        return bad(x, "a number of this form is not understood");
    errno = 0;
    struct jval v = real ? jfloat(strtod(text, NULL)) : jint(strtoll(text, NULL, base));
    if (!real && errno)
        return bad(x, "an integer beyond 64 bits");
    JTRY(push(x, (struct jtoken){.kind = JT_CONST, .value = v}));
    advance(x, end);
    return ERR_OK;
}

static err lex_op(struct lexer *x)
{
    static const char two[][3] = {"//", "**", "==", "!=", ">=", "<="};
    char c = x->text[x->at];
    for (size_t i = 0; i < sizeof two / sizeof two[0]; i++)
        if (at_text(x, x->at, two[i])) {
            JTRY(push(x, (struct jtoken){.kind = JT_OP, .op = JOP2(two[i][0], two[i][1])}));
            x->at += 2;
            return ERR_OK;
        }
    if (!c || !strchr("+-/*%~[](){}><=.:|,;", c))
        return bad(x, "unexpected character in a tag");
    if (strchr("([{", c)) {
        if (x->n_open == sizeof x->open)
            return bad(x, "brackets are nested too deeply");
        x->open[x->n_open++] = c == '(' ? ')' : (char)(c + 2);
    } else if (strchr(")]}", c)) {
        if (!x->n_open || x->open[x->n_open - 1] != c)
            return bad(x, "unexpected closing bracket");
        x->n_open--;
    }
    JTRY(push(x, (struct jtoken){.kind = JT_OP, .op = JOP1(c)}));
    x->at++;
    return ERR_OK;
}

static bool name_byte(char c)
{
    return c == '_' || jchar_digit((unsigned char)c) || ((c | 32) >= 'a' && (c | 32) <= 'z') || (c & 0x80);
}

static err lex_tag(struct lexer *x, bool print)
{
    const char *close = print ? "}}" : "%}";
    JTRY(push(x, (struct jtoken){.kind = print ? JT_PRINT_BEGIN : JT_BLOCK_BEGIN}));
    advance(x, x->at + 2 + sign_length(x, x->at + 2));
    x->n_open = 0;
    for (;;) {
        advance(x, skip_space(x, x->at));
        if (x->at >= x->len)
            return bad(x, "unexpected end of template");
        size_t end = x->n_open ? SIZE_MAX : tag_end(x, x->at, close, !print);
        if (end != SIZE_MAX) {
            JTRY(push(x, (struct jtoken){.kind = print ? JT_PRINT_END : JT_BLOCK_END}));
            end_tag(x, end);
            return ERR_OK;
        }
        char c = x->text[x->at];
        if (jchar_digit((unsigned char)c)) {
            JTRY(lex_number(x));
        } else if (name_byte(c)) {
            size_t stop = x->at;
            while (stop < x->len && name_byte(x->text[stop]))
                stop++;
            JTRY(push_text(x, JT_NAME, x->text + x->at, stop - x->at));
            x->at = stop;
        } else if (c == '"' || c == '\'') {
            JTRY(lex_string(x));
        } else {
            JTRY(lex_op(x));
        }
    }
}

/* ---- the whole ------------------------------------------------------------------------ */

/* \r\n and \r become \n; one newline at the end goes. */
static err normalize(struct lexer *x, const char *source, size_t len)
{
    char *text = jalloc(x->r, len + 1, 1);
    if (!text)
        return jrun_nomem(x->r);
    for (size_t i = 0; i < len; i++) {
        bool cr = source[i] == '\r';
        if (cr && i + 1 < len && source[i + 1] == '\n')
            continue;
        text[x->len++] = cr ? '\n' : source[i];
    }
    if (x->len && text[x->len - 1] == '\n')
        x->len--;
    x->text = text;
    return ERR_OK;
}

err jlex(struct jrun *r, const char *source, size_t len, struct jtoken **out)
{
    struct lexer x = {.r = r, .line = 1, .line_start = true};
    JTRY(normalize(&x, source, len));
    while (x.at < x.len) {
        size_t at = x.at;
        while (at < x.len &&
               !(x.text[at] == '{' && at + 1 < x.len && strchr("%{#", x.text[at + 1]) && x.text[at + 1]))
            at++;
        if (at >= x.len) {
            JTRY(push_text(&x, JT_DATA, x.text + x.at, x.len - x.at));
            break;
        }
        char kind = x.text[at + 1];
        size_t raw = kind == '%' ? raw_begin(&x, at) : SIZE_MAX;
        JTRY(data_before(&x, at, sign_length(&x, at + 2) ? x.text[at + 2] : 0, kind != '{'));
        if (raw != SIZE_MAX)
            JTRY(lex_raw(&x, raw));
        else if (kind == '#')
            JTRY(lex_comment(&x));
        else
            JTRY(lex_tag(&x, kind == '{'));
    }
    JTRY(push(&x, (struct jtoken){.kind = JT_END}));
    *out = x.token;
    return ERR_OK;
}
