/* cluster.h - a launched and supervised pipeline, as a backend.
 *
 * Holds the hub that rank 0 dials, the link with its journal, and the processes of
 * the present epoch. What to do is decided by supervise.h; this file does it. The
 * owner's loop calls cluster_turn() when cluster_fd() is readable, when a child
 * ended (SIGCHLD), and at the latest after cluster_wait_ms().
 *
 * Threads: one owner; the hub has a control thread of its own.
 */
#ifndef CORDEE_COORDINATOR_CLUSTER_H
#define CORDEE_COORDINATOR_CLUSTER_H

#include "coordinator/config.h"
#include "coordinator/supervise/launch.h"
#include "coordinator/supervise/link.h"
#include "coordinator/front/status.h"

struct cluster;

struct cluster_options {
    const struct config *config;
    const struct launch_site *site;
    struct model_facts facts;
};

/* All borrowed. Nothing is started before the first turn. process_init() was called. */
MUST_CHECK err cluster_open(const struct cluster_options *o, struct cluster **out, struct why *why);
/* Kills what runs, waits for it, fails what is left of the requests. */
void cluster_close(struct cluster *c);
struct backend *cluster_backend(struct cluster *c);

void cluster_turn(struct cluster *c);
/* Readable when a turn is due; -1 while nothing is launched. Ask again after each turn.
 * serial  another one means another hub, though the number of its descriptor may be the same */
int cluster_fd(const struct cluster *c, unsigned *serial);
int cluster_wait_ms(const struct cluster *c);

/* Asks for the orderly end; go on turning until cluster_ended(). */
void cluster_stop(struct cluster *c);
/* True when nothing runs and nothing will: after a stop (ERR_OK), or because a plan
 * was refused or launches kept failing (why says it). */
bool cluster_ended(const struct cluster *c, err *code, struct why *why);

/* report.h's functions; ctx is the cluster. */
void cluster_health(void *cluster, struct health *out);
void cluster_query_stats(void *cluster, stats_done_fn *done, void *done_ctx);

#endif
