/* transport_loop.c - the data plane inside one process, for tests and tools.
 *
 * Every sender keeps its messages in order of sending; a receiver looks through
 * the senders it listens to and copies the first one for it into a buffer of its
 * own. So a slow receiver holds up its senders (their buffers stay taken) but
 * nobody else, as with MPI. What an endpoint had not delivered when it closes is
 * gone, like the messages of a dead rank; poll until transport_unsent() is 0
 * before closing. Messages to a closed endpoint vanish and count as sent.
 *
 * Threads: each endpoint belongs to one thread; one mutex guards what they share
 *          (queues and the pools of send buffers), the copy included.
 * Memory:  the hub lives until the last endpoint closes.
 * Cost:    one lock and one copy a message; a scan of the sender's few buffers.
 */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "transport/plane.h"

struct outgoing {
    int to;
    struct tbuf *buf;
};

struct source {
    int rank;
    struct tbuf_pool pool;
};

struct loop {
    struct transport base;
    struct hub *hub;
    struct source *sources; /* [n_from]; owner thread only, as max_bytes and turn */
    int n_from, turn;
    size_t max_bytes;

    struct tbuf_pool send; /* the rest is guarded by hub->lock */
    struct outgoing *out;  /* [n_out], oldest first; room for every send buffer */
    int n_out;
};

struct hub {
    pthread_mutex_t lock;
    int n_open;
    struct loop *ends[]; /* [size]; NULL once closed */
};

static struct loop *loop_of(const struct transport *t)
{
    return (struct loop *)t;
}

static void sources_fini(struct source *sources, int n)
{
    for (int i = 0; sources && i < n; i++)
        tbuf_pool_fini(&sources[i].pool);
    free(sources);
}

static err loop_start(struct transport *t, const int *from, int n_from, size_t max_bytes, int n_send_bufs,
                      struct why *why)
{
    struct loop *l = loop_of(t);
    struct tbuf_pool send = {0};
    struct source *sources = calloc((size_t)n_from + 1, sizeof *sources);
    struct outgoing *out = calloc((size_t)n_send_bufs, sizeof *out);
    err e;
    assert(!l->sources);
    if (!sources || !out)
        FAIL(ERR_NOMEM, "message queues");
    TRY(tbuf_pool_init(&send, n_send_bufs, max_bytes, why));
    for (int i = 0; i < n_from; i++) {
        sources[i].rank = from[i];
        TRY(tbuf_pool_init(&sources[i].pool, RECV_BUFS, max_bytes, why));
    }
    l->sources = sources;
    l->n_from = n_from;
    l->max_bytes = max_bytes;
    pthread_mutex_lock(&l->hub->lock);
    l->send = send;
    l->out = out;
    pthread_mutex_unlock(&l->hub->lock);
    return ERR_OK;
out:
    tbuf_pool_fini(&send);
    sources_fini(sources, n_from);
    free(out);
    return e;
}

static struct tbuf *loop_buf(struct transport *t)
{
    struct loop *l = loop_of(t);
    pthread_mutex_lock(&l->hub->lock);
    struct tbuf *b = tbuf_pool_pop(&l->send);
    pthread_mutex_unlock(&l->hub->lock);
    return b;
}

static err loop_send(struct transport *t, int to, struct tbuf *buf, struct why *why)
{
    struct loop *l = loop_of(t);
    (void)why;
    pthread_mutex_lock(&l->hub->lock);
    if (l->hub->ends[to])
        l->out[l->n_out++] = (struct outgoing){to, buf};
    else
        tbuf_pool_push(&l->send, buf);
    pthread_mutex_unlock(&l->hub->lock);
    return ERR_OK;
}

/* Takes the i-th message out of a sender's queue and frees its buffer. */
static void outgoing_pop(struct loop *sender, int i)
{
    tbuf_pool_push(&sender->send, sender->out[i].buf);
    sender->n_out--;
    memmove(&sender->out[i], &sender->out[i + 1], (size_t)(sender->n_out - i) * sizeof *sender->out);
}

