/* drive.h - turns a cluster on a libevent loop: its hub, its children, its timers, signals.
 *
 * SIGTERM and SIGINT ask for the orderly end; a second one kills.
 */
#ifndef CORDEE_CLI_DRIVE_H
#define CORDEE_CLI_DRIVE_H

#include <event2/event.h>

#include "coordinator/supervise/cluster.h"

struct drive {
    struct event_base *base;
    struct cluster *cluster;
    struct event *hub, *timer, *child, *term, *interrupt;
    int hub_fd;
    unsigned hub_serial; /* cluster_fd() */
    bool stopping, ended;
    err code; /* when ended */
    struct why why;
    /* Called after every turn while the cluster lives; may be NULL. */
    void (*after_turn)(void *ctx);
    void (*on_stop)(void *ctx); /* first signal: stop accepting; may be NULL */
    void *ctx;
};

/* base and cluster: borrowed; they must outlive the drive. */
MUST_CHECK err drive_init(struct drive *d, struct event_base *base, struct cluster *cluster, struct why *why);
void drive_fini(struct drive *d);
/* A turn from the loop as soon as possible (work was submitted). */
void drive_kick(struct drive *d);
/* As the first signal does. */
void drive_stop(struct drive *d);

/* Runs the loop until the cluster has ended. */
err drive_run(struct drive *d, struct why *why);

#endif
