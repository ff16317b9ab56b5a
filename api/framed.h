/* framed.h - sockets that carry length-prefixed frames of opaque bytes.
 *
 * Listens on "unix:PATH" or "HOST:PORT". A frame is a base-128 varint length of at
 * most 5 bytes and that many bytes; what they mean is the caller's business. A peer
 * that breaks the framing, exceeds the cap or does not read its answers is cut off.
 *
 * Threads: everything on the thread that runs the event base. No timers.
 */
#ifndef CORDEE_API_FRAMED_H
#define CORDEE_API_FRAMED_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct event_base;
struct framed;
struct framed_conn;

struct framed_options {
    const char *address;
    uint32_t frame_max;  /* body bytes; 0: 64 MiB */
    int max_connections; /* 0: 256; further ones are closed at once */
    size_t out_max;      /* 0: 64 MiB; bytes a peer may leave unread before it is cut off */
    /* Reads a length: returns its bytes (1..5) and the value, 0: more bytes needed,
     * -1: not a length or above cap. (proto/frame.h's frame_head.) */
    int (*head)(const uint8_t *p, size_t len, uint32_t cap, uint32_t *body);
    /* One whole frame; data is valid during the call. May send on or close c. */
    void (*on_frame)(void *ctx, struct framed_conn *c, const void *data, size_t len);
    /* c is gone (for whatever reason but framed_close); not valid afterwards. */
    void (*on_closed)(void *ctx, struct framed_conn *c);
    void *ctx;
};

MUST_CHECK err framed_open(struct event_base *base, const struct framed_options *o, struct framed **out,
                           struct why *why);
/* Cuts all connections without on_closed; removes its own socket file. */
void framed_close(struct framed *f);
int framed_port(const struct framed *f); /* 0 for unix sockets */

/* Whatever the caller wants to find again from a connection. */
void framed_set_tag(struct framed_conn *c, void *tag);
void *framed_tag(const struct framed_conn *c);

/* Queues one frame (copied). Past out_max the connection is cut off, with on_closed
 * from the loop, not from in here. */
void framed_send(struct framed_conn *c, const void *body, size_t len);
/* Closes from the loop, after on_closed. What is queued may be lost. */
void framed_drop(struct framed_conn *c, const char *reason);

#endif
