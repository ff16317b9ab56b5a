/* stage.h - one pipeline stage: a run of transformer layers on one rank.
 *
 * A stage owns the weights and the KV pages of layers [first, last). It maps
 * hidden states to hidden states. Holding the embedding makes it accept tokens,
 * holding the head makes it price and draw them; a one-rank cluster is a stage
 * that does both, so there is no second code path for "local" runs. A stage may
 * hold zero layers.
 *
 * Threads: single owner; stage_step() returns when the pool is idle again.
 * Memory:  fixed at stage_open(); nothing below allocates afterwards.
 */
#ifndef CORDEE_SHARD_STAGE_H
#define CORDEE_SHARD_STAGE_H

#include "base/err.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "model/batch.h"
#include "model/sample.h"
#include "model/source.h"
#include "shard/plan.h" /* struct stage_limits */

struct stage;

struct stage_range {
    int first, last; /* layers [first, last) */
    bool embed;      /* tokens in */
    bool head;       /* logits out: final norm, head, sampler */
};

/* Bytes the stage will hold, from shapes alone; weights: adapters included. */
struct stage_bytes {
    uint64_t weights, kv, scratch;
};
MUST_CHECK err stage_measure(const struct source *src, struct stage_range range,
                             const struct stage_limits *lim, const struct kernels *k, int threads,
                             struct stage_bytes *out, struct why *why);

/* Loads and packs one range of a model, in parallel on the pool.
 *
 * src    borrowed; must outlive the stage
 * k      copied
 *
 * ERR_SHAPE  a tensor is missing or has other dimensions than the family's table
 * ERR_NOMEM  `why` says how much is needed and how much there is */
MUST_CHECK err stage_open(const struct source *src, struct stage_range range, const struct stage_limits *lim,
                          const struct kernels *k, struct pool *pool, struct stage **out, struct why *why);
void stage_close(struct stage *s); /* NULL is fine */
/* Whether its weights are mapped from shards: the page cache's memory. */
bool stage_mapped(const struct stage *s);

/* The calling thread is the one that will step: it takes the pool's first core, if
 * the pool is bound to cores. */
void stage_adopt(struct stage *s);

/* Runs one micro-batch through the stage.
 *
 * x_in     [n_rows][n_embd] f32, 64-byte aligned; NULL iff the stage embeds
 * x_out    [n_rows][n_embd] f32; NULL iff the stage holds the head
 * results  head only: room for n_rows; filled for the rows that sample or score,
 *          in row order
 *
 * On any error the KV pages of these rows are undefined and the step may be
 * retried as a whole. */
MUST_CHECK err stage_step(struct stage *s, const struct batch *b, const float *x_in, float *x_out,
                          struct row_result *results, int *n_results, struct why *why);

/* Sampler state of a slot, head only. prompt: for the repetition penalty; copied
 * with the parameters. Generated rows that pass through the stage add themselves
 * to the slot's history. Opening an open slot resets it. */
MUST_CHECK err stage_slot_open(struct stage *s, uint32_t slot, const struct sample_params *params,
                               const int32_t *prompt, int n_prompt, struct why *why);
void stage_slot_close(struct stage *s, uint32_t slot);

/* XXH3 over the KV of a page for the debug command DIGEST; 0 if out of range. */
uint64_t stage_digest(const struct stage *s, uint32_t page);

/* Right after a stage_step(), while its batch still exists: out [n_embd] = what
 * the stage made of a row, on the head after the final norm (embeddings are pooled
 * from it; an encoder's head stage does nothing else). */
void stage_hidden(const struct stage *s, int row, float *out);
/* Likewise, head only, for tests and tools: out [n_vocab] = a row's logits. */
void stage_logits(struct stage *s, int row, float *out);

#endif
