/* small_files.c - see small_files.h. */
#include "model/small_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

bool plain_name(const char *name)
{
    return name[0] &&
           !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")];
}

/* All of it to an open descriptor, and to the disk. */
static bool put_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return fchmod(fd, 0644) == 0 && fsync(fd) == 0;
}

/* Under a name of its own first: whoever reads it meanwhile, or writes it too, finds a whole file. */
err file_write(const char *dir, const char *name, const void *data, size_t len, struct why *why)
{
    char *path = NULL, *part = NULL;
    int fd = -1;
    err e = ERR_OK;
    if (asprintf(&path, "%s/%s", dir, name) < 0 || asprintf(&part, "%s.XXXXXX", path) < 0)
        FAIL(ERR_NOMEM, "%s", name);
    fd = mkostemp(part, O_CLOEXEC);
    if (fd < 0)
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    if (!put_all(fd, data, len) || rename(part, path) != 0) {
        e = why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
        unlink(part);
    }
out:
    if (fd >= 0)
        close(fd);
    free(part);
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
