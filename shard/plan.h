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

/* stages [n]: one per node, in order. The cut minimises the slowest stage's
 * bytes / speed, then the spread; ties go to the front.
 * ERR_REFUSED  some stage cannot fit its node: the reason gives both numbers;
 *              or more stages than layers + 2 */
MUST_CHECK err plan_cut(const struct plan_model *m, const struct plan_node *nodes, int n,
                        struct plan_stage *stages, struct why *why);

#endif
