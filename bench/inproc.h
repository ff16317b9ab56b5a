/* inproc.h - one stage with a whole model in this process: no messages, no scheduler.
 *
 * What the benchmarks of the forward pass have in common. What `cordee bench`
 * loses against these numbers is the cluster's overhead; what these lose against
 * bench_kernels is the forward pass's.
 *
 * Threads: single owner, like the stage inside.
 */
#ifndef CORDEE_BENCH_INPROC_H
#define CORDEE_BENCH_INPROC_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/stage.h"

enum { INPROC_STREAMS = 256, INPROC_CHUNK = 512 }; /* most streams; rows of a prompt's micro-batch */

struct inproc {
    /* Set by the caller before inproc_open(). */
    int threads, streams, context; /* context: positions each stream may have */
    enum precision precision;
    const char *isa; /* a name for cpu_isa_parse() */

    struct kernels kernels;
    struct source *src;
    struct pool *pool;
    struct stage *stage;
    struct stage_bytes bytes;
    double load_seconds;
    uint32_t *pages; /* [streams][pages each] */
    struct batch_seq seqs[INPROC_STREAMS];
    struct batch_row rows[INPROC_CHUNK];
    struct row_result results[INPROC_CHUNK];
    int n_results;
};

/* Loads `path` and touches everything once. On failure too, release with
 * inproc_close(). */
MUST_CHECK err inproc_open(struct inproc *p, const char *path, struct why *why);
void inproc_close(struct inproc *p);

/* Runs `n` tokens at positions 0.. of every stream from the first up to `streams`,
 * one stream after the other, and draws one token each.
 *
 * ids      [n], or NULL for arbitrary tokens, others in each stream
 * logprob  [n] or NULL; logprob[i], i >= 1, becomes log p(ids[i] | ids[< i]) of the
 *          last stream; every row is priced then, as evaluation does */
MUST_CHECK err inproc_prompt(struct inproc *p, int streams, const int *ids, int n, float *logprob, struct why *why);

/* Generates `steps` tokens in each of the first `streams` streams, from position
 * `pos` on, all streams in one micro-batch. */
MUST_CHECK err inproc_decode(struct inproc *p, int streams, int pos, int steps, struct why *why);

#endif
