/* plan.h - which layers go to which stage: a pure function of sizes.
 *
 * Layers are cut by bytes (a decode step costs what it reads), embedding and head
 * counted to the stage that holds them. A stage may end up with no layers.
 */
#ifndef CORDEE_SHARD_PLAN_H
#define CORDEE_SHARD_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/kernels.h"
#include "model/source.h"

/* What every stage of a pipeline is sized for. */
struct stage_limits {
    int max_rows;     /* rows per step, >= 1 */
    int max_slots;    /* live sequences on the head's sampler */
    int max_context;  /* positions per sequence */
    uint32_t n_pages; /* KV pages, shared by all sequences */
    enum kv_type kv_type;
};

struct plan_model {
    int n_layer;
    const uint64_t *layer_bytes; /* [n_layer] packed weights */
    uint64_t embed_bytes;        /* read one row a token: counts for memory, not for time */
    uint64_t head_bytes;
    uint64_t kv_bytes_per_layer; /* KV cache of one layer */
    uint64_t fixed_bytes;        /* scratch and buffers of any stage */
};

struct plan_node {
    uint64_t memory_bytes; /* 0: unknown, do not check */
    double speed;          /* relative read speed, 1 = one unit */
};

struct plan_stage {
    int first, last; /* layers [first, last) */
    bool embed, head;
    uint64_t weight_bytes, kv_bytes;
};

/* Fills *out from a model's shapes; no weight is read. layer_bytes is allocated,
 * plan_model_fini() frees it. threads: per stage, for the scratch. */
MUST_CHECK err plan_model_fill(const struct source *src, const struct stage_limits *lim,
                               const struct kernels *k, int threads, struct plan_model *out,
                               struct why *why);
void plan_model_fini(struct plan_model *m);

/* stages [n]: one per node, in order. The cut minimises the slowest stage's
 * bytes / speed, then the spread; ties go to the front.
 * ERR_REFUSED  some stage cannot fit its node: the reason gives both numbers;
 *              or more stages than layers + 2 */
MUST_CHECK err plan_cut(const struct plan_model *m, const struct plan_node *nodes, int n,
                        struct plan_stage *stages, struct why *why);

/* The same for a cut that was made before: first and last of the stages are given, which
 * follow each other over all layers; the rest is filled in and checked. */
MUST_CHECK err plan_given(const struct plan_model *m, const struct plan_node *nodes, int n,
                          struct plan_stage *stages, struct why *why);

#endif
