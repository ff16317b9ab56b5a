/* seat.h - where a rank's threads run, and where its memory lies.
 *
 * A rank gets a seat: a core for each thread, claimed against the other ranks of the
 * node and all in one memory domain if one has room. Ranks of a node sit in different
 * domains as long as there are any: the first looks from the first domain on, the
 * second from the next. Without a seat (switched off, or the cores are not its alone)
 * the threads float inside the mask and the kernel moves them.
 *
 * Only the threads of the pool are bound. The owner, which moves messages, and the
 * heartbeats must run at once whatever computes, so they stay free in the mask.
 */
#ifndef CORDEE_WORKER_SEAT_H
#define CORDEE_WORKER_SEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/spread.h"
#include "worker/claims.h"
#include "worker/cores.h"

#define PINS(X)     \
    X(AUTO, "auto") \
    X(OFF, "off")   \
    X(ON, "on")
enum pin {
#define PIN(name, text) PIN_##name,
    PINS(PIN)
#undef PIN
};
MUST_CHECK err pin_parse(const char *name, enum pin *out, struct why *why);

struct seat_wish {
    enum pin pin;
    int threads;        /* >= 1 */
    int index, n_local; /* which of the stage ranks on this node, of how many */
    double quota_cores; /* the cgroup's; 0: none */
};

struct seat {
    int *cpus;                    /* [threads], NULL: floating */
    int n_domains;                /* that the threads may touch */
    uint64_t nodes[SPREAD_WORDS]; /* these */
    struct claims *claims;        /* held while bound */
    struct why floats;            /* why floating; empty when bound */
};

/* Threads for a rank that has no other wish: its share of the cores, and no more than
 * the cgroup's quota. At least 1. */
int seat_threads(const struct cores *c, int n_local, double quota_cores);

/* claims_path: CLAIMS_PATH. Under PIN_AUTO a rank that cannot be bound floats.
 * ERR_REFUSED  PIN_ON, and the cores do not suffice or are others' */
MUST_CHECK err seat_take(const struct cores *c, const struct seat_wish *wish, const char *claims_path,
                         struct seat *out, struct why *why);
void seat_close(struct seat *s);

/* "cores 0-3,8 of memory domain 1", or why there are none. */
void seat_text(const struct seat *s, int threads, char *out, size_t size);

#endif
