/* buf.h - a growable byte buffer.
 *
 * Failure to grow is sticky (`failed`): a caller may append many times and
 * check once. Always NUL-terminated behind `len` when non-empty.
 */
#ifndef CORDEE_BASE_BUF_H
#define CORDEE_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct buf {
    char *data; /* owned; NULL when empty */
    size_t len, cap;
    size_t limit; /* 0: none; else growing past it fails, as having no memory does */
    bool failed;
};

void buf_init(struct buf *b);
void buf_fini(struct buf *b);
void buf_clear(struct buf *b); /* len = 0, keeps memory and limit, clears `failed` */
void buf_put(struct buf *b, const void *src, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Drops the first n bytes. */
void buf_drop(struct buf *b, size_t n);
/* Moves the bytes out (caller frees); the buffer is empty afterwards. */
char *buf_take(struct buf *b, size_t *len);
/* Appends s as a JSON string with quotes. Invalid UTF-8 becomes U+FFFD.
 * ascii: everything above 0x7e as \uXXXX. */
void buf_put_json(struct buf *b, const char *s, size_t len, bool ascii);

/* Decodes the first character of s[0..len), RFC 3629: no long forms, no
 * surrogates. n > 0: its length, *cp set. n < 0: the first -n bytes (1..3) are
 * not valid, one replacement character stands for them. 0: len is 0. */
int utf8_decode(const char *s, size_t len, uint32_t *cp);

/* Length of the valid UTF-8 prefix of s[0..len). */
size_t utf8_valid_prefix(const char *s, size_t len);

#endif