/* The oldest message from a source, copied; ERR_AGAIN: none. Under the lock. */
static err take_from(struct loop *l, struct source *src, struct tbuf **got, struct why *why)
{
    struct loop *sender = l->hub->ends[src->rank];
    for (int i = 0; sender && i < sender->n_out; i++) {
        const struct tbuf *msg = sender->out[i].buf;
        if (sender->out[i].to != l->base.rank)
            continue;
        if (msg->len > l->max_bytes)
            return why_set(why, ERR_PEER, "rank %d sent %zu bytes, at most %zu", src->rank, msg->len, l->max_bytes);
        struct tbuf *b = tbuf_pool_pop(&src->pool);
        if (!b)
            return ERR_AGAIN;
        memcpy(b->data, msg->data, msg->len);
        b->len = msg->len;
        outgoing_pop(sender, i);
        *got = b;
        return ERR_OK;
    }
    return ERR_AGAIN;
}

static err loop_poll(struct transport *t, struct transport_event *ev, struct why *why)
{
    struct loop *l = loop_of(t);
    err e = ERR_AGAIN;
    pthread_mutex_lock(&l->hub->lock);
    for (int i = 0; i < l->n_from && e == ERR_AGAIN; i++) {
        struct source *src = &l->sources[l->turn];
        l->turn = (l->turn + 1) % l->n_from;
        struct tbuf *b = NULL;
        e = take_from(l, src, &b, why);
        if (e == ERR_OK)
            *ev = (struct transport_event){.from = src->rank, .buf = b};
    }
    pthread_mutex_unlock(&l->hub->lock);
    return e;
}

static void loop_release(struct transport *t, struct tbuf *buf)
{
    struct loop *l = loop_of(t);
    for (int i = 0; i < l->n_from; i++)
        if (tbuf_pool_owns(&l->sources[i].pool, buf)) {
            tbuf_pool_push(&l->sources[i].pool, buf);
            return;
        }
    pthread_mutex_lock(&l->hub->lock);
    tbuf_pool_push(&l->send, buf); /* got for sending, not sent */
    pthread_mutex_unlock(&l->hub->lock);
}

static int loop_unsent(const struct transport *t)
{
    struct loop *l = loop_of(t);
    pthread_mutex_lock(&l->hub->lock);
    int n = l->n_out;
    pthread_mutex_unlock(&l->hub->lock);
    return n;
}

static void loop_close(struct transport *t)
{
    struct loop *l = loop_of(t);
    struct hub *hub = l->hub;
    pthread_mutex_lock(&hub->lock);
    hub->ends[t->rank] = NULL;
    for (int r = 0; r < t->size; r++) {
        struct loop *other = hub->ends[r];
        for (int i = other ? other->n_out - 1 : -1; i >= 0; i--)
            if (other->out[i].to == t->rank)
                outgoing_pop(other, i);
    }
    bool last = --hub->n_open == 0;
    pthread_mutex_unlock(&hub->lock);

    tbuf_pool_fini(&l->send);
    sources_fini(l->sources, l->n_from);
    free(l->out);
    free(l);
    if (last) {
        pthread_mutex_destroy(&hub->lock);
        free(hub);
    }
}

static const struct transport_ops loop_ops = {
    .start = loop_start,
    .buf = loop_buf,
    .send = loop_send,
    .poll = loop_poll,
    .release = loop_release,
    .unsent = loop_unsent,
    .close = loop_close,
};

err transport_loop_open(int n, struct transport **out, struct why *why)
{
    assert(n > 0);
    struct hub *hub = calloc(1, sizeof *hub + (size_t)n * sizeof(struct loop *));
    err e;
    if (!hub)
        FAIL(ERR_NOMEM, "in-process transport of %d ranks", n);
    for (int i = 0; i < n; i++) {
        struct loop *l = hub->ends[i] = calloc(1, sizeof *l);
        if (!l)
            FAIL(ERR_NOMEM, "in-process transport of %d ranks", n);
        l->base = (struct transport){.ops = &loop_ops, .rank = i, .size = n};
        l->hub = hub;
    }
    pthread_mutex_init(&hub->lock, NULL);
    hub->n_open = n;
    for (int i = 0; i < n; i++)
        out[i] = &hub->ends[i]->base;
    return ERR_OK;
out:
    for (int i = 0; hub && i < n; i++)
        free(hub->ends[i]);
    free(hub);
    return e;
}
