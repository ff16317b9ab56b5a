/* jinja_run.h - the state of one rendering: memory, budgets, the reason of failure.
 *
 * Single owner: one thread, one rendering. Whatever is allocated lives until the
 * rendering ends.
 */
#ifndef CORDEE_API_JINJA_RUN_H
#define CORDEE_API_JINJA_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/arena.h"
#include "base/err.h"

struct jrun {
    struct arena arena;
    struct why *why;
    int line; /* of what is being evaluated */
    size_t steps, max_steps;
    int depth, max_depth;
    size_t max_output;
    struct tm now;
    const struct jinja *tmpl;
    struct jdict *vars;   /* the caller's variables */
    struct jscope *scope; /* innermost */
    struct jout *out;     /* where {{ }} prints */
    enum { JFLOW_ON, JFLOW_BREAK, JFLOW_CONTINUE } flow;
};

/* In this interpreter nothing needs cleaning up (the arena does it), so an error
 * simply returns. */
#define JTRY(call)           \
    do {                     \
        err jtry_ = (call);  \
        if (jtry_ != ERR_OK) \
            return jtry_;    \
    } while (0)

/* Zeroed; NULL: a limit or no memory, jrun_nomem() says it. */
void *jalloc(struct jrun *r, size_t n, size_t size);

/* An array of n elements, twice as large: n grows into *cap. NULL as above, and then
 * the old array stands. */
void *jgrow(struct jrun *r, const void *old, size_t n, size_t *cap, size_t size);

/* The two are wrapped so that the compiler sees that they never return 0. */
void jrun_say_nomem(struct jrun *r);
static inline err jrun_nomem(struct jrun *r)
{
    jrun_say_nomem(r);
    return ERR_LIMIT;
}

/* ERR_INVAL with Python's message. */
err jfail(struct jrun *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static inline err jfail_code(void)
{
    return ERR_INVAL;
}
#define jfail(...) ((void)(jfail)(__VA_ARGS__), jfail_code())

/* Takes n units from the budget. */
MUST_CHECK err jstep(struct jrun *r, size_t n);

/* One level deeper; jleave() on every way out of what was entered. */
MUST_CHECK err jenter(struct jrun *r);
static inline void jleave(struct jrun *r)
{
    r->depth--;
}

#endif
