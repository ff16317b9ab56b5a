/* plane.h - what an implementation of the data plane provides, and the fixed
 * buffers that all of them use. Only transport_*.c include this.
 *
 * An implementation embeds `struct transport` as its first member and points
 * `ops` at a const table; transport.c dispatches, counts bytes and asserts the
 * caller's contract once for all.
 */
#ifndef CORDEE_TRANSPORT_PLANE_H
#define CORDEE_TRANSPORT_PLANE_H

#include "transport/transport.h"

struct transport_ops {
    err (*start)(struct transport *t, const int *from, int n_from, size_t max_bytes, int n_send_bufs,
                 struct why *why);
    struct tbuf *(*buf)(struct transport *t);
    err (*send)(struct transport *t, int to, struct tbuf *buf, struct why *why);
    err (*poll)(struct transport *t, struct transport_event *ev, struct why *why);
    void (*release)(struct transport *t, struct tbuf *buf);
    int (*unsent)(const struct transport *t);
    void (*close)(struct transport *t);
};

struct transport {
    const struct transport_ops *ops;
    int rank, size;
    uint64_t sent_bytes, received_bytes;
};

enum {
    RECV_POSTED = 2, /* receives waiting per source: one fills while the next is posted */
    RECV_HELD = 2,   /* received messages per source that the caller may keep */
    RECV_BUFS = RECV_POSTED + RECV_HELD,
};

/* n buffers of `cap` bytes with one lifetime, and a stack of the free ones. */
struct tbuf_pool {
    struct tbuf *bufs;  /* [n] */
    struct tbuf **free; /* [n_free] */
    char *memory;
    int n, n_free;
};

MUST_CHECK err tbuf_pool_init(struct tbuf_pool *p, int n, size_t cap, struct why *why);
void tbuf_pool_fini(struct tbuf_pool *p);
struct tbuf *tbuf_pool_pop(struct tbuf_pool *p); /* NULL: none free */
void tbuf_pool_push(struct tbuf_pool *p, struct tbuf *b);
bool tbuf_pool_owns(const struct tbuf_pool *p, const struct tbuf *b);

#endif
