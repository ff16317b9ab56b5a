/* driver.h - a cluster without processes: stages chained by function calls.
 *
 * What rank 0 and the workers do over messages, done in order in one process, so
 * that tests of the forward pass need neither MPI nor a scheduler. Failures are
 * cmocka failures: nothing here returns an error.
 */
#ifndef CORDEE_TESTS_GOLDEN_DRIVER_H
#define CORDEE_TESTS_GOLDEN_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/stage.h"

enum { CHAIN_STAGES = 16, CHAIN_SEQS = 16, CHAIN_CONTEXT = 1024, CHAIN_ADAPTERS = 4 };

struct chain_options {
    int stages, threads, max_rows; /* 0: 1, 1, 64 */
    unsigned isa;                  /* ISA_REF is 0 */
    enum precision precision;
    enum kv_type kv_type;
    bool emulate_tiles; /* AMX kernels, with tiles in plain C; the test skips where that cannot be */
    const char *adapters[CHAIN_ADAPTERS]; /* paths, NULL past the last */
};

struct chain {
    struct chain_options o;
    struct source *src;
    const struct hparams *hp;
    struct kernels k;
    struct pool *pool;
    struct stage *stages[CHAIN_STAGES];
    float *x[2]; /* [max_rows][n_embd] between stages */
    struct batch_row *rows;
    struct row_result *results;
    uint32_t pages[CHAIN_SEQS][CHAIN_CONTEXT / KV_PAGE];
    uint32_t step;
    uint32_t adapter[CHAIN_SEQS]; /* of each sequence: 0 none, else 1 + its place in o.adapters */
    /* the step being put together, and its outcome */
    struct batch_seq seqs[CHAIN_SEQS];
    int n_rows, n_gen, n_results;
    struct batch last;
};

void chain_open(struct chain *c, const char *path, const struct chain_options *o);
void chain_close(struct chain *c);

/* Opens the sampler slot of a sequence: NULL params: greedy. */
void chain_slot(struct chain *c, int seq, const struct sample_params *params);

/* Adds a row to the step: generated ones first. Returns its index. */
int chain_row(struct chain *c, int seq, int32_t token, int pos, unsigned flags, int32_t target);
/* Runs the step; results are in c->results. */
void chain_run(struct chain *c);
/* Of the last step's row, right after chain_run(). */
void chain_logits(struct chain *c, int row, float *out);

/* Feeds ids [n] as a prompt in chunks (0: max_rows). logprobs [n] of each id given
 * those before it (first untouched), or NULL. Returns the token drawn after the last
 * id; *logprob its price, if not NULL. */
int32_t chain_prompt(struct chain *c, int seq, const int32_t *ids, int n, int chunk, float *logprobs,
                     float *logprob);
/* One generated token in, the next one out. */
int32_t chain_next(struct chain *c, int seq, int32_t token, int pos, float *logprob);

/* A path of pieces; fails when it does not fit. */
struct path {
    char text[1024];
};
struct path path_of(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Environment, or NULL: the test skips. */
const char *golden_dir(void);
const char *golden_model(void);

#endif
