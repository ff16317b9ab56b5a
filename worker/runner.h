/* runner.h - the thread of a stage rank that computes, so that messages move meanwhile.
 *
 * The owner gives jobs and collects them in the same order; two may be given at
 * once, so that the runner goes from one to the next without waiting for the
 * owner's next look. A job is the owner's before runner_give() and after
 * runner_done() counts it, the runner's in between.
 *
 * The stage belongs to the runner thread alone (samplers are opened there too).
 */
#ifndef CORDEE_WORKER_RUNNER_H
#define CORDEE_WORKER_RUNNER_H

#include <stdbool.h>

#include "proto/wire.h"
#include "shard/stage.h"
#include "transport/transport.h"

enum { RUNNER_JOBS = 2 };

struct job {
    /* in */
    struct wire_batch wire;
    struct batch batch;       /* rows and seqs below, ring rows already patched */
    struct batch_row *rows;   /* [max_rows] */
    struct batch_seq *seqs;   /* [max_seqs] */
    const void *x_wire;       /* activations as received, NULL on the first stage */
    void *y_wire;             /* activations to send, NULL on the last stage */
    struct tbuf *in, *out;    /* the messages, for the owner */
    /* out */
    err e;
    struct why why;
    int n_answers;
    struct wire_result *answers; /* [max_rows]: one per row that asks for one, in row order */
    /* scratch */
    void *space;                 /* wire_batch_space() */
    float *x, *y;                /* [max_rows][n_embd] when the wire is not f32, else NULL */
    struct row_result *results;  /* [max_rows], last stage */
    float *pooled;               /* [max_seqs][n_hidden], last stage of an encoder */
};

struct runner;

struct runner_options {
    struct wire_limits limits;
    int n_embd;
    enum wire_type wire;
    bool first, last; /* stage of the pipeline */
};

/* s: borrowed, the runner's until runner_close(). */
MUST_CHECK err runner_open(struct stage *s, const struct runner_options *o, struct runner **out, struct why *why);
/* Waits for the job being computed; what was given behind it is dropped. NULL is fine. */
void runner_close(struct runner *r);

/* The job that will be given next. Call only with fewer than RUNNER_JOBS out. */
struct job *runner_next(struct runner *r);
void runner_give(struct runner *r);
/* The oldest job given, if it is computed; else NULL. */
struct job *runner_done(struct runner *r);
/* Takes the oldest job back: its memory may be used again. */
void runner_collect(struct runner *r);
int runner_out(const struct runner *r); /* given and not collected */

/* Time spent in the stage, and waiting for jobs. Any thread. */
void runner_times(const struct runner *r, uint64_t *busy_us, uint64_t *wait_us);

#endif
