/* jinja_str.h - marked strings: building, slicing, searching, letter case.
 *
 * Positions and lengths are bytes unless a name says chars. Strings are valid
 * UTF-8 (JSON made them so) except where a template's own source is not; such
 * bytes count as one character each.
 */
#ifndef CORDEE_API_JINJA_STR_H
#define CORDEE_API_JINJA_STR_H

#include "api/jinja_value.h"
#include "base/buf.h"

/* A string under construction. Failure is sticky; jout_take() reports it. */
struct jout {
    struct jrun *r;
    char *text, *mark; /* [cap] each */
    size_t len, cap, limit;
    bool any_user, any_own, failed;
};
void jout_init(struct jout *o, struct jrun *r);
void jout_put(struct jout *o, const char *text, size_t len, bool user);
void jout_puts(struct jout *o, const char *text);
void jout_printf(struct jout *o, const char *fmt, ...) PRINTF_LIKE(2, 3);
void jout_str(struct jout *o, const struct jstr *s);
/* One code point in UTF-8. */
void jout_char(struct jout *o, uint32_t cp, bool user);
MUST_CHECK err jout_check(const struct jout *o);
MUST_CHECK err jout_take(struct jout *o, struct jval *out);

/* The template's own text, copied. */
MUST_CHECK err jstr_own(struct jrun *r, const char *text, size_t len, struct jval *out);
/* Shares the bytes of s; start <= end <= s->len. */
MUST_CHECK err jstr_slice(struct jrun *r, const struct jstr *s, size_t start, size_t end, struct jval *out);
/* a + b as plain text, whatever was Markup; grows a's block in place when a ends it, so a
 * string built piece by piece costs its length once. */
MUST_CHECK err jstr_concat(struct jrun *r, const struct jstr *a, const struct jstr *b, struct jval *out);
/* & < > " ' as entities; the result is Markup. */
MUST_CHECK err jstr_escape(struct jrun *r, const struct jstr *s, struct jval *out);
MUST_CHECK err jstr_as_markup(struct jrun *r, const struct jstr *s, bool markup, struct jval *out);

/* Length in bytes of the character at s->text[at], >= 1; *cp its code point. */
size_t jstr_char(const struct jstr *s, size_t at, uint32_t *cp);
/* Start of the character that ends at `at` > 0. */
size_t jstr_back(const struct jstr *s, size_t at);
size_t jstr_chars(const struct jstr *s);
/* Byte position of the i-th character, s->len when there are fewer. */
size_t jstr_byte_of(const struct jstr *s, size_t i_char);
bool jstr_user_at(const struct jstr *s, size_t at);

bool jstr_equal(const struct jstr *a, const struct jstr *b);
bool jstr_is(const struct jstr *s, const char *text);
/* By code point, which for UTF-8 is by byte. -1, 0, 1. */
int jstr_order(const struct jstr *a, const struct jstr *b);
/* First occurrence at or after `from`, SIZE_MAX when there is none; last likewise. */
size_t jstr_find(const struct jstr *s, const struct jstr *what, size_t from);
size_t jstr_find_last(const struct jstr *s, const struct jstr *what, size_t end);

/* s.strip(set): set NULL is white space. */
enum jstrip { JSTRIP_LEFT = 1, JSTRIP_RIGHT = 2 };
MUST_CHECK err jstr_strip(struct jrun *r, const struct jstr *s, const struct jstr *set, unsigned sides,
                          struct jval *out);

/* TITLE_WORD: the first letter of each run of letters, str.title(). */
enum jcase { JCASE_UPPER, JCASE_LOWER, JCASE_TITLE, JCASE_CAPITAL, JCASE_SWAP };
MUST_CHECK err jstr_case(struct jrun *r, const struct jstr *s, enum jcase how, struct jval *out);

/* Python's views of a character. */
bool jchar_space(uint32_t cp);
bool jchar_alpha(uint32_t cp);
bool jchar_digit(uint32_t cp);
bool jchar_upper(uint32_t cp);
bool jchar_lower(uint32_t cp);
bool jchar_printable(uint32_t cp);
bool jchar_line_break(uint32_t cp);
uint32_t jchar_to_lower(uint32_t cp);

/* str(v), shared when it is a string already, and repr(v). */
MUST_CHECK err jto_str(struct jrun *r, struct jval v, const struct jstr **out);
MUST_CHECK err jput_str(struct jout *o, struct jval v);
MUST_CHECK err jput_repr(struct jout *o, struct jval v);
/* repr(f) into text[32]. */
void jfloat_repr(double f, char text[32]);

#endif
