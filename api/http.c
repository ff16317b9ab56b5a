/* http.c - see http.h.
 *
 * Connections. evhttp neither counts its connections nor says when one without a
 * request ends, and holding a reference to its bufferevents is no way out (a freed
 * one then still polls its descriptor's successor). So connections are counted as
 * they come; at the limit those are struck off whose descriptor is closed or became
 * another socket, and the listener rests as long as that does not help.
 *
 * Who frees a request. Until it is answered an evhttp_request is ours only if the
 * connection failed under it (evhttp then cuts the request's link to it); in every
 * other case evhttp frees it. gone_cb() is the one place that has to know.
 *
 * Time limits. evhttp's one timeout covers reading and writing and would end every
 * quiet stream, so it is off from a request's arrival to its answer's last byte
 * being queued (but for the writing of a stream's end), and on otherwise.
 */
#include "api/http.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "api/address.h"
#include "api/http_guard.h"
#include "api/openai.h"
#include "base/buf.h"
#include "base/log.h"

enum { READ_AHEAD = 65536 }; /* bytes of a next request taken before this one is answered */

struct conn {
    LIST_ENTRY(conn) link;
    const struct bufferevent *bev; /* a name only: it may be gone. Newer entries come first */
    bool nul;                      /* a NUL byte came in: evhttp's lines would end there */
    int fd;                        /* -1: not known yet */
    dev_t dev;                     /* of the socket behind fd */
    ino_t ino;
};

struct http_exchange {
    LIST_ENTRY(http_exchange) link;
    struct http *http;
    struct evhttp_request *req;
    char *path;
    char *peer;
    struct event *ping;
    struct buf backlog; /* stream bytes that the socket has not taken */
    bool streaming, sending, ending, silent;
    http_gone_fn *gone;
    void *gone_ctx;
};

struct http {
    struct event_base *base;
    struct evhttp *evhttp;
    struct evconnlistener *listener; /* owned by evhttp */
    struct event *look;  /* finds out the descriptors of new connections */
    struct event *sweep; /* runs while the listener rests */
    struct http_options o;
    int port, n_conns;
    bool resting, stopped;
    http_handler_fn *handler;
    void *ctx;
    LIST_HEAD(, conn) conns;
    LIST_HEAD(, http_exchange) exchanges;
};

/* ---- connections ------------------------------------------------------------------ */

/* evhttp attaches the descriptor right after accept_cb(): this runs later in the
 * same turn of the loop, when nothing can have ended the connection yet. */
static void look_cb(evutil_socket_t fd, short what, void *arg)
{
    struct http *h = arg;
    struct conn *c;
    struct stat st;
    (void)fd;
    (void)what;
    LIST_FOREACH(c, &h->conns, link) {
        if (c->fd >= 0)
            break; /* older ones are known */
        c->fd = bufferevent_getfd((struct bufferevent *)(uintptr_t)c->bev);
        if (c->fd >= 0 && fstat(c->fd, &st) == 0) {
            c->dev = st.st_dev;
            c->ino = st.st_ino;
        }
    }
}

