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
    err e;
    uint64_t *layer_bytes = calloc((size_t)hp->n_layer + 1, sizeof *layer_bytes);

    if (!layer_bytes)
        FAIL(ERR_NOMEM, "plan");
    for (int i = 0; i < hp->n_layer; i++)
        layer_bytes[i] = source_layer_bytes(src, i);
    TRY(stage_measure(src, (struct stage_range){0, 0, true, false}, lim, k, threads, &embed, why));
    TRY(stage_measure(src, (struct stage_range){n, n, false, true}, lim, k, threads, &head, why));
    if (hp->n_layer > 0)
        TRY(stage_measure(src, (struct stage_range){0, 1, false, false}, lim, k, threads, &layer, why));
    *out = (struct plan_model){
        .n_layer = hp->n_layer,
        .layer_bytes = layer_bytes,
        .embed_bytes = source_embed_bytes(src),
        .head_bytes = source_head_bytes(src),
        .kv_bytes_per_layer = layer.kv,
        .fixed_bytes = most(most(embed.scratch, head.scratch), layer.scratch),
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
