/* engine_state.h - what the three parts of the engine share.
 *
 *   report.c   results become events for the callbacks
 *   place.c    slots and pages: who gets them, who gives them back
 *   engine.c   the backend, the turn, sending, opening and closing
 *
 * Only these include this file.
 */
#ifndef CORDEE_COORDINATOR_ENGINE_STATE_H
#define CORDEE_COORDINATOR_ENGINE_STATE_H

#include "coordinator/engine/engine.h"
#include "coordinator/engine/kvmap.h"
#include "coordinator/engine/pipeline.h"
#include "coordinator/engine/request.h"
#include "coordinator/engine/sched.h"
#include "coordinator/engine/seq.h"

struct engine {
    struct backend backend; /* first: engine_backend() */
    struct engine_options o;
    struct sched_limits lim;
    struct kvmap *kv;
    struct pipeline *pipe;
    struct fair_key *keys;
    struct seq **slots;   /* [max_slots] the sequence of each slot, or NULL */
    struct seq **waiting; /* [n_waiting] of max_queue + max_slots */
    int n_waiting, n_active;
    bool closing;
    bool try_admit; /* something changed since admission last gave up */
    uint64_t next_handle;
    struct engine_stats stats;
    /* scratch of one scheduling decision, [max_slots] each */
    struct sched_seq *view;
    struct seq **view_seq;
    struct sched_item *items;
    int *lanes;
    struct pipeline_part *parts;
    struct sched_wait *waits; /* [max_queue + max_slots] */
};

/* ---- report.c ---- */

/* What the pipeline calls for each result; ctx: struct engine. */
struct pipeline_sink report_sink(struct engine *en);
/* Says how the sequence ended; its place is given back once its rows are. */
void report_finish(struct engine *en, struct seq *s, enum finish how);
void report_failure(struct engine *en, struct seq *s, err code, const char *reason);

/* ---- place.c ---- */

/* Ends what is cancelled or complete, takes places back, queues preempted ones. */
void place_settle(struct engine *en, bool *busy);
/* Lets waiting requests in while there are slots and pages. */
void place_admit(struct engine *en, bool *busy);
/* Takes the place of a running sequence as soon as its rows in flight are back. */
void place_preempt(struct engine *en, struct seq *s);
/* The running sequences as the scheduler sees them, into en->view and v. */
void place_view(struct engine *en, struct sched_view *v);
/* Rows of s from `first` on have been sent: complete pages may be read by others. */
void place_sent(struct engine *en, struct seq *s, int first);
/* Frees a sequence that has no place any more. */
void place_free(struct engine *en, struct seq *s);

#endif
