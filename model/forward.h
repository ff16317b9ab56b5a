/* forward.h - the layers of a stage as a function on hidden states.
 *
 * There is one forward pass for all families. What a layer does is asked from
 * the family's descriptor, the hyper-parameters and the presence of weights: a
 * model with a Q_NORM normalises queries, one without does not. Block functions
 * (attn.c, attn_latent.c, ffn.c, moe.c) share `struct forward`: they take the
 * prepared activations `in` and leave their output rows in a buffer.
 *
 * A layer is a few loops on the pool: norm (+ the residual addition of the block
 * before), Q/K/V, rotate and store, attention, output projection, norm, gate and
 * up, activation, down. Loops over rows whose work is too small to share run on
 * the caller.
 *
 * Threads: single owner; calls return when the pool is idle.
 * Memory:  all buffers come from one carve at forward_init(); a step allocates nothing.
 */
#ifndef CORDEE_MODEL_FORWARD_H
#define CORDEE_MODEL_FORWARD_H

#include "base/err.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "model/batch.h"
#include "model/carve.h"
#include "model/desc.h"
#include "model/hparams.h"
#include "model/kv.h"
#include "model/lora.h"
#include "model/matmul.h"
#include "model/rope.h"
#include "model/weights.h"

/* Forms that the readers of an activation need, by the role of the row. */
struct forms {
    form_mask of[ROLE_COUNT];
};

/* Consecutive positions of one sequence, of one role, inside one KV page's span. */
struct attn_run {
    int row0, n, pos0;
    const uint32_t *pages;
    enum role role;
    /* of one layer (attn_run.c): what is seen, and how that is shared out */
    int span0, span1;             /* spans of ATTN_SPAN positions */
    int head_shares, span_shares; /* tasks of a KV head: by query heads, by spans */
    int first_task, first_merge;  /* of all runs' tasks */
    float *parts;                 /* [n_head][span1 - span0][n] parts, or NULL: spans stay together */
};

struct moe;    /* moe.h: buffers of expert layers; NULL for dense models */
struct latent; /* attn_latent.h: buffers of latent attention; NULL for others */

struct forward {
    /* what it runs; borrowed */
    const struct arch_desc *desc;
    const struct hparams *hp;
    const struct weights *weights;
    struct lora *lora; /* adapters, or NULL: there are none */
    const struct kernels *k;
    struct pool *pool;
    struct kv *kv;
    int first, last; /* layers */
    int max_rows, max_context;

    struct matmul mm;
    struct rope rope;
    float attn_scale;
    float *slopes; /* [n_head] ALiBi, or NULL */
    float *ones;   /* [max(n_embd, head dims)]: the gain of norms without one */

    /* activations of a step */
    struct acts in;  /* normed rows: what attention and FFN read */
    struct acts mid; /* attention's output / the FFN's hidden rows: what O and down read */
    float *x;        /* [max_rows][ldx] residual stream */
    float *y, *y2;   /* [max_rows][ldx] a block's output; y2: the parallel FFN's */
    size_t ldx;
    float *qkv; /* [max_rows][ldqkv] */
    size_t ldqkv;
    float *gate, *up; /* [max_rows][ldff]; fused gate/up: both halves in gate */
    size_t ldff;
    float *cs[2]; /* [max_rows][n_cs] cos, sin of each pair: global, local */
    size_t n_cs;
    struct moe *moe;
    struct latent *latent;

    /* the step */
    const struct batch *b;
    struct rows rows;
    struct row_place *place; /* [max_rows] */
    struct attn_run *runs;   /* [max_rows] */
    int n_runs;
    float *parts; /* [n_part_floats]: spans of long contexts that several threads compute */
    size_t n_part_floats;
};

/* desc, hp, weights, lora, k, pool, kv, first, last, max_rows, max_context of *f are set by the
 * caller; weights may be shapes only. Checks that each layer has what its blocks
 * need. ERR_SHAPE: a weight is missing. */
MUST_CHECK err forward_init(struct forward *f, struct why *why);
/* Makes what depends on loaded weights. Release with forward_fini(). */
MUST_CHECK err forward_tables(struct forward *f, struct why *why);
void forward_fini(struct forward *f); /* fine on a zeroed one */

/* Takes all buffers (carve.h): once measuring, once for real. */
void forward_carve(struct forward *f, struct carve *c, int threads);

/* Starts a step: rows, runs of attention, rotary angles. b must stay until the
 * step is over and was checked by the caller (ranges of tokens, positions, pages). */
void forward_begin(struct forward *f, const struct batch *b);
/* f->x = the embedded tokens. */
void forward_embed(struct forward *f);
/* f->x through the layers. */
void forward_layers(struct forward *f);

/* ---- shared by the block functions ---- */

/* Masks of a weight's readers added to *m. */
void forms_add(const struct forward *f, struct forms *m, const struct weight *w);
/* Where row i of f->in or f->mid is to be made, and then its forms made from x: as
 * matmul_row() and matmul_prepare(), in what its role needs and what adapters read. */
float *forward_row(const struct forward *f, const struct acts *a, int i, const struct forms *m, int worker);
void forward_prepare(const struct forward *f, struct acts *a, int i, const struct forms *m, const float *x);
/* dst = norm(src) in the family's kind; gains or biases may be absent. */
void forward_norm(const struct forward *f, float *dst, const float *src, const struct weight *gain,
                  const struct weight *bias, int n);

/* Attention of layer l: reads f->in, leaves the projected output in y. */
void attn_block(struct forward *f, int l, const struct weight *w, float *y);
void attn_latent_block(struct forward *f, int l, const struct weight *w, float *y);
/* Feed forward of layer l, dense or experts: reads f->in, leaves y. */
void ffn_block(struct forward *f, int l, const struct weight *w, float *y);

#endif
