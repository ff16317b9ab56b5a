/* mapped.c - see mapped.h. */
#include "model/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"

/* MAP_FAILED with errno. Where the page cache holds a file in huge pages, a mapping that asks for
 * them and lies as they do is walked by few entries of the TLB. */
static void *map_aligned(int fd, size_t bytes)
{
    const size_t room = bytes + HUGE_PAGE, page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes < HUGE_PAGE || room < bytes)
        return mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    char *all = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    char *at = (char *)(((uintptr_t)all + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    const size_t used = (bytes + page - 1) & ~(page - 1);
    void *data = mmap(at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    if (data == MAP_FAILED) {
        munmap(all, room);
        return MAP_FAILED;
    }
    if (at != all)
        munmap(all, (size_t)(at - all));
    munmap(at + used, (size_t)(all + room - (at + used)));
    (void)madvise(data, bytes, MADV_HUGEPAGE); /* only a hint */
    return data;
}

err mapped_open(const char *path, struct mapped *out, struct why *why)
{
    err e;
    struct stat st;
    void *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return why_set(why, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0)
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        FAIL(ERR_IO, "%s: not a regular file", path);
    if (st.st_size > 0) {
        data = map_aligned(fd, (size_t)st.st_size);
        if (data == MAP_FAILED)
            FAIL(ERR_IO, "%s: cannot map %lld bytes: %s", path, (long long)st.st_size, strerror(errno));
    }
    *out = (struct mapped){.data = data, .size = (size_t)st.st_size};
    e = ERR_OK;
out:
    close(fd);
    return e;
}

void mapped_close(struct mapped *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    *m = (struct mapped){0};
}

void mapped_will_need(const void *data, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)data & ~(page - 1);

    (void)madvise((void *)at, bytes + ((uintptr_t)data - at), MADV_WILLNEED); /* only a hint */
}
