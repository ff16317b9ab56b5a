/* carve.h - laying many buffers out in one allocation whose size is known first.
 *
 * A layout function takes every buffer it wants from a carve. Run on a carve
 * without memory it only adds the sizes up (and yields NULL); run again on a
 * block of that size it hands out the pointers. The planner's number and the
 * real allocation thus come from the same lines and cannot drift apart.
 */
#ifndef CORDEE_MODEL_CARVE_H
#define CORDEE_MODEL_CARVE_H

#include <stddef.h>
#include <stdint.h>

struct carve {
    char *base;  /* NULL: measuring; else 64-byte aligned */
    size_t used; /* bytes taken so far, a multiple of 64 */
};

/* n * size bytes, 64-byte aligned. Sizes come from checked hyper-parameters and
 * limits, whose products stay far below 2^63. */
static inline void *carve_take(struct carve *c, size_t n, size_t size)
{
    char *p = c->base ? c->base + c->used : NULL;
    c->used += (n * size + 63) & ~(size_t)63;
    return p;
}

#endif