static bool conn_alive(const struct conn *c)
{
    struct stat st;
    return c->fd < 0 || (fstat(c->fd, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino);
}

static void conns_sweep(struct http *h)
{
    struct conn *c = LIST_FIRST(&h->conns), *next;
    for (; c; c = next) {
        next = LIST_NEXT(c, link);
        if (conn_alive(c))
            continue;
        LIST_REMOVE(c, link);
        free(c);
        h->n_conns--;
    }
}

static void sweep_cb(evutil_socket_t fd, short what, void *arg)
{
    struct http *h = arg;
    struct timeval soon = { 0, 50000 };
    (void)fd;
    (void)what;
    conns_sweep(h);
    if (h->n_conns >= h->o.max_connections) {
        evtimer_add(h->sweep, &soon);
        return;
    }
    h->resting = false;
    if (!h->stopped)
        evconnlistener_enable(h->listener);
}

/* JSON and text never hold a NUL, so any is an attack on line-based parsing. */
static void input_cb(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg)
{
    struct conn *c = arg;
    struct evbuffer_ptr at;
    struct evbuffer_iovec v[8];
    size_t left = info->n_added;
    if (left == 0 || c->nul)
        return;
    if (evbuffer_ptr_set(in, &at, evbuffer_get_length(in) - left, EVBUFFER_PTR_SET) != 0)
        return;
    while (left > 0) {
        size_t seen = 0;
        int n = evbuffer_peek(in, (ev_ssize_t)left, &at, v, 8);
        for (int i = 0; i < n && i < 8 && seen < left; i++) {
            size_t len = v[i].iov_len < left - seen ? v[i].iov_len : left - seen;
            c->nul |= memchr(v[i].iov_base, 0, len) != NULL;
            seen += len;
        }
        left -= seen;
        if (seen == 0 || (left > 0 && evbuffer_ptr_set(in, &at, seen, EVBUFFER_PTR_ADD) != 0))
            return;
    }
}

static struct bufferevent *accept_cb(struct event_base *base, void *arg)
{
    struct http *h = arg;
    struct timeval soon = { 0, 50000 };
    struct conn *c = calloc(1, sizeof *c);
    struct bufferevent *bev = c ? bufferevent_socket_new(base, -1, 0) : NULL;
    if (!bev || !evbuffer_add_cb(bufferevent_get_input(bev), input_cb, c)) {
        free(c);
        return bev; /* evhttp makes its own, not counted */
    }
    if (h->n_conns + 1 >= h->o.max_connections)
        conns_sweep(h);
    c->bev = bev;
    c->fd = -1;
    LIST_INSERT_HEAD(&h->conns, c, link);
    event_active(h->look, EV_TIMEOUT, 0);
    if (++h->n_conns >= h->o.max_connections && !h->resting) {
        h->resting = true;
        evconnlistener_disable(h->listener);
        evtimer_add(h->sweep, &soon);
        log_warn("http: %d connections, the limit; new ones wait", h->n_conns);
    }
    return bev;
}

static bool conn_has_nul(const struct http *h, const struct bufferevent *bev)
{
    struct conn *c;
    LIST_FOREACH(c, &h->conns, link)
        if (c->bev == bev)
            return c->nul;
    return false;
}

/* ---- one request and its answer ----------------------------------------------------- */

static struct bufferevent *exchange_bev(const struct http_exchange *x)
{
    struct evhttp_connection *evcon = evhttp_request_get_connection(x->req);
    return evcon ? evhttp_connection_get_bufferevent(evcon) : NULL;
}

static void exchange_free(struct http_exchange *x)
{
    LIST_REMOVE(x, link);
    if (x->ping)
        event_free(x->ping);
    buf_fini(&x->backlog);
    free(x->path);
    free(x->peer);
    free(x);
}

/* From here on the request is evhttp's. */
static void exchange_leave(struct http_exchange *x)
{
    struct evhttp_connection *evcon = evhttp_request_get_connection(x->req);
    struct timeval idle = { x->http->o.idle_s, 0 };
    if (!evcon)
        return;
    evhttp_connection_set_closecb(evcon, NULL, NULL);
    struct bufferevent *bev = evhttp_connection_get_bufferevent(evcon);
    bufferevent_setwatermark(bev, EV_READ, 0, 0);
    bufferevent_set_timeouts(bev, &idle, &idle);
}

/* evhttp stops reading while it waits for an answer, so it would not see the client
 * leave. Reading on with its error callback alone shows it; a next request's bytes
 * stay in the buffer, up to a limit. */
static void watch_client(struct bufferevent *bev)
{
    bufferevent_data_cb reads, writes;
    bufferevent_event_cb events;
    void *ctx;
    bufferevent_getcb(bev, &reads, &writes, &events, &ctx);
    bufferevent_setcb(bev, NULL, writes, events, ctx);
    bufferevent_setwatermark(bev, EV_READ, 0, READ_AHEAD);
    bufferevent_set_timeouts(bev, NULL, NULL);
    bufferevent_enable(bev, EV_READ);
}

static void gone_cb(struct evhttp_connection *evcon, void *arg)
{
    struct http_exchange *x = arg;
    http_gone_fn *gone = x->gone;
    void *ctx = x->gone_ctx;
    (void)evcon;
    if (!evhttp_request_get_connection(x->req))
        evhttp_request_free(x->req);
    exchange_free(x);
    if (gone)
        gone(ctx);
}

/* Drops a client that does not read; gone_cb() follows from the error path. */
static void exchange_abort(struct http_exchange *x)
{
    struct evhttp_connection *evcon = evhttp_request_get_connection(x->req);
    x->sending = true; /* nothing more is handed to evhttp */
    if (evcon)
        bufferevent_trigger_event(evhttp_connection_get_bufferevent(evcon), BEV_EVENT_ERROR | BEV_EVENT_WRITING,
                                  BEV_TRIG_DEFER_CALLBACKS);
}

static const char *const method_names[] = {
    "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH",
};

const char *http_method(const struct http_exchange *x)
{
    unsigned command = (unsigned)evhttp_request_get_command(x->req);
    unsigned i = (unsigned)__builtin_ctz(command ? command : 1u);
    return i < sizeof method_names / sizeof *method_names ? method_names[i] : "?";
}

const char *http_path(const struct http_exchange *x)
{
    return x->path;
}

const char *http_header(const struct http_exchange *x, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(x->req), name);
}

