/* gateway.h - HTTP requests meet the front: routes, keys, errors.
 *
 * One file per group of endpoints (gateway_*.c); gateway.c has the table of routes,
 * checks API keys and answers what no route takes. To add an endpoint: a file with
 * its function, a line in gateway_route.h, a row in the table.
 *
 * Threads: the event base's thread, which must be the front's owner.
 */
#ifndef CORDEE_COORDINATOR_GATEWAY_H
#define CORDEE_COORDINATOR_GATEWAY_H

#include "api/http.h"
#include "coordinator/front/front.h"
#include "coordinator/front/status.h"

struct keys;
struct gateway;

struct gateway_options {
    struct http_options http; /* http.address: where to listen */
    struct front *front;      /* borrowed; needs a tokenizer */
    const struct keys *keys;  /* borrowed; NULL: open to all */
    const char *chat_template; /* borrowed; NULL: none, chats are refused */
    health_fn *health;         /* NULL: the backend's readiness */
    void *health_ctx;
    stats_query_fn *stats; /* NULL: /stats is 404 */
    void *stats_ctx;
};

MUST_CHECK err gateway_open(struct event_base *base, const struct gateway_options *o, struct gateway **out,
                            struct why *why);
/* Cancels what runs and cuts the connections. */
void gateway_close(struct gateway *g); /* NULL is fine */
int gateway_port(const struct gateway *g);
/* For a clean end: takes no new connections, running answers go on. */
void gateway_stop_accepting(struct gateway *g);
/* Completions that are not answered yet. */
int gateway_running(const struct gateway *g);

#endif
