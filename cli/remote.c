/* remote.c - see remote.h. */
#include "cli/remote.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "api/address.h"
#include "base/log.h"
#include "proto/frame.h"

#define DIAL_FIRST_MS 50
#define DIAL_MOST_MS 2000
#define TICK_MS 250

struct remote {
    struct event_base *base;
    struct remote_options o;
    char address[512];
    struct link *link;
    struct bufferevent *bev; /* NULL between connections */
    struct event *timer;     /* dials, or ticks the link */
    uint32_t connections;    /* the link's epoch number */
    unsigned dial_ms;
    bool up;
};

static void lost(struct remote *r, const char *reason)
{
    if (r->up)
        log_warn("%s: %s; dialing again", r->address, reason);
    if (r->bev)
        bufferevent_free(r->bev);
    r->bev = NULL;
    r->up = false;
    link_on_lost(r->link);
}

static err send_body(void *ctx, const void *body, size_t len, struct why *why)
{
    struct remote *r = ctx;
    uint8_t head[5];
    size_t n = 0;
    if (!r->up)
        return why_set(why, ERR_PEER, "not connected");
    for (size_t v = len; n == 0 || v; v >>= 7)
        head[n++] = (uint8_t)((v & 127) | (v >> 7 ? 128 : 0));
    bufferevent_write(r->bev, head, n);
    bufferevent_write(r->bev, body, len);
    return ERR_OK;
}

static void on_read(struct bufferevent *bev, void *ctx)
{
    struct remote *r = ctx;
    struct evbuffer *in = bufferevent_get_input(bev);
    struct why why;
    while (r->bev == bev) {
        uint8_t head[5];
        uint32_t body;
        ev_ssize_t got = evbuffer_copyout(in, head, sizeof head);
        int n = got > 0 ? frame_head(head, (size_t)got, FRAME_MAX_BYTES, &body) : 0;
        if (n < 0) {
            lost(r, "it does not speak the framed API");
            return;
        }
        if (n == 0 || evbuffer_get_length(in) < (size_t)n + body)
            return;
        evbuffer_drain(in, (size_t)n);
        const void *data = body ? (const void *)evbuffer_pullup(in, body) : "";
        if (link_on_frame(r->link, data, body, &why) != ERR_OK) {
            lost(r, why.text);
            return;
        }
        evbuffer_drain(in, body);
    }
}

static void on_event(struct bufferevent *bev, short what, void *ctx)
{
    struct remote *r = ctx;
    (void)bev;
    if (what & BEV_EVENT_CONNECTED) {
        r->up = true;
        r->dial_ms = DIAL_FIRST_MS;
        log_info("connected to %s", r->address);
        link_on_ready(r->link, ++r->connections);
    } else {
        lost(r, what & BEV_EVENT_EOF ? "closed" : evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    }
}

static void dial(struct remote *r)
{
    struct why why;
    struct sockaddr_storage to;
    socklen_t len;
    if (address_resolve(r->address, &to, &len, &why) != ERR_OK) {
        log_warn("%s", why.text);
        return;
    }
    r->bev = bufferevent_socket_new(r->base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (!r->bev)
        return;
    bufferevent_setcb(r->bev, on_read, NULL, on_event, r);
    bufferevent_enable(r->bev, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect(r->bev, (struct sockaddr *)&to, (int)len) != 0)
        lost(r, "cannot connect");
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct remote *r = ctx;
    unsigned ms = TICK_MS;
    (void)fd;
    (void)what;
    if (!r->bev) {
        dial(r);
        ms = r->dial_ms;
        r->dial_ms = r->dial_ms * 2 > DIAL_MOST_MS ? DIAL_MOST_MS : r->dial_ms * 2;
    }
    link_tick(r->link);
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    evtimer_add(r->timer, &tv);
}

err remote_open(struct event_base *base, const struct remote_options *o, struct remote **out, struct why *why)
{
    struct remote *r = calloc(1, sizeof *r);
    struct sockaddr_storage to;
    socklen_t len;
    struct timeval now = {0, 0};
    err e;

    if (!r)
        return why_set(why, ERR_NOMEM, "remote");
    *r = (struct remote){.base = base, .o = *o, .dial_ms = DIAL_FIRST_MS};
    if (strlen(o->address) >= sizeof r->address)
        FAIL(ERR_INVAL, "address too long");
    strcpy(r->address, o->address);
    TRY(address_resolve(r->address, &to, &len, why));
    struct link_options lo = {send_body, r, o->max_requests, o->patience_ms, o->facts};
    TRY(link_open(&lo, &r->link, why));
    r->timer = evtimer_new(base, on_timer, r);
    if (!r->timer || evtimer_add(r->timer, &now) != 0)
        FAIL(ERR_NOMEM, "timer");
    *out = r;
    r = NULL;
out:
    if (e)
        remote_close(r);
    return e;
}

void remote_close(struct remote *r)
{
    if (!r)
        return;
    if (r->bev)
        bufferevent_free(r->bev);
    if (r->timer)
        event_free(r->timer);
    r->up = false;
    if (r->link)
        link_close(r->link);
    free(r);
}

struct backend *remote_backend(struct remote *r)
{
    return link_backend(r->link);
}

void remote_health(void *remote, struct health *out)
{
    const struct remote *r = remote;
    *out = (struct health){.ready = r->up, .epoch = r->connections, .state = r->up ? "ready" : "connecting"};
}

void remote_query_stats(void *remote, stats_done_fn *done, void *done_ctx)
{
    struct remote *r = remote;
    link_query_stats(r->link, done, done_ctx);
}
