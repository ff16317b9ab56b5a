/* small_files.h - files of a few MiB at most, written and copied whole. */
#ifndef CORDEE_MODEL_SMALL_FILES_H
#define CORDEE_MODEL_SMALL_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Made of letters, digits and . _ - alone, and of one at least: a name and never a path. */
bool plain_name(const char *name);

/* dir/name = len bytes of data, all of them or none. ERR_IO: the system's reason. */
MUST_CHECK err file_write(const char *dir, const char *name, const void *data, size_t len, struct why *why);
/* to/name = from/name. *found is set to true if there is such a file, and left alone if not. */
MUST_CHECK err file_copy(const char *from, const char *to, const char *name, bool *found, struct why *why);

#endif
