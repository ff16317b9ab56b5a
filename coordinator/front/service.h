/* service.h - the framed API: Envelopes in, requests to a front, Envelopes out.
 *
 * Serves whoever speaks cordee.proto: clients of `serve --listen`, clients of rank
 * 0's own listener, and `serve` itself over the control plane (ids only, no_text).
 * Knows no transport: a peer's frames come in through service_peer_frame(), answers
 * leave through `send`. Tokens of one turn of the owner's loop share a frame: they
 * wait until service_flush().
 *
 * Threads: the front's owner thread.
 */
#ifndef CORDEE_COORDINATOR_SERVICE_H
#define CORDEE_COORDINATOR_SERVICE_H

#include "coordinator/front/front.h"
#include "coordinator/front/status.h"

struct service;
struct service_peer;

struct service_options {
    struct front *front; /* borrowed */
    /* One packed Envelope for a peer; copies, never blocks. A peer that is gone is
     * reported through service_peer_close(), from outside of this call. */
    void (*send)(void *ctx, void *peer, const void *body, size_t len);
    /* There is something for service_flush(); NULL: it is called every turn anyway. */
    void (*on_dirty)(void *ctx);
    void *ctx;
    health_fn *health; /* NULL: the backend's readiness */
    void *health_ctx;
    stats_query_fn *stats; /* NULL: refused as unsupported */
    void *stats_ctx;
    int max_calls; /* 0: 4096; live requests of one peer, more are ERR_FULL */
};

MUST_CHECK err service_open(const struct service_options *o, struct service **out, struct why *why);
/* Closes all peers. */
void service_close(struct service *s);
/* Sends the tokens that came since the last call. */
void service_flush(struct service *s);

/* peer: the transport's name for it, handed to `send`. */
MUST_CHECK err service_peer_open(struct service *s, void *peer, struct service_peer **out, struct why *why);
/* Cancels all its requests; nothing more is sent. */
void service_peer_close(struct service_peer *p);
/* One packed Envelope. A request that is wrong is answered with Failed;
 * ERR_FORMAT: not an Envelope at all, the transport should cut the peer off. */
MUST_CHECK err service_peer_frame(struct service_peer *p, const void *body, size_t len, struct why *why);

/* ---- a service behind a listening socket (api/framed.h) ---------------------------- */
struct event_base;
struct service_listener;
/* address: "unix:PATH" or "HOST:PORT". o->send, on_dirty and ctx are the listener's. */
MUST_CHECK err service_listen(struct event_base *base, const char *address, const struct service_options *o,
                              struct service_listener **out, struct why *why);
void service_listener_close(struct service_listener *l); /* NULL is fine */
int service_listener_port(const struct service_listener *l);

#endif
