/* mapped.h - a file mapped for reading.
 *
 * Weights stay in the page cache and are shared by all processes of a node; a
 * restarted rank finds them warm. It asks for huge pages. The mapping lives until mapped_close(). A file
 * that somebody truncates while it is mapped is a SIGBUS: model files are not
 * edited in place.
 */
#ifndef CORDEE_MODEL_MAPPED_H
#define CORDEE_MODEL_MAPPED_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct mapped {
    const uint8_t *data; /* NULL iff size == 0 */
    size_t size;
};

/* Regular files only. ERR_NOTFOUND: no such file; ERR_IO: the system's reason. */
MUST_CHECK err mapped_open(const char *path, struct mapped *out, struct why *why);
void mapped_close(struct mapped *m); /* zeroed or closed is fine */

/* Hint: these bytes will be read soon, in order. */
void mapped_will_need(const void *data, size_t bytes);

#endif
