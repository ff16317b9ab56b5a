/* seq.h - one request inside the engine: its tokens, its place, what was reported.
 *
 * Tokens are one array: prompt, then generated. A sequence waits (slot -1), is
 * admitted (slot, pages), runs, and ends; after its end it may linger until the
 * micro-batches that still carry rows of it have come back. Preemption sends it
 * back to waiting with all its tokens: prompt rows are computed again as prompt
 * rows, generated ones as generated rows, so every bit stays what it was.
 *
 * Threads: the engine's owner.
 */
#ifndef CORDEE_COORDINATOR_SEQ_H
#define CORDEE_COORDINATOR_SEQ_H

#include "coordinator/backend.h"
#include "coordinator/engine/kvmap.h"
#include "coordinator/engine/sched.h"
#include "proto/wire.h"

#define SEQ_STATES(X)                                                   \
    X(WAITING, "in the queue")                                          \
    X(RUNNING, "has a slot and pages")                                  \
    X(YIELDING, "preempted: waits for its rows in flight, then queues") \
    X(ENDED, "reported its end; waits for its rows in flight")

enum seq_state {
#define SEQ_ENUM(id, text) SEQ_##id,
    SEQ_STATES(SEQ_ENUM)
#undef SEQ_ENUM
    SEQ_STATE_COUNT
};

struct fair_key { /* requests of one key share a counter */
    struct fair_key *next;
    uint64_t served; /* rows computed for it */
    int n_live;
    char name[];
};

struct seq {
    uint64_t handle, arrival;
    gen_event_fn *fn;
    void *ctx;
    enum seq_state state;
    bool cancelled;

    int32_t *tokens; /* [max_tokens] */
    int n_prompt, n_known, n_resume;
    int max_tokens; /* prompt + generated, context included: never more */
    int n_rows;     /* positions that will ever run */
    struct sample_params sampling; /* lists owned */
    bool embed;     /* no token follows: the text's hidden states are asked for, all rows at once */
    int pooling;    /* enum pooling, with embed */
    bool score, logprobs, is_long; /* is_long: all rows are WIRE_ROW_LONG */
    int score_from; /* prompt positions before it are not scored */
    int n_top, priority;
    uint32_t adapter; /* as in wire_seq */
    struct fair_key *key; /* never NULL in the engine */

    int slot, lane;
    bool opened; /* the last stage has its sampler */
    int next;    /* first position not sent */
    int n_pending, n_flight;
    uint32_t last_step;
    uint32_t *pages; /* [max pages of a sequence] */
    int n_pages, n_shared;  /* pages [0, n_shared) came from others */
    int n_announced;        /* pages [0, n_announced) are published, or shared */
    int n_cached;           /* prompt positions not computed at its last entry */
    int next_score;         /* first prompt position not reported (score) */
};

/* Copies all of req. max_context: positions; page_rows: to size the block table.
 * ERR_NOMEM. Free with seq_close(). */
MUST_CHECK err seq_open(const struct gen_request *req, int max_context, int page_rows, struct seq **out,
                        struct why *why);
void seq_close(struct seq *s); /* NULL is fine; pages and key are the engine's business */

/* The only assignment to s->state. */
void seq_go(struct seq *s, enum seq_state to);

/* As the scheduler sees it. held: computed by the engine. */
struct sched_seq seq_view(const struct seq *s, bool held);

/* Is this an end token of its sampling parameters? */
bool seq_is_end(const struct seq *s, int32_t token);
/* Everything it asked for is there already (nothing to compute). */
bool seq_is_complete(const struct seq *s);
/* Why a complete sequence, or one that just sampled an end token, is over. */
enum finish seq_finish(const struct seq *s);

/* The sampler as it travels; points into s. */
struct wire_sampler seq_sampler(const struct seq *s);
/* Bytes that the sampler adds to a descriptor, at most. */
size_t seq_open_bytes(const struct seq *s);

/* Back to the queue: forgets place and progress, keeps tokens and reports. */
void seq_rewind(struct seq *s);

#endif
