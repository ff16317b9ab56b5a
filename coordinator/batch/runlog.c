/* runlog.c - see runlog.h.
 *
 * Not SQLite, because its WAL does not work on the shared file systems that clusters
 * have; not one file per result, because metadata servers hate that.
 *
 * The lock is an open-file-description lock (fcntl): it ends with the process however
 * that ends, and NFS passes it to the server. File systems without locks (Lustre mounted
 * without flock) get a lock file with host and pid instead; one that its owner left
 * behind on this host is taken over, one of another host is for a person to judge.
 */
#include "coordinator/batch/runlog.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"

#define MAGIC 0x314c5243u /* "CRL1" */

struct head {
    uint32_t magic, kind, len, zero;
    uint64_t sum;
};
_Static_assert(sizeof(struct head) == 24, "layout on disk");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "heads are written as they lie in memory");

struct runlog {
    int fd;
    char *path, *lock_path; /* lock_path NULL: an fcntl lock */
    uint64_t end;           /* of the last good record */
    struct buf record;
};

err runlog_write_error(const char *path, int number, struct why *why)
{
    if (number == ENOSPC || number == EDQUOT)
        return why_set(why, ERR_IO, "%s: %s; nothing is lost: make room and run the same command again", path,
                       number == EDQUOT ? "the disk quota is used up (EDQUOT)" : "no space left on the disk (ENOSPC)");
    return why_set(why, ERR_IO, "%s: %s", path, strerror(number));
}

static uint64_t sum_of(uint32_t kind, const void *a, size_t a_len, const void *b, size_t b_len)
{
    uint64_t seed = (uint64_t)kind << 32 | (uint32_t)(a_len + b_len), sum = 0;
    XXH3_state_t *s = XXH3_createState();
    if (!s)
        return 0;
    XXH3_64bits_reset_withSeed(s, seed);
    if (a_len)
        XXH3_64bits_update(s, a, a_len);
    if (b_len)
        XXH3_64bits_update(s, b, b_len);
    sum = XXH3_64bits_digest(s);
    XXH3_freeState(s);
    return sum;
}

bool runlog_is_empty(const struct runlog *l)
{
    return l->end == 0;
}

const char *runlog_path(const struct runlog *l)
{
    return l->path;
}

/* ---- the lock ---------------------------------------------------------------------- */

/* True when the lock file names a process of this host that is gone. */
static bool lock_is_stale(const char *path)
{
    char text[300] = "", host[256] = "", here[256] = "";
    long pid = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    gethostname(here, sizeof here - 1);
    return n > 0 && sscanf(text, "%255s %ld", host, &pid) == 2 && pid > 0 && strcmp(host, here) == 0 &&
           kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

static err lock_by_file(struct runlog *l, struct why *why)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    if (asprintf(&l->lock_path, "%s.lock", l->path) < 0) {
        l->lock_path = NULL;
        return why_set(why, ERR_NOMEM, "run log");
    }
    if (lock_is_stale(l->lock_path))
        unlink(l->lock_path);
    int fd = open(l->lock_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        int number = errno;
        err e = number == EEXIST ? why_set(why, ERR_FULL, "%s: the run is in use; if it is not, remove this file",
                                           l->lock_path)
                                 : why_set(why, ERR_IO, "%s: %s", l->lock_path, strerror(number));
        free(l->lock_path);
        l->lock_path = NULL; /* not ours to remove */
        return e;
    }
    dprintf(fd, "%s %ld\n", host, (long)getpid());
    close(fd);
    return ERR_OK;
}

static err lock(struct runlog *l, struct why *why)
{
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(l->fd, F_OFD_SETLK, &all) == 0)
        return ERR_OK;
    if (errno == EAGAIN || errno == EACCES)
        return why_set(why, ERR_FULL, "%s: another process is working on this run", l->path);
    if (errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL)
        return lock_by_file(l, why);
    return why_set(why, ERR_IO, "%s: lock: %s", l->path, strerror(errno));
}

/* ---- reading ------------------------------------------------------------------------ */

