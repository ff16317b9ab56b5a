/* small_files.c - see small_files.h. */
#include "model/small_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

err file_write(const char *dir, const char *name, const void *data, size_t len, struct why *why)
{
    char *path = NULL;
    err e = ERR_OK;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return why_set(why, ERR_NOMEM, "%s", name);
    FILE *f = fopen(path, "we");
    bool good = f && fwrite(data, 1, len, f) == len && fflush(f) == 0;
    if (!good)
        e = why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    if (f && fclose(f) != 0 && e == ERR_OK)
        e = why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    free(path);
    return e;
}

err file_copy(const char *from, const char *to, const char *name, bool *found, struct why *why)
{
    char *path = NULL, part[65536];
    struct buf text = {0};
    size_t n;
    err e = ERR_OK;
    if (asprintf(&path, "%s/%s", from, name) < 0)
        return why_set(why, ERR_NOMEM, "%s", name);
    FILE *f = fopen(path, "re");
    if (!f && errno == ENOENT)
        goto out;
    if (!f)
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        buf_put(&text, part, n);
    if (ferror(f) || text.failed)
        FAIL(ERR_IO, "%s: cannot be read", path);
    e = file_write(to, name, text.data ? text.data : "", text.len, why);
    *found = true;
out:
    if (f)
        fclose(f);
    buf_fini(&text);
    free(path);
    return e;
}
