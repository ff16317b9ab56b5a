#include "api/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>

void *jalloc(struct jrun *r, size_t n, size_t size)
{
    return arena_array(&r->arena, n ? n : 1, size);
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
