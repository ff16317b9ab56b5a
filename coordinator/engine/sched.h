/* sched.h - what runs next: pure functions of a view, no state, no clock, no I/O.
 *
 * Three questions: which waiting request is admitted next (sched_pick), which
 * rows make the next micro-batch (sched_batch), and who has to give its pages
 * back when there are none (sched_victim).
 *
 * Lanes. Decoding sequences are spread over lanes; one lane is one micro-batch
 * per step. A stage's decode step reads its weights once whether it has one row
 * or eight, so there are as few lanes as fill the stages: one per stage, one more
 * when each would still carry SCHED_FULL_LANE rows (that hides the hops). Where one
 * stage costs more than the others it is never idle with fewer: full_stages says how
 * many equal stages the pipeline is worth (two, of which one does 85 % of the work,
 * are worth one: a lane of 8 rows gave 1.8 times the speed of two of 4). A lane's
 * next step is sent before its tokens are known: they reach stage 1 over the
 * ring, and rank 0 is not on the path. Each lane has at most two steps in flight,
 * one running and one waiting at stage 1.
 *
 * The pipeline is first in, first out, so a micro-batch that waits at stage 1 for
 * a token blocks all behind it. Therefore rows whose token is still far from the
 * ring (sent less than n_stages micro-batches ago) give way while anything else
 * can run, and a sequence that just ended its prompt joins its lane only then.
 *
 * Bulk rows (prompts, and generated rows that are replayed) ride along with lanes
 * under a small budget that keeps stage times even, or travel alone, cut so that
 * all stages work on one prompt at once.
 */
#ifndef CORDEE_COORDINATOR_SCHED_H
#define CORDEE_COORDINATOR_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCHED_FULL_LANE = 8,  /* rows up to which a decode step costs about the same */
    SCHED_MIN_CHUNK = 64, /* prompt rows below which a micro-batch is not worth its way */
    SCHED_AHEAD = 2,      /* steps of one lane in flight */
};

struct sched_limits {
    int n_stages;
    int full_stages;   /* 1..n_stages, or 0: n_stages */
    int max_rows;
    int mix_rows;      /* bulk rows beside a lane */
    int lanes;         /* 0: as above */
    int page_rows;
    size_t open_bytes; /* samplers in one micro-batch */
};

/* An admitted sequence. Positions count its tokens: [0, n_prompt) prompt, then
 * generated ones. Position p may run once its token is known or on its way. */
struct sched_seq {
    int n_prompt;
    int n_known;   /* tokens rank 0 knows, prompt included */
    int n_pending; /* tokens being sampled by micro-batches in flight */
    int n_rows;    /* positions that will ever run */
    int next;      /* first position not sent */
    int n_flight;  /* micro-batches in flight that carry rows of it */
    int n_pages;   /* pages it holds */
    int lane;      /* it last ran in; -1: none yet */
    uint32_t last_step; /* of its last micro-batch; meaningless with n_flight == 0 */
    int priority;
    uint64_t arrival;
    size_t open_bytes; /* what its sampler adds to the next micro-batch, 0: sent before */
    bool whole;        /* its prompt is never cut (n_prompt <= max_rows) */
    bool held;         /* takes no rows now (ended, drained, waits for a shared page) */
};

struct sched_view {
    const struct sched_seq *seqs; /* [n] */
    int n;
    struct sched_limits lim;
    uint32_t next_step;
    int n_flight;    /* micro-batches */
    uint32_t room;   /* pages that can be taken */
    bool draining;   /* a victim's pages are about to come back */
};

/* Rows [first, first + n) of seqs[seq]. */
struct sched_item {
    int seq, first, n;
};

struct sched_plan {
    struct sched_item *items; /* [view.n] caller's; generated rows first */
    int *lane;                /* [view.n] caller's; to be remembered for the sequences in items */
    int n_items;
    int n_gen_items;          /* items [0, n_gen_items) are generated rows */
    int n_rows;
    int victim;               /* sequence to preempt because a row found no page, or -1 */
};

/* True: send out->items as one micro-batch. False: nothing can run now. Either way
 * out->victim may name a sequence. O(n * lanes). */
bool sched_batch(const struct sched_view *v, struct sched_plan *out);

/* How many micro-batches may be in flight at most under these limits, for `seqs`
 * sequences; to size buffers. */
int sched_max_flight(const struct sched_limits *lim, int seqs);

struct sched_wait {
    int priority;    /* higher first */
    uint64_t served; /* rows its key has had: less first */
    uint64_t arrival;
};
/* Index of the request to admit next; n >= 1. */
int sched_pick(const struct sched_wait *w, int n);

/* May a request that needs `need` pages enter? Keeps one page back per running
 * sequence, so that an entry does not force a preemption at once. */
bool sched_fits(uint32_t need, uint32_t room, int n_active);

/* The least worthy sequence of priority < below (not held, youngest first), or -1. */
int sched_victim(const struct sched_view *v, long below);

#endif
