/* head.h - from hidden states to tokens and log-probabilities.
 *
 * Only rows that sample or score are normed and multiplied, slice by slice of at
 * most HEAD_ROWS rows. The vocabulary is cut into blocks of HEAD_BLOCK tokens: one
 * task multiplies a block for all rows of the slice into a small buffer and
 * reduces it there (log-sum-exp, argmax, target, best n), so a rows x vocabulary
 * matrix never exists; blocks start at fixed places and their sums are joined in
 * order, so the bits do not depend on rows or threads. Whole rows of logits are
 * kept only for rows that draw with more than argmax, a few at a time.
 *
 * Threads: single owner. Memory: fixed by head_carve(), under 64 MB plus what 64
 * threads and more keep for themselves.
 */
#ifndef CORDEE_MODEL_HEAD_H
#define CORDEE_MODEL_HEAD_H

#include "model/forward.h"
#include "model/sample.h"

enum { HEAD_ROWS = 256, HEAD_BLOCK = 512 };

/* One row of the slice in hand. */
struct head_row {
    int row; /* of the batch */
    int32_t target;
    int n_top;
    float *full; /* [2 * ld_full] whole logits and room to draw, or NULL */
    float target_logit, best_logit, lse;
    int32_t argmax, drawn;
};

struct head_part {
    float max, sum, best;
    int32_t argmax;
};

struct head {
    struct forward *f; /* borrowed: batch, hidden rows, kernels, pool, scratch */
    int n_vocab, n_blocks, n_full;
    struct acts in;            /* [HEAD_ROWS] normed rows */
    float *block;              /* [threads][HEAD_ROWS][HEAD_BLOCK] */
    struct head_part *parts;   /* [HEAD_ROWS][n_blocks] */
    struct token_logprob *top; /* [threads][HEAD_ROWS][SAMPLE_MAX_TOP], logits, best first */
    int *n_top;                /* [threads][HEAD_ROWS] */
    float *full;               /* [n_full][2 * ld_full] */
    size_t ld_full;
    struct sample_scratch *scratch; /* [threads] */
    struct head_row *rows;          /* [HEAD_ROWS] */
    struct row_place *place;        /* [HEAD_ROWS] */
};

/* An encoder needs no head: then n_vocab is 0 and only head_hidden() may be asked.
 * ERR_SHAPE: a model that generates has none. */
MUST_CHECK err head_init(struct head *h, struct forward *f, struct why *why);
void head_carve(struct head *h, struct carve *c, int threads);

/* results: filled for rows that sample or score, in row order; room for all rows.
 * Hidden states are f->x; samplers [slots] by batch_seq.slot. Every live row that
 * samples must have an open sampler. */
void head_run(struct head *h, struct sampler **samplers, struct row_result *results, int *n_results);

/* out [n_embd] = the final hidden state (after the last norm) of row i of the last
 * step: what embeddings are pooled from. */
void head_hidden(const struct head *h, int row, float *out);

/* out [n_vocab] = the logits of row i of the last step. For tests and tools. */
void head_logits(struct head *h, int row, float *out);

#endif
