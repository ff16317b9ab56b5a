/* lines.h - a JSONL input file: indexed once, read line by line, never held whole.
 *
 * Opening reads the file once: SHA-256 of its bytes, where its lines start, and that no
 * two lines have the same id. Blank lines do not count. Memory: 24 bytes a line.
 *
 * Threads: single owner.
 */
#ifndef CORDEE_COORDINATOR_LINES_H
#define CORDEE_COORDINATOR_LINES_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { LINES_MAX_BYTES = 64 << 20 }; /* of one line */

struct lines;

/* id_key: the member that names a line ("custom_id"). Lines that are not JSON objects
 * or have no such string are no error here.
 * ERR_INVAL   two lines with one id (both line numbers), a line too long
 * ERR_IO      not a readable regular file */
MUST_CHECK err lines_open(const char *path, const char *id_key, struct lines **out, struct why *why);
void lines_close(struct lines *l); /* NULL is fine */

int64_t lines_count(const struct lines *l);
const char *lines_sha256(const struct lines *l); /* 64 hex digits */
/* Of the i-th line, i < lines_count(): its number in the file, from 1. */
int64_t lines_number(const struct lines *l, int64_t i);
/* Its bytes without the line end; replaces *out. */
MUST_CHECK err lines_get(struct lines *l, int64_t i, struct buf *out, struct why *why);

#endif
