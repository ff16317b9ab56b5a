/* engine.h - rank 0's heart: sequences, KV pages, micro-batches in flight.
 *
 * A backend (backend.h). Decisions are sched.h's (pure); this file holds the
 * state, builds descriptors, sends them to stage 1 over the data plane and matches
 * the results that the last stage returns. Works over any transport, so whole
 * clusters run inside one test process.
 */
#ifndef CORDEE_COORDINATOR_ENGINE_H
#define CORDEE_COORDINATOR_ENGINE_H

#include "coordinator/backend.h"
#include "proto/wire.h"
#include "transport/transport.h"

struct engine;

enum {
    ENGINE_PAGE_ROWS = 32, /* positions of a KV page (kernels/kernels.h: KV_PAGE) */
};

struct engine_options {
    uint32_t epoch;
    int n_stages;
    int full_stages; /* equal stages that the pipeline is worth (sched.h); 0: n_stages */
    int first_rank, last_rank; /* ranks of stage 1 and of the last stage */
    int max_rows;      /* token budget of a micro-batch */
    int mix_rows;      /* of them prompt rows beside decode rows; 0: a quarter, at least 32 */
    int max_slots;     /* live sequences */
    int max_context;
    uint32_t n_pages;
    int max_queue;     /* waiting requests before ERR_FULL */
    int in_flight;     /* decode lanes; 0: as many as fill the stages (sched.h) */
    int n_vocab, n_embd;
    struct model_facts facts; /* max_context is lowered to what the pages can hold */
    int long_prompt;          /* rows of longer prompts are WIRE_ROW_LONG (longrope); 0: none */
    bool no_sharing;          /* every prompt computes all of its rows */
    uint64_t salt;            /* whatever else makes KV pages differ: KV type */
    unsigned timeout_ms;      /* no result for so long with work in flight: ERR_TIMEOUT; 0: off */
};

struct engine_stats {
    uint64_t requests, active, queued, prompt_tokens, generated_tokens, cached_tokens;
    uint64_t failed, cancelled, steps, rows;
    uint64_t preempted;
    uint64_t prefix_pages, prefix_again, prefix_evicted; /* struct kvmap_counts */
    uint32_t pages_used, pages;
};

/* t: borrowed, started by the caller for messages of engine_max_message() bytes
 * from last_rank, with engine_send_bufs() send buffers. */
MUST_CHECK err engine_open(struct transport *t, const struct engine_options *o, struct engine **out,
                           struct why *why);
void engine_close(struct engine *e); /* fails what is left with ERR_CANCELLED */
struct backend *engine_backend(struct engine *e);

/* One turn of the owner's loop: polls the transport, delivers events, schedules,
 * sends. *busy: something happened (do not sleep); untouched otherwise. Callbacks
 * may submit and cancel. ERR_PEER, ERR_TIMEOUT: the epoch is over; what is left
 * fails in engine_close(). */
MUST_CHECK err engine_turn(struct engine *e, bool *busy, struct why *why);
/* Nothing waiting and nothing in flight. */
bool engine_idle(const struct engine *e);
/* Sends STOP down the pipeline; engine_idle() must hold. ERR_AGAIN: no buffer is
 * free, turn and try again. Go on with engine_turn() until transport_unsent() is 0:
 * only then has the message left. */
MUST_CHECK err engine_stop(struct engine *e, struct why *why);
void engine_stats(const struct engine *e, struct engine_stats *out);

/* Longest message of a pipeline with these limits. */
size_t engine_max_message(int max_rows, int max_slots, int max_context, uint32_t n_pages, int n_embd, int n_embedding,
                          enum wire_type x);
/* Send buffers that keep rank 0 (and a worker) from ever waiting for one. */
int engine_send_bufs(const struct engine_options *o);

#endif
