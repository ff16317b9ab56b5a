/* pipeline.h - micro-batches in flight: out as descriptors, back as results.
 *
 * Writes the descriptor of a plan, sends it to stage 1 and remembers, in order,
 * which results must come back. The last stage answers every micro-batch, in the
 * order of sending, with one record per row that samples or scores. Whatever does
 * not fit that expectation exactly is ERR_PEER: a wrong token is never believed.
 *
 * Threads: the engine's owner. Memory: fixed at pipeline_open().
 */
#ifndef CORDEE_COORDINATOR_PIPELINE_H
#define CORDEE_COORDINATOR_PIPELINE_H

#include "coordinator/engine/seq.h"
#include "transport/transport.h"

struct pipeline;

struct pipeline_options {
    uint32_t epoch;
    int first_rank, last_rank;
    int max_flight;          /* micro-batches */
    int max_parts;           /* sequences in one */
    struct wire_limits lim;
    unsigned timeout_ms;     /* no answer for so long: ERR_TIMEOUT; 0: wait for ever */
};

/* Rows [first, first + n) of a sequence, all prompt or all generated. */
struct pipeline_part {
    struct seq *seq;
    int first, n;
};

/* What comes back, in order. The record is valid during the call. */
struct pipeline_sink {
    void *ctx;
    void (*score)(void *ctx, struct seq *s, const struct wire_result *r);  /* of tokens[r->pos + 1] */
    void (*sample)(void *ctx, struct seq *s, const struct wire_result *r); /* the token at r->pos + 1 */
    void (*embedding)(void *ctx, struct seq *s, const struct wire_result *r); /* of the whole text */
    void (*failed)(void *ctx, struct seq *s, const struct wire_result *r); /* no number came of this row */
    /* A micro-batch with rows of s is back; results before, n_flight is reduced. */
    void (*landed)(void *ctx, struct seq *s);
};

/* t: borrowed. */
MUST_CHECK err pipeline_open(struct transport *t, const struct pipeline_options *o,
                             const struct pipeline_sink *sink, struct pipeline **out, struct why *why);
void pipeline_close(struct pipeline *p); /* NULL is fine */

int pipeline_flights(const struct pipeline *p);
/* Is there a buffer and a place for one more? Holds until pipeline_send(). */
bool pipeline_has_room(struct pipeline *p);
uint32_t pipeline_next_step(const struct pipeline *p);

/* Sends one micro-batch: n_gen parts of generated rows, then the prompt parts.
 * Moves every part's sequence on (next, n_pending, n_flight, last_step, opened).
 * Call only when pipeline_has_room(). */
MUST_CHECK err pipeline_send(struct pipeline *p, const struct pipeline_part *parts, int n, struct why *why);

/* Takes in everything that has arrived. *busy is set if anything had. */
MUST_CHECK err pipeline_poll(struct pipeline *p, bool *busy, struct why *why);

/* Nothing may be in flight. */
MUST_CHECK err pipeline_stop(struct pipeline *p, struct why *why);

uint64_t pipeline_steps(const struct pipeline *p);
uint64_t pipeline_rows(const struct pipeline *p);

#endif
