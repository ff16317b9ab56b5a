/* rank.h - the life of a stage rank: join, load what the plan says, compute, leave.
 *
 *   Hello -> (Plan) -> stage_open -> Ready -> worker_turn() ... STOP -> Done
 *
 * Everything that goes wrong is reported to rank 0 over the control plane (Done
 * with a code) before the function returns; the caller then ends the process.
 */
#ifndef CORDEE_WORKER_RANK_H
#define CORDEE_WORKER_RANK_H

#include "base/err.h"
#include "model/source.h"
#include "transport/control.h"
#include "transport/transport.h"

struct rank_options {
    uint32_t epoch;
    const char *host;   /* how this rank calls its node in reports */
    int threads;        /* of the pool; >= 1 */
    const int *cpus;    /* [threads] that they are bound to, borrowed; NULL: to none */
    unsigned isa;       /* what this rank may use (cpu_isa() and the configured cap) */
    unsigned plan_ms;   /* give up waiting for the plan after */
};

/* All borrowed. hub: the connection to rank 0. Blocks until the epoch ends.
 * ERR_OK      orderly end: the caller drains MPI and leaves
 * ERR_PEER    rank 0 or a neighbour is gone: leave at once
 * others      a failure of this rank, already reported */
MUST_CHECK err rank_run(struct transport *t, struct control *hub, const struct source *src,
                        const struct rank_options *o, struct why *why);

#endif
