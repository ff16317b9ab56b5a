/* batch.h - one micro-batch as a stage sees it.
 *
 * Stages keep no sequence state but the KV pages: which pages a sequence owns is
 * rank 0's business and comes with every batch, so prefix sharing, preemption and
 * recovery need no extra protocol. Generated rows come first, then prompt rows;
 * rows of one sequence are in position order and adjacent.
 */
#ifndef CORDEE_MODEL_BATCH_H
#define CORDEE_MODEL_BATCH_H

#include <stdint.h>

enum {
    ROW_GENERATED = 1, /* role: use the decode kernels, else the prompt kernels */
    ROW_SAMPLE = 2,    /* last stage: draw the token that follows */
    ROW_SCORE = 4,     /* last stage: log-probability of `target` (and the top-n) */
    ROW_DEAD = 8,      /* its sequence ended meanwhile: compute nothing that matters */
    ROW_LONG = 16,     /* longrope: its prompt is longer than the original context, so even early
                          positions use the long factors; set by whoever admits the sequence */
    ROW_EMBED = 32,    /* last row of a text: the last stage gives its pooled hidden states; all rows
                          of the text are in this batch, and target is an enum pooling */
};

enum pooling { POOL_MEAN, POOL_FIRST, POOL_COUNT }; /* over all rows of a text; its first row ([CLS]) */

struct batch_row {
    int32_t token;
    int32_t pos;
    int32_t target; /* ROW_SCORE: the token that really follows */
    uint16_t seq;   /* index into seqs */
    uint8_t flags;
    uint8_t n_top; /* alternatives wanted with log-probabilities, 0..20 */
};

struct batch_seq {
    uint32_t slot; /* names the sampler state on the last stage */
    uint32_t n_pages;
    const uint32_t *pages; /* [n_pages]; page i holds positions [i*KV_PAGE, (i+1)*KV_PAGE) */
    uint32_t adapter;      /* 0: the model as it is, else adapter number adapter - 1 is added */
};

struct batch {
    uint32_t step;
    int n_rows, n_gen; /* rows [0, n_gen) are generated, [n_gen, n_rows) prompt */
    int n_seqs;
    const struct batch_row *rows;
    const struct batch_seq *seqs;
};

#endif
