/* load.h - one model, its stages, and a fixed set of requests with their answers' bits.
 *
 * pipe_real.c and pipe_equal.c run the same load through different pipelines and
 * compare what came bit by bit.
 */
#ifndef CORDEE_TESTS_LOAD_H
#define CORDEE_TESTS_LOAD_H

#include "model/source.h"
#include "tests/cluster/pipe.h"

enum { LOAD = 8, LOAD_CONTEXT = 320, LOAD_TOKENS = 24 };

struct load_model {
    struct source *src;
    const struct hparams *hp;
    struct kernels kernels;
    enum kv_type kv_type;
    int context;
    struct pool *pools[PIPE_MAX_STAGES];
    struct stage *stages[PIPE_MAX_STAGES];
    int n_stages;
};
void load_open(struct load_model *m, const char *path, enum precision precision, enum kv_type kv_type);
void load_close(struct load_model *m);

/* Limits of the pipelines under test. */
struct engine_options load_limits(const struct load_model *m);
/* Opens stage i of n with these limits (one thread); closed by load_drop_stages(). */
struct stage *load_stage(struct load_model *m, const struct engine_options *eo, int i, int n);
void load_drop_stages(struct load_model *m);

/* The requests: greedy and sampled, with and without scores, some behind a common prefix. */
void load_requests(const struct load_model *m, struct gen_request *req);
/* True if both got the same tokens, log-probabilities and scores, bit by bit. Says
 * where they differ. */
bool load_same(const char *what, int i, const struct taken *want, const struct taken *got);

#endif
