/* plan_model.c - the planner's input from a model's shapes. */
#include "shard/plan.h"

#include <stdlib.h>

#include "shard/stage.h"

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

err plan_model_fill(const struct source *src, const struct stage_limits *lim, const struct kernels *k,
                    int threads, struct plan_model *out, struct why *why)
{
    const struct hparams *hp = source_hparams(src);
    struct stage_bytes layer = {0}, embed, head;
    int n = hp->n_layer;
    uint64_t scratch = 0;
    err e;
    uint64_t *layer_bytes = calloc((size_t)hp->n_layer + 1, sizeof *layer_bytes);

    if (!layer_bytes)
        FAIL(ERR_NOMEM, "plan");
    TRY(stage_measure(src, (struct stage_range){0, 0, true, false}, lim, k, threads, &embed, why));
    TRY(stage_measure(src, (struct stage_range){n, n, false, true}, lim, k, threads, &head, why));
    /* Measured, not summed from the file: a stage holds routers and latent
     * projections in other types than the file does. */
    for (int i = 0; i < n; i++) {
        TRY(stage_measure(src, (struct stage_range){i, i + 1, false, false}, lim, k, threads, &layer, why));
        layer_bytes[i] = layer.weights;
        scratch = most(scratch, layer.scratch);
    }
    *out = (struct plan_model){
        .n_layer = hp->n_layer,
        .layer_bytes = layer_bytes,
        .embed_bytes = embed.weights,
        .head_bytes = head.weights,
        .kv_bytes_per_layer = layer.kv,
        .fixed_bytes = most(most(embed.scratch, head.scratch), scratch),
    };
    layer_bytes = NULL;
out:
    free(layer_bytes);
    return e;
}

void plan_model_fini(struct plan_model *m)
{
    free((void *)(uintptr_t)m->layer_bytes);
    m->layer_bytes = NULL;
}
