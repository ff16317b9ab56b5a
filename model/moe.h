/* moe.h - mixture of experts: routing, rows grouped by expert, the shared expert. */
#ifndef CORDEE_MODEL_MOE_H
#define CORDEE_MODEL_MOE_H

#include "model/forward.h"

/* A dense feed-forward block: the layer's own, or the shared expert's. gate_up
 * holds gate and up in one matrix and replaces both; gate NULL: not gated. */
struct ffn_weights {
    const struct weight *gate, *up, *gate_up, *down;
    const struct weight *gate_bias, *up_bias, *down_bias; /* NULL: none */
    int layer;
    bool shared; /* the shared expert's */
};

/* Reads f->in, leaves y [rows][ldx]. (ffn.c) */
void ffn_dense(struct forward *f, const struct ffn_weights *w, float *y);

struct moe {
    float *scores; /* [max_rows][ld_scores] */
    size_t ld_scores;
    int *expert;        /* [max_rows][n_used], ascending */
    float *weight;      /* [max_rows][n_used], in the order of expert */
    int *slot;          /* [max_rows][n_used]: where the row stands among the gathered rows */
    int *start;         /* [n_expert + 1]: first gathered row of each expert */
    int *n_gen;         /* [n_expert]: how many of them are generated rows */
    int *row;           /* [max_rows * n_used]: gathered row -> row */
    struct acts in;     /* gathered rows; with moe_weight_on_input scaled */
    struct acts hidden; /* activations between gate/up and down */
    float *gate, *up;   /* [max_rows * n_used][ldff] */
    size_t ldff;
    float *out;               /* [max_rows * n_used][ldx] */
    float *shared;            /* [max_rows][ldx] the shared expert's output */
    struct row_place *place;  /* [max_rows * n_used] */
    struct product *products; /* [2 * n_expert] */
};

void moe_carve(struct forward *f, struct carve *c);
void moe_block(struct forward *f, int l, const struct weight *w, float *y);

/* Chooses experts for one row of router scores [hp->n_expert] (overwritten).
 * bias: added for the choice only, or NULL. expert[n_used] comes out ascending with
 * its weights; ties in score go to the lower index. Pure; exposed for tests. */
void moe_choose(const struct hparams *hp, float *scores, const float *bias, int *expert, float *weight);

#endif
