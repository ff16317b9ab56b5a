/* stop.h - finds stop strings in text that arrives in pieces.
 *
 * An Aho-Corasick automaton over the bytes of all stop strings: one step per byte
 * whatever their number, and its depth is exactly how much of the text must be held
 * back because it may still become a stop string. The match is the one that ends
 * first, and of those that end together the longest; it does not depend on how the
 * text was cut into tokens.
 *
 * A set is immutable once open and may be shared; the position is one integer that
 * the caller keeps per text, 0 at the start.
 */
#ifndef CORDEE_COORDINATOR_STOP_H
#define CORDEE_COORDINATOR_STOP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct stop_set;

struct stop_string {
    const char *text;
    size_t len; /* >= 1 */
};

/* Strings are copied. n == 0 gives a set that matches nothing.
 * ERR_INVAL: an empty string or not UTF-8; ERR_LIMIT: over STOP_MAX_BYTES in all */
enum { STOP_MAX_BYTES = 65536 };
MUST_CHECK err stop_open(const struct stop_string *strings, int n, struct stop_set **out, struct why *why);
void stop_close(struct stop_set *s); /* NULL is fine */

/* Feeds bytes until the first match or the end. Returns the number of bytes taken;
 * *match is the index of the string that ends there, or -1. */
size_t stop_feed(const struct stop_set *s, uint32_t *position, const char *text, size_t len, int *match);

/* Bytes at the end of what was fed that may still become a stop string. */
size_t stop_held(const struct stop_set *s, uint32_t position);

size_t stop_length(const struct stop_set *s, int i);
const char *stop_text(const struct stop_set *s, int i);

#endif
