/* attn_latent.c - multi-head latent attention with absorbed weights.
 *
 * The cache keeps one compressed row c (kv_lora) and one rotated key part r
 * (qk_rope) per position, for all heads. Head h would expand keys K_h c and
 * values V_h c; but q.(K_h c) = (K_h' q).c, so instead the query is carried into
 * the compressed space once, attention runs there as if there were a single KV
 * head (keys [c | r], values c) shared by all query heads, and V_h is applied to
 * the result. Prompt rows go the same way: it costs more arithmetic per pair of
 * positions than expanding, but nothing has to be expanded again for every chunk
 * of a prompt, and there is one code path whose bits do not depend on chunking.
 *
 * Per-head products read rows ordered [head][row], so that each head's rows lie
 * together: its matrix is read once.
 */
#include "model/attn_latent.h"

#include <string.h>

#include "model/attn_run.h"

void latent_carve(struct forward *f, struct carve *c)
{
    const struct hparams *hp = f->hp;
    struct latent *m = f->latent;
    size_t rows = (size_t)f->max_rows, heads = (size_t)hp->n_head;
    struct forms forms = {{0}};
    int k_max = hp->qk_nope > hp->kv_lora ? hp->qk_nope : hp->kv_lora;

    for (int l = f->first; l < f->last; l++) {
        forms_add(f, &forms, &weights_layer(f->weights, l)[W_K_B_PROJ]);
        forms_add(f, &forms, &weights_layer(f->weights, l)[W_V_B_PROJ]);
    }
    acts_carve(&m->heads, c, hp->n_head * f->max_rows, k_max, forms.of[ROLE_GEN] | forms.of[ROLE_PROMPT]);
    m->q_a = carve_take(c, rows * (size_t)(hp->q_lora + 1), sizeof(float));
    m->kv_a = carve_take(c, rows * (size_t)(hp->kv_lora + hp->qk_rope), sizeof(float));
    m->q = carve_take(c, rows * heads * (size_t)(hp->qk_nope + hp->qk_rope), sizeof(float));
    m->q_latent = carve_take(c, rows * heads * (size_t)(hp->kv_lora + hp->qk_rope), sizeof(float));
    m->out_latent = carve_take(c, rows * heads * (size_t)hp->kv_lora, sizeof(float));
    m->place = carve_take(c, rows * heads, sizeof *m->place);
    m->products = carve_take(c, heads, sizeof *m->products);
}

struct latent_rows {
    struct forward *f;
    const struct weight *w;
    int layer;
    struct forms forms;
};

/* Row i after the first projections: its compressed row into the cache, its
 * compressed query (if queries are compressed) ready for Q_B_PROJ. */
static void compress_row(struct latent_rows *t, int i, int worker)
{
    struct forward *f = t->f;
    const struct hparams *hp = f->hp;
    const struct batch_row *row = &f->b->rows[i];
    const float *cs = f->cs[0] + (size_t)i * (size_t)hp->qk_rope;
    float *kv = f->latent->kv_a + (size_t)i * (size_t)(hp->kv_lora + hp->qk_rope);

    if (hp->q_lora > 0) {
        float *q = forward_row(f, &f->mid, i, &t->forms, worker);
        forward_norm(f, q, f->latent->q_a + (size_t)i * (size_t)hp->q_lora, &t->w[W_Q_A_NORM], NULL, hp->q_lora);
        forward_prepare(f, &f->mid, i, &t->forms, q);
    }
    if (row->flags & ROW_DEAD)
        return;
    forward_norm(f, kv, kv, &t->w[W_KV_A_NORM], NULL, hp->kv_lora);
    (f->hp->rope_kind == ROPE_PAIRS ? f->k->rope_pairs : f->k->rope_halves)(kv + hp->kv_lora, cs, 1,
                                                                            hp->qk_rope, hp->qk_rope);
    kv_put(f->kv, f->b->seqs[row->seq].pages[row->pos / KV_PAGE], t->layer, 0, row->pos, kv, NULL);
}

static void compress_task(void *ctx, int first, int last, int worker)
{
    for (int i = first; i < last; i++)
        compress_row(ctx, i, worker);
}

/* Row i: rotates the query's last part, hands the first part of each head to K_B_PROJ. */
static void split_query(struct latent_rows *t, int i)
{
    struct forward *f = t->f;
    const struct hparams *hp = f->hp;
    int dim = hp->qk_nope + hp->qk_rope, wide = hp->kv_lora + hp->qk_rope;
    const float *cs = f->cs[0] + (size_t)i * (size_t)hp->qk_rope;
    rope_fn *rope = f->hp->rope_kind == ROPE_PAIRS ? f->k->rope_pairs : f->k->rope_halves;

    for (int h = 0; h < hp->n_head; h++) {
        float *q = f->latent->q + ((size_t)i * (size_t)hp->n_head + (size_t)h) * (size_t)dim;
        float *to = f->latent->q_latent + ((size_t)i * (size_t)hp->n_head + (size_t)h) * (size_t)wide;
        rope(q + hp->qk_nope, cs, 1, hp->qk_rope, hp->qk_rope);
        memcpy(to + hp->kv_lora, q + hp->qk_nope, sizeof(float) * (size_t)hp->qk_rope);
        matmul_prepare(&f->mm, &f->latent->heads, h * f->rows.n + i,
                       t->forms.of[i < f->rows.n_gen ? ROLE_GEN : ROLE_PROMPT], q);
    }
}

static void split_task(void *ctx, int first, int last, int worker)
{
    (void)worker;
    for (int i = first; i < last; i++)
        split_query(ctx, i);
}

