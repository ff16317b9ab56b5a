/* packed_writer.c - writing packed files; see packed_file.h.
 *
 * Data goes to PATH.part as it comes; head and table, which need the sums, are written
 * last, and only a file that is whole and on the disk gets its name. So whoever finds
 * PATH finds all of it, whatever happened to the program that wrote it.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "model/packed_file.h"

struct packed_writer {
    char *path, *part;
    int fd;
    struct packed_head head;
    struct packed_entry *entries; /* [head.n_entries] */
    XXH3_state_t *state;          /* of the entry under way */
    uint64_t done;                /* bytes of it */
    uint32_t at;                  /* its number */
};

static err write_at(const struct packed_writer *w, const void *data, size_t bytes, uint64_t where,
                    struct why *why)
{
    const char *from = data;
    while (bytes) {
        ssize_t n = pwrite(w->fd, from, bytes, (off_t)where);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return why_set(why, ERR_IO, "%s: %s", w->part, n ? strerror(errno) : "nothing could be written");
        from += n;
        where += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return ERR_OK;
}

/* Gives every entry its place, and the head what follows from that. */
static void place_entries(struct packed_writer *w)
{
    struct packed_head *h = &w->head;
    uint64_t at = 0;
    for (uint32_t i = 0; i < h->n_entries; i++) {
        w->entries[i].offset = at;
        at += w->entries[i].bytes;
    }
    h->data = packed_file_data(h->n_entries);
    h->data_bytes = at;
}

/* Room on the disk before the work, not after hours of it. */
static err reserve(const struct packed_writer *w, struct why *why)
{
    const uint64_t bytes = w->head.data + w->head.data_bytes;
    int code = posix_fallocate(w->fd, 0, (off_t)bytes);
    if (code == ENOSPC || code == EFBIG)
        return why_set(why, ERR_IO, "%s: %s: the file takes %.2f GiB", w->part, strerror(code),
                       (double)bytes / 0x1p30);
    if (code) /* a file system that cannot tell: writing will */
        return ftruncate(w->fd, (off_t)bytes) == 0 ? ERR_OK
                                                   : why_set(why, ERR_IO, "%s: %s", w->part, strerror(errno));
    return ERR_OK;
}

/* Two programs that write one file would write into each other's: the second is refused. */
static err open_part(struct packed_writer *w, struct why *why)
{
    struct stat mine, there;
    int fd = open(w->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return why_set(why, ERR_IO, "%s: %s", w->part, strerror(errno));
    bool taken = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; /* else: perhaps no locks there */
    /* The other one may have finished in between: then this is the file that has its name by now. */
    if (taken || fstat(fd, &mine) != 0 || stat(w->part, &there) != 0 || mine.st_ino != there.st_ino) {
        close(fd);
        return why_set(why, ERR_IO, "%s: another program is writing it", w->part);
    }
    w->fd = fd;
    return ftruncate(fd, 0) == 0 ? ERR_OK : why_set(why, ERR_IO, "%s: %s", w->part, strerror(errno));
}

err packed_writer_open(const char *path, const struct packed_head *head, const struct packed_entry *entries,
                       int n, struct packed_writer **out, struct why *why)
{
    err e;
    struct packed_writer *w = calloc(1, sizeof *w);
    if (!w)
        FAIL(ERR_NOMEM, "%s: no memory", path);
    w->fd = -1;
    w->path = strdup(path);
    w->state = XXH3_createState();
    w->entries = calloc((size_t)n + 1, sizeof *entries);
    if (!w->path || !w->state || !w->entries || asprintf(&w->part, "%s.part", path) < 0)
        FAIL(ERR_NOMEM, "%s: no memory", path);
    memcpy(w->entries, entries, (size_t)n * sizeof *entries);
    w->head = *head;
    memcpy(w->head.magic, PACKED_MAGIC, sizeof w->head.magic);
    w->head.version = PACKED_FILE_VERSION;
    w->head.layout = PACK_VERSION;
    w->head.n_entries = (uint32_t)n;
    w->head.reserved = 0;
    place_entries(w);
    XXH3_64bits_reset(w->state);
    TRY(open_part(w, why));
    TRY(reserve(w, why));
    *out = w;
    w = NULL;
out:
    packed_writer_close(w);
    return e;
}

/* The entry under way is complete. */
static void end_entry(struct packed_writer *w)
{
    w->entries[w->at++].sum = XXH3_64bits_digest(w->state);
    XXH3_64bits_reset(w->state);
    w->done = 0;
}

err packed_writer_put(struct packed_writer *w, int i, const void *data, size_t bytes, struct why *why)
{
    const struct packed_entry *x = &w->entries[i];
    assert((uint32_t)i == w->at && bytes <= x->bytes - w->done);
    err e = write_at(w, data, bytes, w->head.data + x->offset + w->done, why);
    if (e)
        return e;
    XXH3_64bits_update(w->state, data, bytes);
    w->done += bytes;
    if (w->done == x->bytes)
        end_entry(w);
    return ERR_OK;
}

err packed_writer_finish(struct packed_writer *w, struct why *why)
{
    err e;
    const size_t table = w->head.n_entries * sizeof *w->entries;
    assert(w->at == w->head.n_entries);
    w->head.sum = 0;
    XXH3_64bits_update(w->state, &w->head, sizeof w->head);
    XXH3_64bits_update(w->state, w->entries, table);
    w->head.sum = XXH3_64bits_digest(w->state);
    TRY(write_at(w, &w->head, sizeof w->head, 0, why));
    TRY(write_at(w, w->entries, table, sizeof w->head, why));
    if (fsync(w->fd) != 0 || rename(w->part, w->path) != 0)
        FAIL(ERR_IO, "%s: %s", w->part, strerror(errno));
    close(w->fd);
    w->fd = -1;
    e = ERR_OK;
out:
    return e;
}

void packed_writer_close(struct packed_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->part);
    }
    if (w->state)
        XXH3_freeState(w->state);
    free(w->entries);
    free(w->part);
    free(w->path);
    free(w);
}
