/* attn_latent.h - buffers of multi-head latent attention (DeepSeek). */
#ifndef CORDEE_MODEL_ATTN_LATENT_H
#define CORDEE_MODEL_ATTN_LATENT_H

#include "model/forward.h"

struct latent {
    struct acts heads;        /* [n_head][max_rows]: one head of one row, for per-head products */
    float *q_a, *kv_a;        /* [max_rows][q_lora], [max_rows][kv_lora + qk_rope] */
    float *q;                 /* [max_rows][n_head][qk_nope + qk_rope] */
    float *q_latent;          /* [max_rows][n_head][kv_lora + qk_rope] */
    float *out_latent;        /* [max_rows][n_head][kv_lora] */
    struct row_place *place;  /* [n_head][max_rows] */
    struct product *products; /* [n_head] */
};

void latent_carve(struct forward *f, struct carve *c);

#endif
