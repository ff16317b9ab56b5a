/* arena.h - many small allocations with one lifetime.
 *
 * Memory comes back only with arena_fini(). Not thread-safe: one owner.
 */
#ifndef CORDEE_BASE_ARENA_H
#define CORDEE_BASE_ARENA_H

#include <stddef.h>

#include "base/err.h"

struct arena_chunk;
struct arena {
    struct arena_chunk *head;
    size_t used_bytes;  /* handed out */
    size_t limit_bytes; /* 0: none; else arena_alloc() fails past it */
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_fini(struct arena *a);

/* Zeroed, 64-byte aligned for sizes >= 64, else 16. NULL: no memory or limit. */
void *arena_alloc(struct arena *a, size_t bytes);
/* n * size with overflow check. */
void *arena_array(struct arena *a, size_t n, size_t size);
/* NUL-terminated copy of len bytes. */
char *arena_strndup(struct arena *a, const char *s, size_t len);
/* "dir/name". NULL: no memory or limit. */
char *arena_path(struct arena *a, const char *dir, const char *name);

#define HUGE_PAGE ((size_t)2 << 20) /* the smaller of x86's; ARM with 4 KiB pages has the same */

/* 64-byte aligned, zeroed, overflow-checked heap block; NULL on failure.
 * Blocks of 2 MiB and up ask for transparent huge pages and lie where base/spread.h
 * says. free() releases. */
void *mem_alloc(size_t n, size_t size);

/* The same without zeros, for blocks that are written whole anyway: its pages
 * then come into being where (and on whose thread) they are first written. */
void *mem_alloc_raw(size_t n, size_t size);

#endif
