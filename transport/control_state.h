/* control_state.h - struct control, shared by the files that make it up:
 *
 *   control.c       what the owner calls
 *   control_join.c  a member's dialing and handshake, on the owner's thread
 *   control_loop.c  the thread: sockets, heartbeats, fencing
 *   control_hub.c   what a hub does with strangers
 *
 * One mutex guards all that changes after the start. The thread holds it while
 * it works, which never blocks, and not while it waits in poll().
 */
#ifndef CORDEE_TRANSPORT_CONTROL_STATE_H
#define CORDEE_TRANSPORT_CONTROL_STATE_H

#include <poll.h>
#include <pthread.h>

#include "transport/control.h"
#include "transport/control_peer.h"
#include "transport/control_queue.h"

enum {
    STRANGERS_MAX = 32,     /* connections not yet authenticated, at a time */
    STRANGER_MS = 2000,     /* ... and for how long */
    READ_BUDGET = 1 << 20,  /* bytes read from one peer before others get their turn */
    REFUSE_TEXT_MAX = 100,
};

/* A member number is used once: one that was lost stays out for this epoch. */
enum number_state { NUMBER_FREE, NUMBER_IN, NUMBER_GONE };

struct control {
    struct control_options o; /* strings in it belong to others: see key */
    char *key;                /* owned copy; wiped at close */
    bool hub;
    pthread_t thread;
    int wake_fd;   /* eventfd: makes the thread look again */
    int listen_fd; /* hub; else -1 */
    struct buf address;

    pthread_mutex_t lock; /* all below */
    struct event_queue events;
    struct peer *peers; /* [n_places]; a member has one */
    int n_places;
    struct pollfd *polls; /* [n_places + 2]; the thread's */
    enum number_state *numbers; /* hub: [max_members] */
    uint64_t complained_ms;     /* last log line about a stranger */
    struct why complaint;       /* the line to log next; empty: none */
    uint64_t accept_after_ms;   /* the system had no descriptor left: wait */
    bool fenced;
    bool closing;
    uint64_t close_until_ms;
};

/* The thread's function; arg: struct control. */
void *control_loop(void *arg);
/* Makes the thread look again. */
void control_wake(struct control *c);
/* Ends a connection. The owner is told of one that was open; a number that was
 * only reserved becomes free again. Under the lock. */
void control_lose(struct control *c, struct peer *p, enum control_loss loss, const char *reason);
/* More waits for the owner than it may: nothing is read meanwhile. Under the lock. */
bool control_is_full(const struct control *c);

/* Hub: takes waiting connections while there is room. Under the lock. */
void hub_accept(struct control *c, uint64_t now);
/* Hub: a message of a peer in state AUTH; the first one in state GREETED. Under the lock. */
void hub_greet(struct control *c, struct peer *p, const struct control_view *m, uint64_t now);
void hub_confirm(struct control *c, struct peer *p);

/* Member: dials, shakes hands; peers[0] is OPEN on success. */
MUST_CHECK err member_dial(struct control *c, const char *addresses, struct why *why);

#endif
