/* link.h - `serve`'s backend: requests go to rank 0 and survive it.
 *
 * Every request is in a journal (journal.h) from submit to its last event. While an
 * epoch is up, requests are sent to rank 0 as Envelopes; when one is lost they wait;
 * when the next one is up all are sent again with their tokens so far, as `resume`,
 * and what had been told already is not told twice. The asker sees a pause.
 *
 * Knows no transport: bytes leave through a function and come in through
 * link_on_frame(). What an epoch that is gone still says is recognised by its
 * number and dropped.
 *
 * Threads: single owner, as backend.h says. Idle cost: none (link_wait_ms() is -1).
 */
#ifndef CORDEE_COORDINATOR_LINK_H
#define CORDEE_COORDINATOR_LINK_H

#include "coordinator/backend.h"
#include "coordinator/front/status.h"

struct link;

/* Takes one packed Envelope (copied, never blocks). Anything but ERR_OK means that
 * it was not sent: requests wait for the next epoch. */
typedef err link_send_fn(void *ctx, const void *body, size_t len, struct why *why);

struct link_options {
    link_send_fn *send;
    void *ctx;
    int max_requests;     /* 0: 4096; in the journal at once, more are ERR_FULL */
    uint64_t patience_ms; /* 0: 300000; how long a request waits for an epoch before it fails */
    struct model_facts facts; /* name "" : taken from rank 0 when it is first up */
};

MUST_CHECK err link_open(const struct link_options *o, struct link **out, struct why *why);
/* Fails what is left with ERR_CANCELLED. */
void link_close(struct link *l);
struct backend *link_backend(struct link *l);

/* An epoch is up: rank 0 takes requests. */
void link_on_ready(struct link *l, uint32_t epoch);
/* It is gone. Twice is fine. */
void link_on_lost(struct link *l);
/* One packed Envelope from rank 0. ERR_FORMAT: not one (the caller ends the epoch). */
MUST_CHECK err link_on_frame(struct link *l, const void *body, size_t len, struct why *why);

/* Lets impatient requests fail and sends again what rank 0 had no room for. */
void link_tick(struct link *l);
/* Until link_tick() has work; -1: not before something else happens. */
int link_wait_ms(const struct link *l);

/* Requests in the journal. */
int link_pending(const struct link *l);
/* A stats_query_fn; ctx is the link. */
void link_query_stats(void *link, stats_done_fn *done, void *done_ctx);

#endif
