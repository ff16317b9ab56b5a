/* status.h - what a server says about itself: health and statistics.
 *
 * The front doors (gateway.h, service.h) get both through functions, because who
 * knows differs: rank 0 asks its engine, `serve` asks rank 0 over the link.
 */
#ifndef CORDEE_COORDINATOR_STATUS_H
#define CORDEE_COORDINATOR_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "proto/cordee.pb-c.h"

struct health_host {
    const char *name, *state;
    bool used;
    const char *reason; /* why not; "" when it is used */
};

struct health { /* texts and lists: static or valid until the next call */
    bool ready;
    uint32_t epoch;
    const char *state;  /* "ready", "starting", "recovering", "held", ... */
    const char *detail; /* one line on what is wrong; NULL or "": nothing */
    const struct health_host *hosts;
    int n_hosts; /* 0: one machine, or not known here */
};
typedef void health_fn(void *ctx, struct health *out);

/* stats: valid during the call; NULL: nobody can say now. */
typedef void stats_done_fn(void *done_ctx, const Cordee__Stats *stats);
/* Calls `done` exactly once, at once or later. */
typedef void stats_query_fn(void *ctx, stats_done_fn *done, void *done_ctx);

/* Appends a message as one JSON object, fields by their names in cordee.proto;
 * absent ones are left out. For Stats and what is in it: numbers, strings, bools and
 * (lists of) messages. */
void status_put_json(struct buf *out, const ProtobufCMessage *m);

#endif
