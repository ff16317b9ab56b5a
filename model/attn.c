/* attn.c - the attention block of every family with heads in the KV cache.
 *
 * project Q, K, V (one fused matrix or three) -> clip -> normalise Q and K ->
 * rotate -> store K and V -> attend -> project out. What is absent from the
 * model costs a test per row.
 */
#include <math.h>

#include "model/attn_run.h"
#include "model/forward.h"

struct attn_rows {
    struct forward *f;
    const struct weight *w;
    int layer;
    bool rope, local;
    float temp_scale; /* Llama 4: 0 none */
};

static void project(struct forward *f, int l, const struct weight *w)
{
    struct product p[3];
    int q = (int)dim_value(f->hp, DIM_Q), k = (int)dim_value(f->hp, DIM_K), n = 0;
    struct lora_site sites[] = {{W_QKV, f->qkv, f->ldqkv},
                                {W_Q, f->qkv, f->ldqkv},
                                {W_K, f->qkv + q, f->ldqkv},
                                {W_V, f->qkv + q + k, f->ldqkv}};
    if (weight_has(&w[W_QKV])) {
        p[n++] = product_of(&f->rows, &w[W_QKV], &w[W_QKV_B], f->qkv, f->ldqkv);
    } else {
        p[n++] = product_of(&f->rows, &w[W_Q], &w[W_Q_B], f->qkv, f->ldqkv);
        p[n++] = product_of(&f->rows, &w[W_K], &w[W_K_B], f->qkv + q, f->ldqkv);
        p[n++] = product_of(&f->rows, &w[W_V], &w[W_V_B], f->qkv + q + k, f->ldqkv);
    }
    matmul_run(&f->mm, &f->rows, &f->in, p, n);
    lora_add(f, l, &f->in, sites, 4);
}

/* Normalises the n_heads heads of one row in the family's way. */
static void qk_norm(const struct forward *f, float *x, const struct weight *gain, const struct weight *bias,
                    int n_heads)
{
    int dim = f->hp->head_dim_k;
    if (f->desc->attn.qk_norm == QK_NORM_L2) {
        for (int h = 0; h < n_heads; h++)
            f->k->rmsnorm(x + h * dim, x + h * dim, f->ones, f->hp->norm_eps, dim);
        return;
    }
    if (!weight_has(gain))
        return;
    if (f->desc->attn.qk_norm == QK_NORM_FULL) {
        forward_norm(f, x, x, gain, bias, n_heads * dim);
        return;
    }
    for (int h = 0; h < n_heads; h++) {
        struct weight g = *gain, b = *bias;
        if (f->desc->attn.qk_norm == QK_NORM_PER_HEAD) {
            g.v += h * dim;
            b.v = weight_has(bias) ? b.v + h * dim : NULL;
        }
        forward_norm(f, x + h * dim, x + h * dim, &g, &b, dim);
    }
}

static void rotate(const struct attn_rows *t, float *x, int n_heads, int row)
{
    const struct forward *f = t->f;
    const float *cs = f->cs[t->local] + (size_t)row * f->n_cs;
    rope_fn *fn = f->hp->rope_kind == ROPE_PAIRS ? f->k->rope_pairs : f->k->rope_halves;
    if (t->rope)
        fn(x, cs, n_heads, f->hp->head_dim_k, f->hp->n_rot);
}

/* One row: everything between the projections and the attention. */
static void finish_row(const struct attn_rows *t, int i)
{
    const struct forward *f = t->f;
    const struct hparams *hp = f->hp;
    const struct batch_row *row = &f->b->rows[i];
    float *q = f->qkv + (size_t)i * f->ldqkv;
    float *k = q + dim_value(hp, DIM_Q), *v = k + dim_value(hp, DIM_K);

    if (row->flags & ROW_DEAD)
        return;
    if (hp->attn_clip_qkv > 0)
        for (float *x = q; x < v + dim_value(hp, DIM_V); x++)
            *x = fminf(fmaxf(*x, -hp->attn_clip_qkv), hp->attn_clip_qkv);
    for (int after = 0; after < 2; after++) {
        bool norm_now = f->desc->attn.qk_norm != QK_NORM_NONE && f->desc->attn.qk_norm_after_rope == after;
        /* Llama 4 normalises only what it rotates. */
        if (norm_now && (f->desc->attn.qk_norm != QK_NORM_L2 || t->rope)) {
            qk_norm(f, q, &t->w[W_Q_NORM], &t->w[W_Q_NORM_B], hp->n_head);
            qk_norm(f, k, &t->w[W_K_NORM], &t->w[W_K_NORM_B], hp->n_head_kv);
        }
        if (!after) {
            rotate(t, q, hp->n_head, i);
            rotate(t, k, hp->n_head_kv, i);
        }
    }
    if (t->temp_scale > 0) {
        float s = 1 + t->temp_scale * log1pf(floorf((float)(row->pos + 1) / (float)hp->attn_temp_floor));
        for (float *x = q; x < k; x++)
            *x *= s;
    }
    uint32_t page = f->b->seqs[row->seq].pages[row->pos / KV_PAGE];
    for (int h = 0; h < hp->n_head_kv; h++)
        kv_put(f->kv, page, t->layer, h, row->pos, k + h * hp->head_dim_k, v + h * hp->head_dim_v);
}

static void finish_task(void *ctx, int first, int last, int worker)
{
    (void)worker;
    for (int i = first; i < last; i++)
        finish_row(ctx, i);
}

struct out_rows {
    struct forward *f;
    struct forms forms;
};

static void out_task(void *ctx, int first, int last, int worker)
{
    struct out_rows *t = ctx;
    (void)worker;
    for (int i = first; i < last; i++)
        forward_prepare(t->f, &t->f->mid, i, &t->forms, acts_row(&t->f->mid, i));
}

void attn_block(struct forward *f, int l, const struct weight *w, float *y)
{
    const struct hparams *hp = f->hp;
    bool windowed = hp->layer_window[l];
    struct attn_rows rows = {
        .f = f,
        .w = w,
        .layer = l - f->first,
        .rope = f->hp->rope_kind != ROPE_NONE && hp->n_rot > 0 && !hp->layer_no_rope[l],
        .local = windowed && f->rope.table[ROPE_LOCAL].n_half > 0,
        .temp_scale = hp->layer_no_rope[l] && hp->attn_temp_floor > 0 ? hp->attn_temp_scale : 0,
    };
    struct out_rows out = {.f = f};

    project(f, l, w);
    rows_run(f->pool, f->rows.n, (int64_t)f->ldqkv, finish_task, &rows);

    acts_begin(&f->mid, (int)dim_value(hp, DIM_ATTN));
    struct attn_shape s = {
        .q = f->qkv,
        .ldq = f->ldqkv,
        .out = acts_row(&f->mid, 0),
        .ldo = f->mid.stride[ACT_F32] / sizeof(float),
        .n_head = hp->n_head,
        .layer = rows.layer,
        .window = windowed ? hp->window : 0,
        .chunk = windowed ? hp->attn_chunk : 0,
        .sinks = w[W_SINKS].v,
    };
    attn_run(f, &s);

    forms_add(f, &out.forms, &w[W_O]);
    rows_run(f->pool, f->rows.n, f->mid.k, out_task, &out);
    struct product p = product_of(&f->rows, &w[W_O], &w[W_O_B], y, f->ldx);
    matmul_run(&f->mm, &f->rows, &f->mid, &p, 1);
    lora_add(f, l, &f->mid, &(struct lora_site){W_O, y, f->ldx}, 1);
}
