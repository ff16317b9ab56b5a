/* framed.c - see framed.h.
 *
 * Closing is always done from the loop: a dropped connection stops reading and an
 * event ends it, so no function is ever surprised by the end of what it holds.
 */
#include "api/framed.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "api/address.h"
#include "base/log.h"

struct framed_conn {
    LIST_ENTRY(framed_conn) link;
    struct framed *owner;
    struct bufferevent *bev;
    void *tag;
    bool dropped;
};

struct framed {
    struct event_base *base;
    struct framed_options o;
    struct evconnlistener *listener;
    char *unix_path; /* to remove at the end, or NULL */
    int port, n;
    LIST_HEAD(, framed_conn) conns;
};

static void conn_free(struct framed_conn *c)
{
    LIST_REMOVE(c, link);
    c->owner->n--;
    bufferevent_free(c->bev);
    free(c);
}

static void event_cb(struct bufferevent *bev, short what, void *arg)
{
    struct framed_conn *c = arg;
    struct framed *f = c->owner;
    (void)bev;
    (void)what; /* end of stream, reset, or framed_drop(): all the same here */
    if (f->o.on_closed)
        f->o.on_closed(f->o.ctx, c);
    conn_free(c);
}

void framed_drop(struct framed_conn *c, const char *reason)
{
    if (c->dropped)
        return;
    c->dropped = true;
    log_warn("framed: connection dropped: %s", reason);
    bufferevent_disable(c->bev, EV_READ | EV_WRITE);
    bufferevent_trigger_event(c->bev, BEV_EVENT_ERROR, BEV_TRIG_DEFER_CALLBACKS);
}

static void read_cb(struct bufferevent *bev, void *arg)
{
    struct framed_conn *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    while (!c->dropped) {
        uint8_t head[5];
        uint32_t body = 0;
        ev_ssize_t got = evbuffer_copyout(in, head, sizeof head);
        int n = c->owner->o.head(head, got > 0 ? (size_t)got : 0, c->owner->o.frame_max, &body);
        if (n < 0) {
            framed_drop(c, "not a frame length, or above the cap");
            return;
        }
        if (n == 0 || evbuffer_get_length(in) - (size_t)n < body)
            return;
        evbuffer_drain(in, (size_t)n);
        const unsigned char *data = body ? evbuffer_pullup(in, (ev_ssize_t)body) : (const unsigned char *)"";
        if (!data) {
            framed_drop(c, "no memory for a frame");
            return;
        }
        c->owner->o.on_frame(c->owner->o.ctx, c, data, body);
        evbuffer_drain(in, body);
    }
}

static void accept_cb(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *addr, int len, void *arg)
{
    struct framed *f = arg;
    struct framed_conn *c = NULL;
    struct bufferevent *bev = NULL;
    (void)l;
    (void)addr;
    (void)len;
    if (f->n >= f->o.max_connections)
        goto refuse;
    c = calloc(1, sizeof *c);
    bev = c ? bufferevent_socket_new(f->base, fd, BEV_OPT_CLOSE_ON_FREE) : NULL;
    if (!bev)
        goto refuse;
    c->owner = f;
    c->bev = bev;
    LIST_INSERT_HEAD(&f->conns, c, link);
    f->n++;
    bufferevent_setcb(bev, read_cb, NULL, event_cb, c);
    /* Room for one whole frame: an endless one stops at the socket. */
    bufferevent_setwatermark(bev, EV_READ, 0, (size_t)f->o.frame_max + 5);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
    return;

refuse:
    log_warn("framed: connection refused: %d are open", f->n);
    free(c);
    evutil_closesocket(fd);
}

err framed_open(struct event_base *base, const struct framed_options *o, struct framed **out, struct why *why)
{
    err e;
    struct framed *f = calloc(1, sizeof *f);
    if (!f)
        FAIL(ERR_NOMEM, "no memory for the framed API");
    f->base = base;
    f->o = *o;
    f->o.address = NULL; /* borrowed only for this call */
    f->o.frame_max = o->frame_max ? o->frame_max : 64u << 20;
    f->o.max_connections = o->max_connections ? o->max_connections : 256;
    f->o.out_max = o->out_max ? o->out_max : 64u << 20;
    TRY(address_listen(base, o->address, 128, accept_cb, f, &f->listener, &f->port, why));
    if (strncmp(o->address, "unix:", 5) == 0)
        f->unix_path = strdup(o->address + 5);
    *out = f;
    f = NULL;
    e = ERR_OK;
out:
    framed_close(f);
    return e;
}

void framed_close(struct framed *f)
{
    if (!f)
        return;
    while (LIST_FIRST(&f->conns))
        conn_free(LIST_FIRST(&f->conns));
    if (f->listener)
        evconnlistener_free(f->listener);
    if (f->unix_path)
        unlink(f->unix_path);
    free(f->unix_path);
    free(f);
}

int framed_port(const struct framed *f)
{
    return f->port;
}

void framed_set_tag(struct framed_conn *c, void *tag)
{
    c->tag = tag;
}

void *framed_tag(const struct framed_conn *c)
{
    return c->tag;
}

void framed_send(struct framed_conn *c, const void *body, size_t len)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    uint8_t head[5];
    size_t n = 0, rest = len;
    if (c->dropped)
        return;
    if (len > c->owner->o.frame_max || evbuffer_get_length(out) + len > c->owner->o.out_max) {
        framed_drop(c, "the peer does not read its answers");
        return;
    }
    do {
        head[n++] = (uint8_t)((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
        rest >>= 7;
    } while (rest);
    if (evbuffer_add(out, head, n) != 0 || evbuffer_add(out, body, len) != 0)
        framed_drop(c, "no memory for an answer");
}
