/* buf.c - growable bytes, JSON escaping and UTF-8.
 *
 * One decoder serves both the checker and the escaper, so they can never
 * disagree about what is valid: shortest form only, no surrogates, nothing past
 * U+10FFFF (RFC 3629).
 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b)
{
    *b = (struct buf){0};
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

/* Room for `more` bytes and the NUL behind them. */
static bool buf_reserve(struct buf *b, size_t more)
{
    size_t need, cap = b->cap;
    if (b->failed)
        return false;
    if (__builtin_add_overflow(b->len, more, &need) || __builtin_add_overflow(need, 1, &need))
        goto fail;
    if (b->limit && need - 1 > b->limit)
        goto fail;
    if (need <= cap)
        return true;
    cap = cap ? cap : 64;
    while (cap < need)
        if (__builtin_mul_overflow(cap, 2, &cap))
            goto fail;
    char *data = realloc(b->data, cap);
    if (!data)
        goto fail;
    b->data = data;
    b->cap = cap;
    return true;

fail:
    b->failed = true;
    return false;
}

void buf_put(struct buf *b, const void *src, size_t len)
{
    if (!len || !buf_reserve(b, len))
        return;
    memcpy(b->data + b->len, src, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0)
        b->failed = true;
    else if (n > 0 && buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_drop(struct buf *b, size_t n)
{
    if (!n)
        return;
    if (n > b->len)
        n = b->len;
    b->len -= n;
    if (b->data) {
        memmove(b->data, b->data + n, b->len);
        b->data[b->len] = '\0';
    }
}

char *buf_take(struct buf *b, size_t *len)
{
    char *data = b->data;
    if (len)
        *len = b->len;
    *b = (struct buf){0};
    return data;
}

int utf8_decode(const char *s, size_t len, uint32_t *cp)
{
    const unsigned char *u = (const unsigned char *)s;
    if (!len)
        return 0;
    unsigned char lead = u[0];
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4)
        return -1;
    int n = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    /* The second byte's range rules out long forms, surrogates and > U+10FFFF. */
    unsigned char lo = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char hi = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    uint32_t c = lead & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((size_t)i >= len)
            return -i;
        if (u[i] < lo || u[i] > hi)
            return -i;
        c = c << 6 | (u[i] & 0x3f);
        lo = 0x80;
        hi = 0xbf;
    }
    *cp = c;
    return n;
}

size_t utf8_valid_prefix(const char *s, size_t len)
{
    size_t at = 0;
    while (at < len) {
        uint32_t cp;
        int n = utf8_decode(s + at, len - at, &cp);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    return at;
}

static void put_u16(struct buf *b, unsigned unit)
{
    static const char hex[] = "0123456789abcdef";
    char s[6] = {'\\', 'u', hex[unit >> 12 & 15], hex[unit >> 8 & 15], hex[unit >> 4 & 15], hex[unit & 15]};
    buf_put(b, s, sizeof s);
}

static void put_escaped(struct buf *b, uint32_t cp)
{
    static const char short_form[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    const char *p = cp && cp < 0x80 ? strchr(short_form, (int)cp) : NULL;
    if (p) {
        char s[2] = {'\\', letter[p - short_form]};
        buf_put(b, s, sizeof s);
    } else if (cp > 0xffff) {
        put_u16(b, 0xd800 + ((cp - 0x10000) >> 10));
        put_u16(b, 0xdc00 + ((cp - 0x10000) & 0x3ff));
    } else {
        put_u16(b, cp);
    }
}

void buf_put_json(struct buf *b, const char *s, size_t len, bool ascii)
{
    size_t plain = 0; /* start of the run that can be copied as it is */
    buf_putc(b, '"');
    for (size_t at = 0; at < len;) {
        uint32_t cp = 0;
        int n = utf8_decode(s + at, len - at, &cp);
        if (n > 0 && cp >= 0x20 && cp != '"' && cp != '\\' && !(ascii && cp > 0x7e)) {
            at += (size_t)n;
            continue;
        }
        buf_put(b, s + plain, at - plain);
        if (n > 0)
            put_escaped(b, cp);
        else if (ascii)
            put_u16(b, 0xfffd);
        else
            buf_puts(b, "\xef\xbf\xbd");
        at += (size_t)(n > 0 ? n : -n);
        plain = at;
    }
    buf_put(b, s + plain, len - plain);
    buf_putc(b, '"');
}
