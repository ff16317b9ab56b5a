/* supervise.h - the life of epochs as a pure state machine.
 *
 * The job is expendable, the requests are not: on any alarm the epoch is killed
 * and the next one launched, with back-off when launches keep failing. Which hosts it
 * is launched on is hosts.h's part. The machine decides; cluster.c carries its actions out.
 */
#ifndef CORDEE_COORDINATOR_SUPERVISE_H
#define CORDEE_COORDINATOR_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>

#define SUPERVISE_STATES(X)                                             \
    X(WAITING, "between epochs: launch when the back-off has passed")   \
    X(STARTING, "mpiexec runs; not all ranks are ready")                \
    X(READY, "the pipeline answers")                                    \
    X(KILLING, "the epoch was condemned; waiting for its processes")    \
    X(STOPPING, "orderly end asked for")                                \
    X(FAILED, "gave up: a plan was refused, or too many failed starts") \
    X(STOPPED, "nothing runs; the end")

enum supervise_state {
#define SUPERVISE_ENUM(id, text) SUPERVISE_##id,
    SUPERVISE_STATES(SUPERVISE_ENUM)
#undef SUPERVISE_ENUM
    SUPERVISE_STATE_COUNT
};
const char *supervise_state_name(enum supervise_state s);

enum supervise_event {
    SUP_TICK,    /* time passes */
    SUP_READY,   /* rank 0 says that every stage is ready */
    SUP_ALARM,   /* exit, silence, stall, protocol error, ... */
    SUP_REFUSED, /* the plan does not fit: launching again would not help */
    SUP_HOLD,    /* it does not fit on the hosts that are left: launch later, when there may be more */
    SUP_HOSTS,   /* a host came back: an epoch that waits for one need not wait on */
    SUP_REAPED,  /* every process of the epoch is gone */
    SUP_STOP,    /* the program wants to end */
    SUP_EVENT_COUNT
};

enum { /* actions, a mask */
    SUP_LAUNCH = 1,   /* start epoch + 1 */
    SUP_KILL = 2,     /* SIGKILL the epoch */
    SUP_ASK_STOP = 4, /* tell rank 0 to drain and end */
    SUP_LINK_UP = 8,
    SUP_LINK_DOWN = 16,
    SUP_GIVE_UP = 32, /* fail everything that waits */
    SUP_END = 64,     /* leave the event loop */
};

struct supervise_options {
    uint64_t start_timeout_ms, stop_timeout_ms;
    int restart_limit; /* failed starts in a row */
};

struct supervise {
    enum supervise_state state;
    struct supervise_options o;
    uint64_t since_ms, launch_at_ms;
    int failed_starts, holds; /* in a row */
    bool held;                /* the present wait is for hosts */
    uint32_t epoch;     /* of the running or last epoch; 0: none yet */
    uint64_t restarts;
    bool stop_wanted;
};

void supervise_init(struct supervise *s, const struct supervise_options *o, uint64_t now_ms);
/* Returns the actions to take, in the order of their bits. */
unsigned supervise_step(struct supervise *s, enum supervise_event ev, uint64_t now_ms);

#endif
