/* clock.h - monotonic time and sleeping. */
#ifndef CORDEE_BASE_CLOCK_H
#define CORDEE_BASE_CLOCK_H

#include <stdint.h>

uint64_t now_ns(void); /* CLOCK_MONOTONIC */
uint64_t now_us(void);
uint64_t now_ms(void);
double wall_seconds(void); /* Unix time */
void sleep_us(unsigned us);

/* Back-off for polling loops that must not burn a core: call with busy != 0
 * whenever something happened. Spins about 20 us, then sleeps 50 us at a time and, the
 * longer it has waited, up to max_us: a wait is prolonged by 1/64 of itself at most.
 * Zero-initialise before use. */
struct backoff {
    uint64_t idle_since_ns;
};
void backoff_wait(struct backoff *b, int busy, unsigned max_us);

#endif
