/* remote.h - a running engine's framed address as a backend (--connect).
 *
 * Dials, follows the engine's health, and feeds a link; when the connection breaks
 * it dials again with back-off and the link replays what was in flight.
 *
 * Threads: the event base's thread.
 */
#ifndef CORDEE_CLI_REMOTE_H
#define CORDEE_CLI_REMOTE_H

#include "coordinator/supervise/link.h"
#include "coordinator/front/status.h"

struct event_base;
struct remote;

struct remote_options {
    const char *address; /* HOST:PORT or unix:PATH */
    struct model_facts facts;
    int max_requests;
    uint64_t patience_ms;
};

MUST_CHECK err remote_open(struct event_base *base, const struct remote_options *o, struct remote **out,
                           struct why *why);
void remote_close(struct remote *r);
struct backend *remote_backend(struct remote *r);
/* report.h's functions; ctx is the remote. */
void remote_health(void *remote, struct health *out);
void remote_query_stats(void *remote, stats_done_fn *done, void *done_ctx);

#endif