const char *http_body(struct http_exchange *x, size_t *len)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(x->req);
    *len = evbuffer_get_length(in);
    const char *data = (const char *)evbuffer_pullup(in, -1);
    return data ? data : "";
}

const char *http_peer(const struct http_exchange *x)
{
    return x->peer ? x->peer : "";
}

void http_on_gone(struct http_exchange *x, http_gone_fn *fn, void *ctx)
{
    x->gone = fn;
    x->gone_ctx = ctx;
}

void http_set_header(struct http_exchange *x, const char *name, const char *value)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(x->req);
    evhttp_remove_header(headers, name);
    evhttp_add_header(headers, name, value);
}

void http_reply(struct http_exchange *x, int status, const char *type, const char *body, size_t len)
{
    struct evbuffer *data = evbuffer_new();
    if (evhttp_request_get_command(x->req) == EVHTTP_REQ_HEAD) {
        char digits[24];
        snprintf(digits, sizeof digits, "%zu", len);
        http_set_header(x, "Content-Length", digits);
        len = 0;
    }
    if (!data || evbuffer_add(data, body, len) != 0)
        status = 500;
    http_set_header(x, "Content-Type", type);
    exchange_leave(x);
    evhttp_send_reply(x->req, status, NULL, data);
    if (data)
        evbuffer_free(data);
    exchange_free(x);
}

/* ---- streams ------------------------------------------------------------------------- */

static void stream_pump(struct http_exchange *x);

/* The socket took everything of the last chunk. */
static void drained_cb(struct evhttp_connection *evcon, void *arg)
{
    struct http_exchange *x = arg;
    (void)evcon;
    x->sending = false;
    stream_pump(x);
}

/* Hands the backlog on as one chunk, when evhttp has none of ours in hand. */
static void stream_pump(struct http_exchange *x)
{
    if (x->sending)
        return;
    if (x->backlog.len > 0) {
        struct evbuffer *chunk = evbuffer_new();
        if (!chunk || evbuffer_add(chunk, x->backlog.data, x->backlog.len) != 0) {
            if (chunk)
                evbuffer_free(chunk);
            exchange_abort(x);
            return;
        }
        buf_clear(&x->backlog);
        x->sending = true;
        evhttp_send_reply_chunk_with_cb(x->req, chunk, drained_cb, x);
        evbuffer_free(chunk);
    } else if (x->ending) {
        exchange_leave(x);
        evhttp_send_reply_end(x->req);
        exchange_free(x);
    }
}

static void ping_cb(evutil_socket_t fd, short what, void *arg)
{
    struct http_exchange *x = arg;
    (void)fd;
    (void)what;
    if (x->silent && !x->sending && !x->ending)
        http_stream_put(x, ": ping\n\n", 8);
    x->silent = true;
}

void http_stream_begin(struct http_exchange *x)
{
    struct timeval every = { x->http->o.ping_s, 0 };
    http_set_header(x, "Content-Type", "text/event-stream; charset=utf-8");
    http_set_header(x, "Cache-Control", "no-cache");
    http_set_header(x, "X-Accel-Buffering", "no");
    x->streaming = x->silent = true;
    x->ping = event_new(x->http->base, -1, EV_PERSIST, ping_cb, x);
    if (x->ping)
        event_add(x->ping, &every);
    evhttp_send_reply_start(x->req, 200, "OK");
}

void http_stream_put(struct http_exchange *x, const char *data, size_t len)
{
    x->silent = false;
    buf_put(&x->backlog, data, len);
    if (x->backlog.failed || x->backlog.len > x->http->o.stream_backlog) {
        log_warn("http: %s does not read its stream; dropped", http_peer(x));
        buf_clear(&x->backlog);
        exchange_abort(x);
        return;
    }
    stream_pump(x);
}

void http_stream_end(struct http_exchange *x)
{
    struct timeval idle = { x->http->o.idle_s, 0 };
    struct bufferevent *bev = exchange_bev(x);
    x->ending = true;
    x->gone = NULL; /* its maker is done with it, whatever becomes of the rest */
    if (bev) /* the rest must leave in time */
        bufferevent_set_timeouts(bev, NULL, &idle);
    stream_pump(x);
}

/* ---- requests come in ------------------------------------------------------------------ */

static void refuse(struct http_exchange *x, int status, const char *message)
{
    struct buf body = { 0 };
    openai_put_error(&body, status, message, NULL, NULL);
    http_set_header(x, "Connection", "close");
    http_reply(x, status, "application/json", body.data ? body.data : "", body.len);
    buf_fini(&body);
}

/* Decoded path, or NULL when it is not one. */
static char *path_of(const struct evhttp_request *req)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    size_t len = 0;
    char *decoded = path ? evhttp_uridecode(path, 0, &len) : NULL;
    if (decoded && (strlen(decoded) != len || utf8_valid_prefix(decoded, len) != len)) {
        free(decoded);
        decoded = NULL;
    }
    return decoded;
}

