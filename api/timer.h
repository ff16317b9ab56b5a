/* timer.h - one-shot timers of an event base, for those who must not know libevent. */
#ifndef CORDEE_API_TIMER_H
#define CORDEE_API_TIMER_H

#include <stdint.h>

struct event_base;
struct timer;

typedef void timer_fn(void *ctx);

/* Not running. NULL: no memory. */
struct timer *timer_open(struct event_base *base, timer_fn *fn, void *ctx);
void timer_close(struct timer *t); /* NULL is fine; allowed inside fn */
/* fn is called once, from the loop, after `us` (0: in this turn or the next). A
 * timer that runs already is set anew. */
void timer_start(struct timer *t, uint64_t us);

#endif
