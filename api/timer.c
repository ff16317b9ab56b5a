/* timer.c - see timer.h. */
#include "api/timer.h"

#include <event2/event.h>
#include <stdlib.h>

struct timer {
    struct event *event;
    timer_fn *fn;
    void *ctx;
};

static void timer_cb(evutil_socket_t fd, short what, void *arg)
{
    struct timer *t = arg;
    (void)fd;
    (void)what;
    t->fn(t->ctx);
}

struct timer *timer_open(struct event_base *base, timer_fn *fn, void *ctx)
{
    struct timer *t = calloc(1, sizeof *t);
    if (!t || !(t->event = evtimer_new(base, timer_cb, t))) {
        free(t);
        return NULL;
    }
    t->fn = fn;
    t->ctx = ctx;
    return t;
}

void timer_close(struct timer *t)
{
    if (!t)
        return;
    event_free(t->event);
    free(t);
}

void timer_start(struct timer *t, uint64_t us)
{
    struct timeval tv = { (time_t)(us / 1000000), (suseconds_t)(us % 1000000) };
    if (us == 0)
        event_active(t->event, EV_TIMEOUT, 0);
    else
        evtimer_add(t->event, &tv);
}
