/* cluster_state.h - struct cluster, shared by the files that make it up:
 *
 *   cluster.c      actions, processes, hosts, and what the owner calls
 *   cluster_hub.c  what ranks say, and what it means for the epoch
 */
#ifndef CORDEE_COORDINATOR_CLUSTER_STATE_H
#define CORDEE_COORDINATOR_CLUSTER_STATE_H

#include "coordinator/supervise/cluster.h"
#include "coordinator/supervise/process.h"
#include "coordinator/supervise/roster.h"
#include "coordinator/supervise/supervise.h"
#include "transport/control.h"

#define CLUSTER_KEY_BYTES 32

struct cluster {
    struct cluster_options o;
    struct supervise sup;
    struct link *link;
    struct roster *roster;
    struct control *hub; /* NULL between epochs */
    unsigned n_hubs;     /* opened so far */
    struct process mpiexec;
    uint64_t killed_at_ms;
    uint64_t lost_at_ms;  /* when the last epoch that was ready was lost; 0: never */
    uint64_t ready_at_ms; /* of this epoch; 0: not yet */
    uint64_t busy_at_ms;
    char key[2 * CLUSTER_KEY_BYTES + 1];
    struct why last; /* the latest alarm, in words */
    err last_code;
    bool was_ready;
    bool ended_unasked; /* mpiexec ended before anybody said why */
    bool waits;         /* a launch is due, and there is no host for it */
};

/* Tells the epochs' machine what happened and does what it says. */
void cluster_step(struct cluster *c, enum supervise_event ev);

/* Opens the hub of the epoch that starts; closing it ends what is left of an old one. */
MUST_CHECK err cluster_open_hub(struct cluster *c, struct why *why);
void cluster_close_hub(struct cluster *c); /* twice is fine */
/* Takes what has come; may end the epoch, and close the hub, on the way. */
void cluster_poll_hub(struct cluster *c);
/* The epoch is over for this reason: launched anew if that may help. */
void cluster_alarm(struct cluster *c, err code, const char *reason);
/* A link_send_fn; ctx is the cluster. */
err cluster_send_to_rank0(void *ctx, const void *body, size_t len, struct why *why);
/* Asks rank 0 for the orderly end. */
void cluster_send_shutdown(struct cluster *c);

#endif
