/* control_peer.h - one connection of the control plane: a non-blocking socket,
 * what has arrived of the next message, what waits to leave.
 *
 * Before the other side is authenticated no more than CONTROL_AUTH_MAX bytes of
 * it are ever kept. Not thread-safe: the control's lock guards it.
 */
#ifndef CORDEE_TRANSPORT_CONTROL_PEER_H
#define CORDEE_TRANSPORT_CONTROL_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "transport/control_msg.h"

/*     state    meaning */
#define PEER_STATES(X)                                        \
    X(NONE, "the place is free; no socket")                   \
    X(AUTH, "connected; not yet known")                       \
    X(GREETED, "hub: known and welcomed, not yet confirmed")  \
    X(OPEN, "known; frames and heartbeats")                   \
    X(LEAVING, "the last bytes leave, nothing is heard more")

enum peer_state {
#define PEER_ENUM(id, text) PEER_##id,
    PEER_STATES(PEER_ENUM)
#undef PEER_ENUM
    PEER_STATE_COUNT
};

struct event;

struct peer {
    enum peer_state state;
    int fd;     /* owned */
    int member; /* GREETED, OPEN: its number; the hub itself is -1 */
    uint64_t since_ms, heard_ms, said_ms;
    bool shut; /* LEAVING: all is sent, waiting for the other side to close */
    struct control_auth auth;
    struct buf in, out;
    size_t out_at;      /* out.data[out_at..] is still to leave */
    struct event *joined, *lost; /* taken early, so that both can always be told */
};

/* The only assignment to peer->state. */
void peer_go(struct peer *p, enum peer_state to);
/* Takes a connected socket: AUTH. */
void peer_open(struct peer *p, int fd, uint64_t now);
/* Closes the socket, frees the buffers: NONE. */
void peer_close(struct peer *p);

/* Reads what has arrived, at most about `budget` bytes. ERR_AGAIN: nothing.
 * ERR_PEER: the connection is over; ERR_NOMEM. */
MUST_CHECK err peer_read(struct peer *p, size_t budget, uint64_t now, struct why *why);
/* Sends as much as the socket takes. ERR_PEER: the connection is over; ERR_NOMEM:
 * a message did not fit in memory when it was queued. */
MUST_CHECK err peer_flush(struct peer *p, struct why *why);
size_t peer_unsent(const struct peer *p);
/* Drops the first n bytes that arrived. */
void peer_consume(struct peer *p, size_t n);
/* Queues one message. */
void peer_put(struct peer *p, enum control_msg kind, const void *body, size_t len, uint64_t now);

#endif
