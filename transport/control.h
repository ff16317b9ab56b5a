/* control.h - the control plane: plain TCP, a thread of its own, heartbeats.
 *
 * A hub listens (rank 0 for the ranks; `serve` for rank 0); members dial it. After
 * a mutual challenge with the job's key (HMAC-SHA256 over both nonces, the member
 * number and the epoch; the key never travels) both sides exchange opaque frames
 * (varint length + bytes) and heartbeats. A side that hears nothing for
 * dead_after_ms calls the other lost. It is the control plane that says who died:
 * MPI never does.
 *
 * Threads: each hub or member runs one thread for its sockets and timers, so
 * heartbeats go on while the owner computes. Events queue up for the owner, who
 * polls them; control_fd() becomes readable when there are some.
 * Addresses: "HOST:PORT[,HOST:PORT...]" ("[V6]:PORT"), tried in turn; "unix:PATH" too.
 *
 * A number joins once: a second connection with a number that is here, or was
 * lost before, is refused. Whoever falls out of an epoch stays out of it.
 * The handshake keeps strangers out; the traffic itself is neither hidden nor
 * sealed, as that of MPI is not. Layout and handshake: control_msg.h.
 */
#ifndef CORDEE_TRANSPORT_CONTROL_H
#define CORDEE_TRANSPORT_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct control;

struct control_options {
    const char *key; /* the job's random key, NUL-terminated; required */
    uint32_t epoch;
    int member;              /* member: own number (rank); hub: ignored */
    int max_members;         /* hub: numbers 0..max_members-1 are accepted, one connection each */
    unsigned heartbeat_ms;   /* 0: 250 */
    unsigned dead_after_ms;  /* 0: 1000 */
    unsigned connect_ms;     /* member: give up dialing after; 0: 5000 */
    size_t frame_max;        /* longest frame; 0: 64 MiB. Twice this may wait in either direction */
    const char *interface;   /* hub: listen only there ("eth0", an address, "unix:PATH"); NULL: all */
    uint16_t port_first, port_last; /* hub: range to listen in; 0: any */
    /* Member: called once, on the control thread, when the hub was not heard of for
     * fence_after_ms (0: never), also after it said good-bye: a rank that lost its hub must not live on, even
     * while its owner thread computes. The program passes a function that ends
     * the process. */
    unsigned fence_after_ms;
    void (*on_fence)(void *ctx);
    void *fence_ctx;
};

enum control_kind { CONTROL_JOINED, CONTROL_FRAME, CONTROL_LOST };
/* CLOSED: it said good-bye; SILENT: nothing heard for dead_after_ms; BROKEN: the
 * connection ended or the protocol was broken: the process died, its host answers. */
enum control_loss { CONTROL_BROKEN, CONTROL_CLOSED, CONTROL_SILENT };
struct control_event {
    enum control_kind kind;
    int member;    /* hub: which; member: always -1 (the hub) */
    uint8_t *data; /* FRAME: owned by the caller, free(); else NULL */
    size_t len;
    enum control_loss loss; /* LOST: how */
    char reason[160];       /* LOST: why */
};

/* ERR_INVAL  no key, no such interface; ERR_IO  no free port, or the system refused */
MUST_CHECK err control_listen(const struct control_options *o, struct control **out, struct why *why);
/* What members should dial, every address of this host that is not loopback,
 * then loopback. Owned by the control. */
const char *control_address(const struct control *c);

/* Dials and shakes hands on the caller's thread, for connect_ms at most.
 * ERR_TIMEOUT  no hub, with the last reason; ERR_PEER  the hub refused: wrong key,
 * other epoch, number taken; ERR_INVAL  not an address */
MUST_CHECK err control_join(const struct control_options *o, const char *address, struct control **out,
                            struct why *why);

/* Queues one frame (copied). Hub: to a member; member: to == -1.
 * ERR_PEER: not connected; ERR_FULL: it does not read; ERR_LIMIT: longer than
 * frame_max. Never blocks. Any thread. */
MUST_CHECK err control_send(struct control *c, int to, const void *data, size_t len, struct why *why);
/* ERR_AGAIN: none. While more than twice frame_max waits here, nothing is read from
 * the sockets: a slow owner slows its peers. */
MUST_CHECK err control_poll(struct control *c, struct control_event *ev);
int control_fd(const struct control *c); /* readable while events wait */
/* Waits up to flush_ms for queued frames to leave, says good-bye (the other side
 * sees LOST "closed"), joins the thread. c == NULL is fine. */
void control_close(struct control *c, unsigned flush_ms);

#endif
