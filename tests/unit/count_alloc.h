/* count_alloc.h - counts the allocations of a program while it watches, on all threads.
 *
 * Included by one file of a test program, which thereby brings its own malloc. Sanitizers have
 * theirs: COUNT_ALLOC is 0 then, and there is nothing to count.
 */
#ifndef CORDEE_TESTS_COUNT_ALLOC_H
#define CORDEE_TESTS_COUNT_ALLOC_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#if defined(__has_feature)
#define CLANG_HAS(x) __has_feature(x)
#else
#define CLANG_HAS(x) 0
#endif
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !CLANG_HAS(address_sanitizer) && !CLANG_HAS(thread_sanitizer) && !CLANG_HAS(memory_sanitizer)
#define COUNT_ALLOC 1
#else
#define COUNT_ALLOC 0
#endif

static atomic_bool count_alloc_on;
static atomic_int count_alloc_n;

#if COUNT_ALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);

static void count_alloc_note(void)
{
    if (atomic_load(&count_alloc_on))
        atomic_fetch_add(&count_alloc_n, 1);
}

void *malloc(size_t size)
{
    count_alloc_note();
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    count_alloc_note();
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    count_alloc_note();
    return __libc_realloc(p, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    count_alloc_note();
    return __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    count_alloc_note();
    *out = __libc_memalign(align, size);
    return *out ? 0 : ENOMEM;
}
#endif

static inline void count_alloc_watch(bool on)
{
    atomic_store(&count_alloc_on, on);
}

/* How many since the last call. */
static inline int count_alloc_take(void)
{
    return atomic_exchange(&count_alloc_n, 0);
}

#endif
