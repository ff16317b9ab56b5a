/* service_listen.c - a service behind a listening socket: api/framed.h moves the
 * bytes, service.c knows what they mean, an event at the end of the loop's turn
 * flushes the tokens. */
#include <stdlib.h>

#include "api/framed.h"
#include "api/timer.h"
#include "coordinator/front/service.h"
#include "proto/frame.h"

struct service_listener {
    struct service *service;
    struct framed *framed;
    struct timer *flush;
};

static void send_cb(void *ctx, void *peer, const void *body, size_t len)
{
    (void)ctx;
    framed_send(peer, body, len);
}

static void dirty_cb(void *ctx)
{
    struct service_listener *l = ctx;
    timer_start(l->flush, 0);
}

static void flush_cb(void *ctx)
{
    struct service_listener *l = ctx;
    service_flush(l->service);
}

static void frame_cb(void *ctx, struct framed_conn *c, const void *data, size_t len)
{
    struct service_listener *l = ctx;
    struct service_peer *p = framed_tag(c);
    struct why why;
    err e = ERR_OK;
    if (!p && (e = service_peer_open(l->service, c, &p, &why)) == ERR_OK)
        framed_set_tag(c, p);
    if (e == ERR_OK)
        e = service_peer_frame(p, data, len, &why);
    if (e != ERR_OK)
        framed_drop(c, why.text);
}

static void closed_cb(void *ctx, struct framed_conn *c)
{
    (void)ctx;
    if (framed_tag(c))
        service_peer_close(framed_tag(c));
}

err service_listen(struct event_base *base, const char *address, const struct service_options *o,
                   struct service_listener **out, struct why *why)
{
    err e;
    struct service_options so = *o;
    struct service_listener *l = calloc(1, sizeof *l);
    if (!l)
        FAIL(ERR_NOMEM, "no memory for the framed API");
    so.send = send_cb;
    so.on_dirty = dirty_cb;
    so.ctx = l;
    l->flush = timer_open(base, flush_cb, l);
    if (!l->flush)
        FAIL(ERR_NOMEM, "no memory for the framed API");
    TRY(service_open(&so, &l->service, why));
    TRY(framed_open(base,
                    &(struct framed_options){ .address = address, .frame_max = FRAME_MAX_BYTES,
                                              .head = frame_head, .on_frame = frame_cb,
                                              .on_closed = closed_cb, .ctx = l },
                    &l->framed, why));
    *out = l;
    l = NULL;
out:
    service_listener_close(l);
    return e;
}

void service_listener_close(struct service_listener *l)
{
    if (!l)
        return;
    service_close(l->service); /* before the connections that it would send to */
    framed_close(l->framed);
    timer_close(l->flush);
    free(l);
}

int service_listener_port(const struct service_listener *l)
{
    return framed_port(l->framed);
}
