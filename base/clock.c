/* clock.c - monotonic time, sleeping and the polling back-off.
 *
 * Linux may prolong a short sleep by the thread's timer slack, 50 us unless
 * asked otherwise, which would double the back-off's first step. So a thread
 * that sleeps for less than a millisecond lowers its own slack, once.
 */
#include "base/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/pause.h"

enum {
    SPIN_NS = 20 * 1000,      /* how long a poller burns its core */
    FIRST_US = 50,            /* then it sleeps this long at a time ... */
    PATIENCE = 64,            /* ... or 1/PATIENCE of the time it has waited, if that is more */
    SLACK_NS = 1000,
};

static uint64_t read_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t now_us(void)
{
    return now_ns() / 1000;
}

uint64_t now_ms(void)
{
    return now_ns() / 1000000;
}

double wall_seconds(void)
{
    return (double)read_ns(CLOCK_REALTIME) * 1e-9;
}

void sleep_us(unsigned us)
{
    static _Thread_local bool slack_set;
    if (us < 1000 && !slack_set) {
        prctl(PR_SET_TIMERSLACK, SLACK_NS, 0, 0, 0);
        slack_set = true;
    }
    struct timespec left = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

void backoff_wait(struct backoff *b, int busy, unsigned max_us)
{
    if (busy) {
        *b = (struct backoff){0};
        return;
    }
    uint64_t now = now_ns();
    if (!b->idle_since_ns)
        b->idle_since_ns = now;
    uint64_t idle_ns = now - b->idle_since_ns;
    if (idle_ns < SPIN_NS) {
        cpu_pause();
        return;
    }
    uint64_t us = idle_ns / 1000 / PATIENCE;
    if (us < FIRST_US)
        us = FIRST_US;
    sleep_us(us < max_us ? (unsigned)us : max_us);
}
