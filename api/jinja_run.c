#include "api/jinja_run.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Under AddressSanitizer every block is followed by bytes that may not be touched:
 * inside an arena it could not see an overrun otherwise. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define JINJA_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(JINJA_ASAN)
#include <sanitizer/asan_interface.h>
enum { REDZONE = 16 };
static void fence(void *p, size_t bytes)
{
    ASAN_POISON_MEMORY_REGION((char *)p + bytes, REDZONE);
}
#else
enum { REDZONE = 0 };
static void fence(void *p, size_t bytes)
{
    (void)p;
    (void)bytes;
}
#endif

void *jalloc(struct jrun *r, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n ? n : 1, size, &bytes) || bytes > SIZE_MAX - REDZONE)
        return NULL;
    void *p = arena_alloc(&r->arena, bytes + REDZONE);
    if (p)
        fence(p, bytes);
    return p;
}

void *jgrow(struct jrun *r, const void *old, size_t n, size_t *cap, size_t size)
{
    size_t room = *cap ? 2 * *cap : 4;
    void *more = jalloc(r, room, size);
    if (!more)
        return NULL;
    if (n)
        memcpy(more, old, n * size);
    *cap = room;
    return more;
}

void jrun_say_nomem(struct jrun *r)
{
    (void)why_set(r->why, ERR_LIMIT, "the template needs more than %zu MiB of memory",
                  r->arena.limit_bytes >> 20);
}

err(jfail)(struct jrun *r, const char *fmt, ...)
{
    va_list args;
    struct why text;
    va_start(args, fmt);
    vsnprintf(text.text, sizeof text.text, fmt, args);
    va_end(args);
    return why_set(r->why, ERR_INVAL, "%s", text.text);
}

err jstep(struct jrun *r, size_t n)
{
    if (n > r->max_steps - r->steps)
        return why_set(r->why, ERR_LIMIT, "the template takes more than %zu steps", r->max_steps);
    r->steps += n;
    return ERR_OK;
}

err jenter(struct jrun *r)
{
    if (r->depth >= r->max_depth)
        return why_set(r->why, ERR_LIMIT, "the template nests deeper than %d levels", r->max_depth);
    r->depth++;
    return ERR_OK;
}
