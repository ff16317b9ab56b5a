/* fake_stage.h - a stage whose arithmetic is hashing: for tests of everything around it.
 *
 * Stands in for shard/stage.h at link time. Each of FAKE_LAYERS layers keeps one
 * number per position in its KV pages, made of the layer's input, the row's role
 * and the number of the position before, read through the block table. So the
 * output of a row depends on its whole context, on roles, on page tables and on
 * the order of steps, and on nothing else: any mistake in scheduling, paging,
 * sharing or replay gives other tokens than fake_reference().
 */
#ifndef CORDEE_TESTS_FAKE_STAGE_H
#define CORDEE_TESTS_FAKE_STAGE_H

#include "coordinator/backend.h"
#include "shard/stage.h"

enum { FAKE_LAYERS = 6, FAKE_EMBD = 4, FAKE_VOCAB = 211 };
/* A request with this seed gets no numbers from this position on. */
enum { FAKE_POISON_SEED = 0xbad, FAKE_POISON_POS = 40 };

struct stage *fake_stage_open(struct stage_range range, const struct stage_limits *lim, unsigned jitter_us);
void fake_stage_close(struct stage *s);
/* Rows that went through all stages of this kind so far (prompt rows of stage 1). */
long fake_prompt_rows(const struct stage *s);

/* What the pipeline must answer. tokens: [n] prompt then generated, filled from
 * n_prompt on until an end token; returns how many there are in all. logprobs [n]:
 * of each token given those before ([0]: 0). */
int fake_reference(const struct gen_request *req, int n, int32_t *tokens, float *logprobs);

#endif