static void request_cb(struct evhttp_request *req, void *arg)
{
    struct http *h = arg;
    struct evhttp_connection *evcon = evhttp_request_get_connection(req);
    struct bufferevent *bev = evhttp_connection_get_bufferevent(evcon);
    struct http_exchange *x = calloc(1, sizeof *x);
    char *peer = NULL;
    ev_uint16_t port;
    if (!x) {
        evhttp_send_error(req, 503, "no memory");
        return;
    }
    x->http = h;
    x->req = req;
    LIST_INSERT_HEAD(&h->exchanges, x, link);
    evhttp_connection_get_peer(evcon, &peer, &port);
    x->peer = peer ? strdup(peer) : NULL;
    x->path = path_of(req);
    watch_client(bev);
    evhttp_connection_set_closecb(evcon, gone_cb, x);

    const char *bad = http_guard(evhttp_request_get_input_headers(req), req->major == 1 && req->minor == 0);
    if (conn_has_nul(h, bev))
        bad = "the request has NUL bytes";
    else if (!bad && !x->path)
        bad = "the path is not valid";
    if (bad)
        refuse(x, 400, bad);
    else
        h->handler(h->ctx, x);
}

/* ---- open and close --------------------------------------------------------------------- */

static void options_default(struct http_options *o)
{
    o->max_body = o->max_body ? o->max_body : 64u << 20;
    o->max_headers = o->max_headers ? o->max_headers : 64u << 10;
    o->max_connections = o->max_connections ? o->max_connections : 1024;
    o->backlog = o->backlog ? o->backlog : 4096;
    o->idle_s = o->idle_s ? o->idle_s : 60;
    o->ping_s = o->ping_s ? o->ping_s : 15;
    o->stream_backlog = o->stream_backlog ? o->stream_backlog : 4u << 20;
}

err http_open(struct event_base *base, const struct http_options *o, http_handler_fn *handler, void *ctx,
              struct http **out, struct why *why)
{
    err e;
    struct http *h = calloc(1, sizeof *h);
    struct evconnlistener *listener = NULL;
    if (!h)
        FAIL(ERR_NOMEM, "no memory for the HTTP server");
    h->base = base;
    h->o = *o;
    h->o.address = NULL; /* borrowed only for this call */
    h->handler = handler;
    h->ctx = ctx;
    options_default(&h->o);
    h->evhttp = evhttp_new(base);
    h->look = event_new(base, -1, EV_PERSIST, look_cb, h);
    h->sweep = evtimer_new(base, sweep_cb, h);
    if (!h->evhttp || !h->look || !h->sweep)
        FAIL(ERR_NOMEM, "no memory for the HTTP server");
    evhttp_set_gencb(h->evhttp, request_cb, h);
    evhttp_set_bevcb(h->evhttp, accept_cb, h);
    evhttp_set_timeout(h->evhttp, (int)h->o.idle_s);
    evhttp_set_max_body_size(h->evhttp, (ev_ssize_t)h->o.max_body);
    evhttp_set_max_headers_size(h->evhttp, (ev_ssize_t)h->o.max_headers);
    evhttp_set_default_content_type(h->evhttp, NULL);
    evhttp_set_allowed_methods(h->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                                              EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH);
    TRY(address_listen(base, o->address, h->o.backlog, NULL, NULL, &listener, &h->port, why));
    if (!evhttp_bind_listener(h->evhttp, listener)) {
        evconnlistener_free(listener);
        FAIL(ERR_NOMEM, "no memory for the HTTP server");
    }
    h->listener = listener;
    *out = h;
    h = NULL;
    e = ERR_OK;
out:
    http_close(h);
    return e;
}

void http_close(struct http *h)
{
    struct http_exchange *x;
    struct conn *c;
    if (!h)
        return;
    while ((x = LIST_FIRST(&h->exchanges))) {
        struct evhttp_connection *evcon = evhttp_request_get_connection(x->req);
        if (evcon)
            evhttp_connection_set_closecb(evcon, NULL, NULL);
        exchange_free(x);
    }
    if (h->evhttp)
        evhttp_free(h->evhttp);
    while ((c = LIST_FIRST(&h->conns))) {
        LIST_REMOVE(c, link);
        free(c);
    }
    if (h->look)
        event_free(h->look);
    if (h->sweep)
        event_free(h->sweep);
    free(h);
}

int http_port(const struct http *h)
{
    return h->port;
}

int http_connections(struct http *h)
{
    conns_sweep(h);
    return h->n_conns;
}

void http_stop_accepting(struct http *h)
{
    h->stopped = true;
    evconnlistener_disable(h->listener);
}
