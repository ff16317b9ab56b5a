/* http.h - an HTTP/1.1 server on libevent's evhttp, with its traps guarded.
 *
 * One handler gets every request that passed the guards (http_guard.h) and answers
 * it now or later through its `struct http_exchange`: with http_reply(), or with
 * http_stream_begin/put/end (server-sent events). An exchange lives until it is
 * answered; when the client leaves first, the function given to http_on_gone() is
 * called once and the exchange is over.
 *
 * Back-pressure: what a slow reader of a stream has not taken yet is kept here, in
 * one buffer per stream; past `stream_backlog` bytes the client counts as gone.
 *
 * Threads: everything on the thread that runs the event base.
 * Idle cost: none; timers run for streams and at the limit of connections only.
 */
#ifndef CORDEE_API_HTTP_H
#define CORDEE_API_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct event_base;
struct http;
struct http_exchange;

struct http_options {
    const char *address;   /* "HOST:PORT", "[v6]:PORT", ":PORT" (all addresses); port 0: any */
    size_t max_body;       /* 0: 64 MiB; more is answered 413 */
    size_t max_headers;    /* 0: 64 KiB */
    int max_connections;   /* 0: 1024; further ones wait in the listen queue */
    int backlog;           /* 0: 4096 */
    unsigned idle_s;       /* 0: 60; to read a request, or between two of a connection */
    unsigned ping_s;       /* 0: 15; ": ping" on a silent stream */
    size_t stream_backlog; /* 0: 4 MiB */
};

typedef void http_handler_fn(void *ctx, struct http_exchange *x);

/* base: borrowed. ERR_IO names the address ("busy" when another program has it). */
MUST_CHECK err http_open(struct event_base *base, const struct http_options *o, http_handler_fn *handler,
                         void *ctx, struct http **out, struct why *why);
/* Connections are cut and exchanges end without a call to their gone functions. */
void http_close(struct http *h);
int http_port(const struct http *h); /* the port that was bound */
int http_connections(struct http *h); /* open ones */
/* Takes no new connections; those that are open go on. */
void http_stop_accepting(struct http *h);

/* ---- the request; pointers live as long as the exchange ------------------------- */
const char *http_method(const struct http_exchange *x); /* "GET" */
const char *http_path(const struct http_exchange *x);   /* decoded, without the query */
const char *http_header(const struct http_exchange *x, const char *name); /* NULL: absent */
const char *http_body(struct http_exchange *x, size_t *len);
const char *http_peer(const struct http_exchange *x); /* address of the client */

typedef void http_gone_fn(void *ctx);
/* The client left before http_reply() or http_stream_end(). x is not valid in or after fn. */
void http_on_gone(struct http_exchange *x, http_gone_fn *fn, void *ctx);

/* ---- the answer ----------------------------------------------------------------- */
void http_set_header(struct http_exchange *x, const char *name, const char *value);
/* Ends the exchange. body is copied. */
void http_reply(struct http_exchange *x, int status, const char *type, const char *body, size_t len);

/* Starts "200 text/event-stream". */
void http_stream_begin(struct http_exchange *x);
/* Copies; never blocks. */
void http_stream_put(struct http_exchange *x, const char *data, size_t len);
/* Ends the exchange once everything is sent. */
void http_stream_end(struct http_exchange *x);

#endif
