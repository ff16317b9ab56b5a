/* arena.c - bump allocation in chunks, and aligned heap blocks.
 *
 * A chunk starts at CHUNK_BYTES and doubles up to CHUNK_MAX, so a parser that
 * makes a million small strings costs a few dozen calls of malloc. A request
 * larger than a fresh chunk gets a chunk of its own size. Memory is cleared
 * when handed out, not when the chunk is made: a chunk's tail that is never
 * used is never touched.
 */
#include "base/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/spread.h"

enum {
    ALIGN = 64,
    SMALL_ALIGN = 16,
    CHUNK_BYTES = 16 << 10,
    CHUNK_MAX = 1 << 20,
};

/* The header fills one cache line, so the data behind it is 64-byte aligned. */
struct arena_chunk {
    struct arena_chunk *next;
    size_t cap, used; /* bytes of data behind the header */
    char pad[ALIGN - sizeof(void *) - 2 * sizeof(size_t)];
};
_Static_assert(sizeof(struct arena_chunk) == ALIGN, "data must start aligned");

static bool round_up(size_t n, size_t to, size_t *out)
{
    if (n > SIZE_MAX - (to - 1))
        return false;
    *out = (n + to - 1) / to * to;
    return true;
}

void arena_init(struct arena *a, size_t limit_bytes)
{
    *a = (struct arena){.limit_bytes = limit_bytes};
}

void arena_fini(struct arena *a)
{
    for (struct arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = (struct arena){.limit_bytes = a->limit_bytes};
}

static struct arena_chunk *chunk_open(struct arena *a, size_t bytes)
{
    size_t cap = a->head ? a->head->cap * 2 : CHUNK_BYTES;
    if (cap > CHUNK_MAX)
        cap = CHUNK_MAX;
    if (cap < bytes)
        cap = bytes;
    size_t total;
    if (!round_up(cap, ALIGN, &cap) || cap > SIZE_MAX - ALIGN)
        return NULL;
    total = cap + ALIGN;
    struct arena_chunk *c = aligned_alloc(ALIGN, total);
    if (!c)
        return NULL;
    *c = (struct arena_chunk){.next = a->head, .cap = cap};
    a->head = c;
    return c;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    size_t align = bytes >= ALIGN ? ALIGN : SMALL_ALIGN;
    if (a->limit_bytes && (bytes > a->limit_bytes || a->used_bytes > a->limit_bytes - bytes))
        return NULL;

    struct arena_chunk *c = a->head;
    size_t at = 0;
    if (c)
        at = (c->used + align - 1) / align * align; /* used <= cap: cannot wrap */
    if (!c || at > c->cap || bytes > c->cap - at) {
        c = chunk_open(a, bytes);
        if (!c)
            return NULL;
        at = 0;
    }
    void *p = (char *)(c + 1) + at;
    c->used = at + bytes;
    a->used_bytes += bytes;
    return memset(p, 0, bytes);
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    return arena_alloc(a, bytes);
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
    if (len == SIZE_MAX)
        return NULL;
    char *copy = arena_alloc(a, len + 1); /* zeroed: the NUL is there */
    if (copy && len)
        memcpy(copy, s, len);
    return copy;
}

char *arena_path(struct arena *a, const char *dir, const char *name)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = arena_alloc(a, size);
    if (path)
        snprintf(path, size, "%s/%s", dir, name);
    return path;
}

/* *bytes: n * size rounded up to whole lines or pages. */
static void *raw_block(size_t n, size_t size, size_t *bytes)
{
    if (__builtin_mul_overflow(n, size, bytes))
        return NULL;
    size_t align = *bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGN;
    if (!round_up(*bytes ? *bytes : 1, align == HUGE_PAGE ? 4096 : ALIGN, bytes))
        return NULL;
    void *p = NULL;
    if (posix_memalign(&p, align, *bytes) != 0)
        return NULL;
    if (align == HUGE_PAGE) {
        madvise(p, *bytes, MADV_HUGEPAGE); /* advice: a refusal only costs speed */
        spread_block(p, *bytes);
    }
    return p;
}

void *mem_alloc(size_t n, size_t size)
{
    size_t bytes;
    void *p = raw_block(n, size, &bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void *mem_alloc_raw(size_t n, size_t size)
{
    size_t bytes;
    return raw_block(n, size, &bytes);
}
