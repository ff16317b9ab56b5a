/* worker.h - the state machine of one stage rank.
 *
 * The owner thread polls the transport and feeds a runner thread, which computes
 * stage_step() on the rank's pool: messages progress while the stage computes,
 * and the next micro-batch's receive is always posted. The last stage sends every
 * result to rank 0 and the sampled tokens also to stage 1 (the ring).
 *
 * States change only in worker_go(), along the table in worker.c.
 */
#ifndef CORDEE_WORKER_WORKER_H
#define CORDEE_WORKER_WORKER_H

#include <stdbool.h>

#include "base/err.h"
#include "proto/wire.h"
#include "shard/stage.h"
#include "transport/transport.h"

#define WORKER_STATES(X)                                      \
    X(JOINING, "connected; no plan yet")                      \
    X(LOADING, "plan accepted; mapping and packing weights")  \
    X(READY, "steps may arrive")                              \
    X(DRAINING, "finish steps in flight, take no new ones")   \
    X(GONE, "transport closed; the process is about to exit")

enum worker_state {
#define WORKER_ENUM(id, text) WORKER_##id,
    WORKER_STATES(WORKER_ENUM)
#undef WORKER_ENUM
    WORKER_STATE_COUNT
};

struct worker;

struct worker_options {
    uint32_t epoch;
    int stage;        /* 1..n_stages */
    int n_stages;
    int prev_rank;    /* who sends ACTS: rank 0 or the stage before */
    int next_rank;    /* the stage after, or -1 */
    int first_rank;   /* stage 1 (ring target of the last stage) */
    int last_rank;    /* the last stage (ring source of stage 1) */
    enum wire_type wire;
    struct wire_limits limits;
    int n_embd;
};

struct worker_stats {
    uint64_t steps, rows, busy_us, wait_us;
};

/* Longest message this rank sends or receives: what transport_start() needs. */
size_t worker_max_message(const struct worker_options *o);

/* Both borrowed; the stage belongs to the worker's thread until worker_close().
 * The transport is started by the caller: it hears prev_rank and, on stage 1 of
 * several, last_rank; at least three send buffers of worker_max_message() bytes.
 * o->limits.page_rows must be KV_PAGE. */
MUST_CHECK err worker_open(struct transport *t, struct stage *s, const struct worker_options *o,
                           struct worker **out, struct why *why);
/* Waits for the step being computed. NULL is fine. */
void worker_close(struct worker *w);

/* One turn: polls, forwards, hands work to the runner. *busy: do not sleep.
 * ERR_CANCELLED: STOP arrived and everything is drained: the orderly end.
 * ERR_PEER: a message was damaged, out of order or not allowed; other codes: the
 * stage failed. After an error only worker_close() makes sense. */
MUST_CHECK err worker_turn(struct worker *w, bool *busy, struct why *why);
enum worker_state worker_state(const struct worker *w);
void worker_stats(const struct worker *w, struct worker_stats *out);

#endif
