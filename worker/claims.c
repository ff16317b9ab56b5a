/* claims.c - see claims.h.
 *
 * The locks are of the open file description kind: they are the process's, not lost
 * when some library closes another descriptor of the file, and two descriptors in
 * one process exclude each other like two processes (which the test uses).
 */
#include "worker/claims.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define CHOOSING (1 << 30) /* the byte behind all cores */
#define CHOOSING_MS 1000

struct claims {
    int fd;
};

/* An existing file is opened without O_CREAT: the kernel refuses that for another
 * user's file in a sticky directory. */
static int open_shared(const char *path)
{
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    int fd = open(path, flags);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    fd = open(path, flags | O_CREAT | O_EXCL, 0666);
    if (fd < 0)
        return errno == EEXIST ? open(path, flags) : -1;
    if (fchmod(fd, 0666) != 0) { /* other users' ranks too, whatever our umask */
        close(fd);
        return -1;
    }
    return fd;
}

err claims_open(const char *path, struct claims **out, struct why *why)
{
    struct stat st;
    struct claims *c = calloc(1, sizeof *c);
    if (!c)
        return why_set(why, ERR_NOMEM, "core claims");
    c->fd = open_shared(path);
    if (c->fd < 0 || fstat(c->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        err e = why_set(why, ERR_IO, "%s: %s", path, c->fd < 0 ? strerror(errno) : "not a file");
        claims_close(c);
        return e;
    }
    *out = c;
    return ERR_OK;
}

void claims_close(struct claims *c)
{
    if (!c)
        return;
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}

static bool lock_byte(struct claims *c, int at, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    return fcntl(c->fd, F_OFD_SETLK, &lock) == 0;
}

err claims_begin(struct claims *c, struct why *why)
{
    uint64_t until = now_ms() + CHOOSING_MS;
    while (!lock_byte(c, CHOOSING, F_WRLCK)) {
        if (now_ms() > until)
            return why_set(why, ERR_TIMEOUT, "another rank has been choosing cores for %d ms", CHOOSING_MS);
        sleep_us(1000);
    }
    return ERR_OK;
}

void claims_end(struct claims *c)
{
    lock_byte(c, CHOOSING, F_UNLCK);
}

bool claims_take(struct claims *c, int core)
{
    return lock_byte(c, core, F_WRLCK);
}

void claims_drop(struct claims *c, int core)
{
    lock_byte(c, core, F_UNLCK);
}
