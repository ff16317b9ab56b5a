/* assembly.h - how a set of ranks becomes a pipeline.
 *
 * Rank 0 waits for every rank's Hello, picks the kernel set that all of them have,
 * cuts the model by bytes over their memory, sends the plan and waits until every
 * stage is loaded. What does not fit is refused here, with both numbers, before a
 * weight is read.
 */
#ifndef CORDEE_COORDINATOR_ASSEMBLY_H
#define CORDEE_COORDINATOR_ASSEMBLY_H

#include <signal.h>

#include "coordinator/config.h"
#include "proto/wire.h"
#include "shard/plan.h"
#include "transport/control.h"

struct member {
    bool joined, hello, ready;
    char host[128];
    uint32_t pid, isa;
    int cores;
    uint64_t memory_bytes;
    struct plan_stage stage;
    /* last report */
    uint64_t weight_bytes, kv_bytes, scratch_bytes, rss_bytes;
    uint64_t steps, rows, busy_us, wait_us, sent_bytes, received_bytes;
    int threads;
    char kernels[64];
};

/* Which rank an error is about, so that the supervisor knows whose host to doubt. */
struct rank_fault {
    int rank;    /* 0: none in particular */
    bool silent; /* it was not heard of any more: perhaps its host is gone */
};

struct assembly {
    int n_stages;
    struct member *members; /* [n_stages]; stage i is rank i + 1 */
    struct kernels kernels; /* the set of the whole cluster */
    struct stage_limits limits;
    enum wire_type wire;
};

struct assembly_options {
    const struct config *config;
    const struct source *src;
    int n_stages;
    uint32_t epoch;
    int threads;          /* per stage, for the scratch estimate */
    unsigned isa;         /* cap from the configuration */
    unsigned deadline_ms; /* for everybody's Hello; loading has start_timeout_s */
    const volatile sig_atomic_t *stop;
};

/* Limits of the pipeline from the configuration and the model: context, rows,
 * slots, pages (every page covers KV_PAGE positions in all layers). */
MUST_CHECK err assembly_limits(const struct config *c, const struct source *src,
                               struct stage_limits *out, struct why *why);

/* What the loss of a control connection means for the epoch: ERR_PEER, with rank, host
 * and reason in one line. */
MUST_CHECK err assembly_on_lost(const struct assembly *a, const struct control_event *ev, struct rank_fault *fault,
                                struct why *why);

/* Blocks until every stage is ready. On success fill *out; assembly_fini() frees.
 * ERR_REFUSED  does not fit; ERR_PEER a rank was lost or failed (the reason names
 * it, and *fault); ERR_TIMEOUT; ERR_CANCELLED when *stop was set. */
MUST_CHECK err assembly_run(struct control *hub, const struct assembly_options *o, struct assembly *out,
                            struct rank_fault *fault, struct why *why);
void assembly_fini(struct assembly *a);

/* One frame of a rank after the start: reports are noted, log lines printed.
 * ERR_PEER  the rank reported a failure (its own code and words in `why`). *done:
 * it ended in good order. */
MUST_CHECK err assembly_on_frame(struct assembly *a, int member, const void *data, size_t len, bool *done,
                                 struct rank_fault *fault, struct why *why);

#endif
