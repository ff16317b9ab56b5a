/* keys.h - API keys: who may ask.
 *
 * Keys come from configuration as text (an environment variable's value, or a file
 * with one key a line; blank lines and lines that start with '#' do not count).
 * Checking takes the same time whichever key is right and wherever a wrong one
 * differs. Immutable once open: any thread may check.
 */
#ifndef CORDEE_API_KEYS_H
#define CORDEE_API_KEYS_H

#include "base/err.h"

struct keys;

/* value: one key, or NULL; path: a file of keys, or NULL; both may be given.
 * Neither: *out is NULL, which lets everyone in.
 * ERR_IO  the file cannot be read; ERR_INVAL  no key in it, or one with spaces */
MUST_CHECK err keys_open(const char *value, const char *path, struct keys **out, struct why *why);
void keys_close(struct keys *k); /* NULL is fine; wipes the memory */

/* authorization: the header's value ("Bearer KEY") or NULL. Returns the key's
 * number (0 when keys is NULL: open to all), or -1: refused. */
int keys_check(const struct keys *k, const char *authorization);

#endif
