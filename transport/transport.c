/* transport.c - dispatch to an implementation, byte counts, buffer pools. */
#include "transport/transport.h"

#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"
#include "transport/plane.h"

int transport_rank(const struct transport *t)
{
    return t->rank;
}

int transport_size(const struct transport *t)
{
    return t->size;
}

err transport_start(struct transport *t, const int *from, int n_from, size_t max_bytes, int n_send_bufs,
                    struct why *why)
{
    assert(n_from >= 0 && max_bytes > 0 && n_send_bufs > 0);
    for (int i = 0; i < n_from; i++)
        assert(from[i] >= 0 && from[i] < t->size);
    return t->ops->start(t, from, n_from, max_bytes, n_send_bufs, why);
}

struct tbuf *transport_buf(struct transport *t)
{
    return t->ops->buf(t);
}

err transport_send(struct transport *t, int to, struct tbuf *buf, struct why *why)
{
    assert(to >= 0 && to < t->size && buf->len <= buf->cap);
    size_t len = buf->len;
    err e = t->ops->send(t, to, buf, why);
    if (e == ERR_OK)
        t->sent_bytes += len;
    return e;
}

err transport_poll(struct transport *t, struct transport_event *ev, struct why *why)
{
    err e = t->ops->poll(t, ev, why);
    if (e == ERR_OK)
        t->received_bytes += ev->buf->len;
    return e;
}

void transport_release(struct transport *t, struct tbuf *buf)
{
    t->ops->release(t, buf);
}

int transport_unsent(const struct transport *t)
{
    return t->ops->unsent(t);
}

uint64_t transport_sent_bytes(const struct transport *t)
{
    return t->sent_bytes;
}

uint64_t transport_received_bytes(const struct transport *t)
{
    return t->received_bytes;
}

void transport_close(struct transport *t)
{
    if (t)
        t->ops->close(t);
}

err tbuf_pool_init(struct tbuf_pool *p, int n, size_t cap, struct why *why)
{
    struct tbuf_pool pool = {.n = n};
    size_t stride, total = 0;
    err e = ERR_OK;
    if (__builtin_add_overflow(cap, (size_t)63, &stride) ||
        __builtin_mul_overflow(stride &= ~(size_t)63, (size_t)n, &total))
        FAIL(ERR_NOMEM, "%d message buffers of %zu bytes", n, cap);
    pool.bufs = calloc((size_t)n, sizeof *pool.bufs);
    pool.free = calloc((size_t)n, sizeof *pool.free);
    pool.memory = mem_alloc(total, 1);
    if (!pool.bufs || !pool.free || !pool.memory)
        FAIL(ERR_NOMEM, "%d message buffers of %zu bytes", n, cap);
    for (int i = n - 1; i >= 0; i--) {
        pool.bufs[i] = (struct tbuf){.data = pool.memory + stride * (size_t)i, .cap = cap};
        tbuf_pool_push(&pool, &pool.bufs[i]);
    }
    *p = pool;
    return ERR_OK;
out:
    tbuf_pool_fini(&pool);
    return e;
}

void tbuf_pool_fini(struct tbuf_pool *p)
{
    free(p->bufs);
    free(p->free);
    free(p->memory);
    *p = (struct tbuf_pool){0};
}

struct tbuf *tbuf_pool_pop(struct tbuf_pool *p)
{
    if (!p->n_free)
        return NULL;
    struct tbuf *b = p->free[--p->n_free];
    b->len = 0;
    return b;
}

void tbuf_pool_push(struct tbuf_pool *p, struct tbuf *b)
{
    assert(tbuf_pool_owns(p, b) && p->n_free < p->n);
    p->free[p->n_free++] = b;
}

bool tbuf_pool_owns(const struct tbuf_pool *p, const struct tbuf *b)
{
    return p->bufs && b >= p->bufs && b < p->bufs + p->n;
}