/* ERR_FORMAT: the file ends before. */
static err read_all(const struct runlog *l, void *to, size_t len, uint64_t at, struct why *why)
{
    char *p = to;
    while (len > 0) {
        ssize_t n = pread(l->fd, p, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return why_set(why, ERR_IO, "%s: %s", l->path, strerror(errno));
        if (n == 0)
            return why_set(why, ERR_FORMAT, "%s: ends within a record", l->path);
        p += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return ERR_OK;
}

/* One record into l->record. ERR_FORMAT: there is no whole, good one. */
static err record_at(struct runlog *l, uint64_t at, struct head *h, struct why *why)
{
    err e;
    TRY(read_all(l, h, sizeof *h, at, why));
    if (h->magic != MAGIC || h->zero || h->len > RUNLOG_MAX_BODY)
        FAIL(ERR_FORMAT, "%s: no record at %llu", l->path, (unsigned long long)at);
    if (l->record.cap < (size_t)h->len + 1) {
        char *data = realloc(l->record.data, (size_t)h->len + 1);
        if (!data)
            FAIL(ERR_NOMEM, "a record of %u bytes", h->len);
        l->record.data = data;
        l->record.cap = (size_t)h->len + 1;
    }
    TRY(read_all(l, l->record.data, h->len, at + sizeof *h, why));
    l->record.data[h->len] = 0;
    l->record.len = h->len;
    if (sum_of(h->kind, l->record.data, h->len, NULL, 0) != h->sum)
        FAIL(ERR_FORMAT, "%s: the record at %llu is damaged", l->path, (unsigned long long)at);
out:
    return e;
}

err runlog_each(struct runlog *l, runlog_record_fn *fn, void *ctx, struct why *why)
{
    struct head h = { 0 };
    err e = ERR_OK;
    for (uint64_t at = 0; at < l->end; at += sizeof h + h.len) {
        TRY(record_at(l, at, &h, why));
        TRY(fn(ctx, h.kind, at, l->record.data, l->record.len, why));
    }
out:
    return e;
}

err runlog_read(struct runlog *l, uint64_t offset, struct buf *body, struct why *why)
{
    struct head h;
    err e = record_at(l, offset, &h, why);
    if (e != ERR_OK)
        return e;
    buf_clear(body);
    buf_put(body, l->record.data, l->record.len);
    return body->failed ? why_set(why, ERR_NOMEM, "run log") : ERR_OK;
}

/* Finds the end of the good records and cuts off the rest. */
static err recover(struct runlog *l, struct why *why)
{
    struct stat st;
    struct head h = { 0 };
    uint32_t magic = MAGIC;
    err e = ERR_OK;
    if (fstat(l->fd, &st) != 0)
        return why_set(why, ERR_IO, "%s: %s", l->path, strerror(errno));
    if (st.st_size >= (off_t)sizeof magic)
        e = read_all(l, &magic, sizeof magic, 0, why);
    if (e != ERR_OK)
        return e;
    if (!S_ISREG(st.st_mode) || (magic != MAGIC && magic != 0))
        return why_set(why, ERR_FORMAT, "%s: not the journal of a run; move it away", l->path);
    while (l->end < (uint64_t)st.st_size && (e = record_at(l, l->end, &h, why)) == ERR_OK)
        l->end += sizeof h + h.len;
    if (e != ERR_OK && e != ERR_FORMAT)
        return e;
    if (l->end == (uint64_t)st.st_size)
        return ERR_OK;
    log_warn("%s: %llu bytes of an unfinished record are cut off", l->path,
             (unsigned long long)st.st_size - (unsigned long long)l->end);
    return ftruncate(l->fd, (off_t)l->end) == 0 ? ERR_OK : runlog_write_error(l->path, errno, why);
}

/* ---- writing ------------------------------------------------------------------------- */

static int write_parts(int fd, struct iovec *v, int n, uint64_t at)
{
    while (n > 0) {
        ssize_t put = pwritev(fd, v, n, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? errno : ENOSPC;
        at += (uint64_t)put;
        for (; n > 0 && (size_t)put >= v->iov_len; v++, n--)
            put -= (ssize_t)v->iov_len;
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + put;
            v->iov_len -= (size_t)put;
        }
    }
    return 0;
}

err runlog_append(struct runlog *l, uint32_t kind, const void *a, size_t a_len, const void *b, size_t b_len,
                  uint64_t *offset, struct why *why)
{
    if (a_len > RUNLOG_MAX_BODY || b_len > RUNLOG_MAX_BODY - a_len)
        return why_set(why, ERR_LIMIT, "a result of %zu bytes is too long for the journal", a_len + b_len);
    struct head h = { MAGIC, kind, (uint32_t)(a_len + b_len), 0, sum_of(kind, a, a_len, b, b_len) };
    struct iovec v[3] = { { &h, sizeof h }, { (void *)(uintptr_t)a, a_len }, { (void *)(uintptr_t)b, b_len } };
    int number = write_parts(l->fd, v, b_len ? 3 : 2, l->end);
    if (number) {
        if (ftruncate(l->fd, (off_t)l->end) != 0)
            log_warn("%s: %s", l->path, strerror(errno)); /* the next open does it */
        return runlog_write_error(l->path, number, why);
    }
    if (offset)
        *offset = l->end;
    l->end += sizeof h + h.len;
    return ERR_OK;
}

err runlog_sync(struct runlog *l, struct why *why)
{
    return fdatasync(l->fd) == 0 ? ERR_OK : runlog_write_error(l->path, errno, why);
}

/* ---- open and close --------------------------------------------------------------------- */

err runlog_open(const char *path, struct runlog **out, struct why *why)
{
    err e;
    struct runlog *l = calloc(1, sizeof *l);
    if (!l)
        return why_set(why, ERR_NOMEM, "run log");
    l->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    l->path = strdup(path);
    if (l->fd < 0)
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    if (!l->path)
        FAIL(ERR_NOMEM, "run log");
    TRY(lock(l, why));
    TRY(recover(l, why));
    *out = l;
    l = NULL;
out:
    runlog_close(l);
    return e;
}

void runlog_close(struct runlog *l)
{
    if (!l)
        return;
    if (l->fd >= 0)
        close(l->fd);
    if (l->lock_path)
        unlink(l->lock_path);
    free(l->lock_path);
    free(l->path);
    buf_fini(&l->record);
    free(l);
}