/* Row i of the attention's result, head by head, to V_B_PROJ. */
static void spread_task(void *ctx, int first, int last, int worker)
{
    struct latent_rows *t = ctx;
    struct forward *f = t->f;
    size_t n = (size_t)f->hp->kv_lora;
    (void)worker;
    for (int i = first; i < last; i++)
        for (int h = 0; h < f->hp->n_head; h++)
            matmul_prepare(&f->mm, &f->latent->heads, h * f->rows.n + i,
                           t->forms.of[i < f->rows.n_gen ? ROLE_GEN : ROLE_PROMPT],
                           f->latent->out_latent + ((size_t)i * (size_t)f->hp->n_head + (size_t)h) * n);
}

static void out_task(void *ctx, int first, int last, int worker)
{
    struct latent_rows *t = ctx;
    (void)worker;
    for (int i = first; i < last; i++)
        forward_prepare(t->f, &t->f->mid, i, &t->forms, acts_row(&t->f->mid, i));
}

/* One product per head of matrix w with the rows [head][row] -> y + head * step. */
static void heads_product(struct forward *f, const struct weight *w, float *y, size_t ldy, size_t step)
{
    struct latent *m = f->latent;
    struct rows rows = {.n = f->hp->n_head * f->rows.n, .place = m->place};
    for (int h = 0; h < f->hp->n_head; h++) {
        m->products[h] = product_of(&f->rows, w, NULL, y + (size_t)h * step, ldy);
        m->products[h].w = weight_at(w, h);
        m->products[h].row0 = h * f->rows.n;
        memcpy(m->place + (size_t)h * (size_t)f->rows.n, f->rows.place, sizeof *m->place * (size_t)f->rows.n);
    }
    matmul_run(&f->mm, &rows, &m->heads, m->products, f->hp->n_head);
}

/* Queries and the compressed row, up to the rotated query in latent->q. */
static void project_latent(struct forward *f, int l, struct latent_rows *t)
{
    const struct hparams *hp = f->hp;
    const struct weight *w = t->w;
    struct latent *m = f->latent;
    size_t ldq = (size_t)hp->n_head * (size_t)(hp->qk_nope + hp->qk_rope);
    bool compressed = hp->q_lora > 0;
    struct product p[2] = {
        product_of(&f->rows, &w[W_KV_A], NULL, m->kv_a, (size_t)(hp->kv_lora + hp->qk_rope)),
        compressed ? product_of(&f->rows, &w[W_Q_A], NULL, m->q_a, (size_t)hp->q_lora)
                   : product_of(&f->rows, &w[W_Q], NULL, m->q, ldq),
    };
    struct lora_site sites[] = {{W_KV_A, p[0].y, p[0].ldy}, {compressed ? W_Q_A : W_Q, p[1].y, p[1].ldy}};
    matmul_run(&f->mm, &f->rows, &f->in, p, 2);
    lora_add(f, l, &f->in, sites, 2);

    if (compressed)
        acts_begin(&f->mid, hp->q_lora);
    t->forms = (struct forms){{0}};
    forms_add(f, &t->forms, &w[W_Q_B_PROJ]);
    rows_run(f->pool, f->rows.n, hp->kv_lora + hp->q_lora, compress_task, t);
    if (!compressed)
        return;
    p[0] = product_of(&f->rows, &w[W_Q_B_PROJ], NULL, m->q, ldq);
    matmul_run(&f->mm, &f->rows, &f->mid, p, 1);
    lora_add(f, l, &f->mid, &(struct lora_site){W_Q_B_PROJ, m->q, ldq}, 1);
}

void attn_latent_block(struct forward *f, int l, const struct weight *w, float *y)
{
    const struct hparams *hp = f->hp;
    struct latent *m = f->latent;
    struct latent_rows t = {.f = f, .w = w, .layer = l - f->first};
    size_t wide = (size_t)(hp->kv_lora + hp->qk_rope), heads = (size_t)hp->n_head;

    project_latent(f, l, &t);

    acts_begin(&m->heads, hp->qk_nope);
    t.forms = (struct forms){{0}};
    forms_add(f, &t.forms, &w[W_K_B_PROJ]);
    rows_run(f->pool, f->rows.n, (int64_t)(heads * wide), split_task, &t);
    heads_product(f, &w[W_K_B_PROJ], m->q_latent, heads * wide, wide);

    struct attn_shape s = {.q = m->q_latent,
                           .ldq = heads * wide,
                           .out = m->out_latent,
                           .ldo = heads * (size_t)hp->kv_lora,
                           .n_head = hp->n_head,
                           .layer = t.layer};
    attn_run(f, &s);

    acts_begin(&m->heads, hp->kv_lora);
    t.forms = (struct forms){{0}};
    forms_add(f, &t.forms, &w[W_V_B_PROJ]);
    rows_run(f->pool, f->rows.n, (int64_t)(heads * wide), spread_task, &t);
    acts_begin(&f->mid, hp->n_head * hp->head_dim_v);
    heads_product(f, &w[W_V_B_PROJ], acts_row(&f->mid, 0), f->mid.stride[ACT_F32] / sizeof(float),
                  (size_t)hp->head_dim_v);

    t.forms = (struct forms){{0}};
    forms_add(f, &t.forms, &w[W_O]);
    rows_run(f->pool, f->rows.n, f->mid.k, out_task, &t);
    struct product p = product_of(&f->rows, &w[W_O], &w[W_O_B], y, f->ldx);
    matmul_run(&f->mm, &f->rows, &f->mid, &p, 1);
    lora_add(f, l, &f->mid, &(struct lora_site){W_O, y, f->ldx}, 1);
}
