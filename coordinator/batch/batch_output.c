/* batch_output.c - see batch_output.h.
 *
 * The log is written first, so after a crash an output file holds fewer lines than the
 * log, or half of one, or (machine crash) pages of zeros. Comparing while the log is
 * read anyway makes one rule of all: the file becomes what the log says.
 */
#include "coordinator/batch/batch_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "coordinator/batch/runlog.h"

err batch_output_open(struct batch_output *o, const char *path, struct why *why)
{
    struct stat st;
    *o = (struct batch_output){ .path = strdup(path), .fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) };
    if (o->fd < 0 || fstat(o->fd, &st) != 0) {
        err e = why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
        batch_output_close(o);
        return e;
    }
    if (!o->path) {
        close(o->fd);
        return why_set(why, ERR_NOMEM, "%s", path);
    }
    o->size = (uint64_t)st.st_size;
    return ERR_OK;
}

void batch_output_close(struct batch_output *o)
{
    if (o->path && o->fd >= 0)
        close(o->fd);
    free(o->path);
    *o = (struct batch_output){ .fd = -1 };
}

/* The file holds these bytes at `end` already. */
static bool holds(const struct batch_output *o, const char *p, size_t len)
{
    char part[65536];
    uint64_t at = o->end;
    if (at + len > o->size)
        return false;
    while (len > 0) {
        ssize_t n = pread(o->fd, part, len < sizeof part ? len : sizeof part, (off_t)at);
        if (n <= 0 || memcmp(part, p, (size_t)n) != 0)
            return false;
        p += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return true;
}

err batch_output_cut(struct batch_output *o, struct why *why)
{
    if (o->size > o->end && ftruncate(o->fd, (off_t)o->end) != 0)
        return runlog_write_error(o->path, errno, why);
    o->size = o->end;
    return ERR_OK;
}

static err put(struct batch_output *o, const char *p, size_t len, struct why *why)
{
    err e;
    if (holds(o, p, len)) {
        o->end += len;
        return ERR_OK;
    }
    TRY(batch_output_cut(o, why));
    while (len > 0) {
        ssize_t n = pwrite(o->fd, p, len, (off_t)o->end);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return runlog_write_error(o->path, n < 0 ? errno : ENOSPC, why);
        p += n;
        len -= (size_t)n;
        o->end += (uint64_t)n;
        o->size = o->end;
    }
out:
    return e;
}

err batch_output_put(struct batch_output *o, const char *line, size_t len, struct why *why)
{
    err e;
    TRY(put(o, line, len, why));
    TRY(put(o, "\n", 1, why));
out:
    return e;
}

err batch_output_sync(struct batch_output *o, struct why *why)
{
    return fsync(o->fd) == 0 ? ERR_OK : runlog_write_error(o->path, errno, why);
}
