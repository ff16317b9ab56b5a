/* text.h - UTF-8 and Unicode character classes for the tokenizer.
 *
 * Every text inside the pipeline is valid UTF-8 (checked once at its door), so
 * the inline readers below do not check again. The classes are those that
 * published tokenizers rely on: White_Space without U+180E, general categories
 * from utf8proc.
 */
#ifndef CORDEE_TOKENIZER_TEXT_H
#define CORDEE_TOKENIZER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that starts with this lead byte: 1..4. */
static inline size_t utf8_size(unsigned char lead)
{
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* Code point at s[0..left), valid UTF-8, left >= 1; *size: its bytes. */
static inline uint32_t utf8_get(const char *s, size_t *size)
{
    const unsigned char *u = (const unsigned char *)s;
    *size = utf8_size(u[0]);
    switch (*size) {
    case 1:
        return u[0];
    case 2:
        return (uint32_t)(u[0] & 0x1f) << 6 | (u[1] & 0x3f);
    case 3:
        return (uint32_t)(u[0] & 0x0f) << 12 | (uint32_t)(u[1] & 0x3f) << 6 | (u[2] & 0x3f);
    default:
        return (uint32_t)(u[0] & 0x07) << 18 | (uint32_t)(u[1] & 0x3f) << 12 |
               (uint32_t)(u[2] & 0x3f) << 6 | (u[3] & 0x3f);
    }
}

/* What the steps of a list may make of len bytes: `times` as much, and a prefix. Without a bound a file of
 * two kilobytes, each of whose steps replaces nothing by much, would ask for all memory there is. */
static inline size_t text_growth_limit(size_t len, size_t times)
{
    return times * len + 4096;
}

/* Start of the last character of s[0..len), len >= 1. */
static inline size_t utf8_last(const char *s, size_t len)
{
    size_t i = len - 1;
    while (i > 0 && ((unsigned char)s[i] & 0xc0) == 0x80)
        i--;
    return i;
}

/* Writes cp (not checked) to dst[4]; returns its bytes. */
size_t utf8_put(char *dst, uint32_t cp);

bool cp_is_space(uint32_t cp);   /* White_Space */
bool cp_is_numeric(uint32_t cp); /* Nd, Nl, No */
bool cp_is_punct(uint32_t cp);   /* ASCII punctuation or P* */
bool cp_is_word(uint32_t cp);    /* Rust's \w: Alphabetic, marks, Nd, Pc, joiners */
bool cp_is_mark(uint32_t cp);    /* Mn, Mc, Me */
bool cp_is_mark_nonspacing(uint32_t cp);
bool cp_is_other(uint32_t cp);   /* Cc, Cf, Co */
bool cp_is_cjk(uint32_t cp);     /* the ideograph ranges that BERT isolates */

#define META "\xe2\x96\x81" /* U+2581, SentencePiece's visible space */
#define META_CP 0x2581u

/* FNV-1a with a final mix; for hash tables over short strings. */
static inline uint64_t text_hash(const char *s, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u ^ len;
    while (len >= 8) {
        uint64_t w;
        __builtin_memcpy(&w, s, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
        s += 8;
        len -= 8;
    }
    for (; len > 0; len--)
        h = (h ^ (unsigned char)*s++) * 0x100000001b3u;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    return h ^ h >> 32;
}

#endif
