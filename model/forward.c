/* forward.c - what happens between two hidden states: embedding, and the order
 * of norms, blocks and residual additions in a layer.
 *
 * The residual addition after a block and the norm before the next one are one
 * pass over a row: x += scale * post_norm(y); in = norm(x). So a layer's output is
 * complete only after the next pass, and the last layer ends with a pass that only
 * adds.
 */
#include "model/forward.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "model/attn_latent.h"
#include "model/attn_run.h"
#include "model/moe.h"

enum { MAX_EXPERTS_ALLOWED = 1024, MAX_GROUPS_ALLOWED = 64 };

/* ---- small helpers the block functions share ---- */

void forms_add(const struct forward *f, struct forms *m, const struct weight *w)
{
    for (int r = 0; r < ROLE_COUNT; r++)
        m->of[r] |= matmul_forms(f->k, w, (enum role)r);
}

static form_mask row_forms(const struct forward *f, int i, const struct forms *m)
{
    form_mask adapters = f->lora ? 1u << ACT_F32 : 0;
    return m->of[i < f->rows.n_gen ? ROLE_GEN : ROLE_PROMPT] | adapters;
}

float *forward_row(const struct forward *f, const struct acts *a, int i, const struct forms *m, int worker)
{
    return matmul_row(&f->mm, a, i, row_forms(f, i, m), worker);
}

void forward_prepare(const struct forward *f, struct acts *a, int i, const struct forms *m, const float *x)
{
    matmul_prepare(&f->mm, a, i, row_forms(f, i, m), x);
}

void forward_norm(const struct forward *f, float *dst, const float *src, const struct weight *gain,
                  const struct weight *bias, int n)
{
    const float *g = gain && gain->v ? gain->v : f->ones;
    if (f->desc->norm.kind == NORM_LAYER)
        f->k->layernorm(dst, src, g, bias ? bias->v : NULL, f->hp->norm_eps, n);
    else
        f->k->rmsnorm(dst, src, g, f->hp->norm_eps, n);
}

/* ---- opening ---- */

static err check_layer(const struct forward *f, int l, struct why *why)
{
    const struct weight *w = weights_layer(f->weights, l);
    bool latent = f->desc->attn.latent;
    bool attn =
        latent ? weight_has(&w[W_KV_A]) && weight_has(&w[W_K_B_PROJ]) && weight_has(&w[W_V_B_PROJ]) &&
                     weight_has(&w[f->hp->q_lora > 0 ? W_Q_B_PROJ : W_Q])
               : weight_has(&w[W_QKV]) || (weight_has(&w[W_Q]) && weight_has(&w[W_K]) && weight_has(&w[W_V]));
    bool dense = weight_has(&w[W_DOWN]) && (weight_has(&w[W_GATE_UP]) || weight_has(&w[W_UP])) &&
                 (!f->desc->ffn.gated || weight_has(&w[W_GATE_UP]) || weight_has(&w[W_GATE]));
    bool experts = weight_has(&w[W_DOWN_EXPS]) && weight_has(&w[W_ROUTER]) &&
                   (weight_has(&w[W_GATE_UP_EXPS]) || weight_has(&w[W_UP_EXPS])) && f->hp->n_expert > 0;
    if (!attn || !weight_has(&w[W_O]))
        return why_set(why, ERR_SHAPE, "layer %d: attention weights are missing", l);
    if (!dense && !experts)
        return why_set(why, ERR_SHAPE, "layer %d: feed-forward weights are missing", l);
    return ERR_OK;
}

static err check_model(const struct forward *f, struct why *why)
{
    const struct hparams *hp = f->hp;
    if (hp->n_expert > MAX_EXPERTS_ALLOWED || hp->n_expert_groups > MAX_GROUPS_ALLOWED)
        return why_set(why, ERR_UNSUPPORTED, "%d experts in %d groups; at most %d in %d", hp->n_expert,
                       hp->n_expert_groups, MAX_EXPERTS_ALLOWED, MAX_GROUPS_ALLOWED);
    for (int l = f->first; l < f->last; l++) {
        err e = check_layer(f, l, why);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* ALiBi: 2^(-bias * i / n) for a power of two n of heads; for other counts, the
 * slopes of the next power but every second one first. */
static void alibi_slopes(float *slope, int n_head, float max_bias, float scale)
{
    int pow2 = 1;
    while (2 * pow2 <= n_head)
        pow2 *= 2;
    for (int h = 0; h < n_head; h++) {
        float at = h < pow2 ? (float)(h + 1) / (float)pow2 : (float)(2 * (h - pow2) + 1) / (float)(2 * pow2);
        slope[h] = exp2f(-max_bias * at) * scale;
    }
}

/* Falcon adds ALiBi before the scale, and so scales it. The reference (transformers
 * 5.23, eager) has it both in the mask and in the scores, each scaled: twice in
 * all. Measured on its own outputs: any other factor is off by whole logits. */
static float alibi_scale(const struct forward *f)
{
    return f->desc->attn.kq_alibi_scaled ? 2 * f->attn_scale : 1;
}

static float default_scale(const struct forward *f)
{
    const struct hparams *hp = f->hp;
    float scale = 1 / sqrtf((float)hp->head_dim_k);
    if (f->desc->attn.latent) {
        scale = 1 / sqrtf((float)(hp->qk_nope + hp->qk_rope));
        if (hp->rope_scaling == ROPE_SCALING_YARN && hp->yarn_mscale_all_dim > 0 && hp->rope_factor > 1) {
            float m = 0.1f * hp->yarn_mscale_all_dim * logf(hp->rope_factor) + 1;
            scale *= m * m;
        }
    }
    return scale;
}

err forward_init(struct forward *f, struct why *why)
{
    f->attn_scale = f->hp->attn_scale > 0 ? f->hp->attn_scale : default_scale(f);
    f->n_cs = 2 * (size_t)rope_pairs(f->desc, f->hp);
    return check_model(f, why);
}

err forward_tables(struct forward *f, struct why *why)
{
    const struct weight *model = weights_model(f->weights);
    return rope_init(&f->rope, f->desc, f->hp, model[W_ROPE_FREQS].v, model[W_ROPE_SHORT].v,
                     model[W_ROPE_LONG].v, why);
}

void forward_fini(struct forward *f)
{
    rope_fini(&f->rope);
}

/* ---- buffers ---- */

static size_t up16(int64_t n)
{
    return ((size_t)n + 15) & ~(size_t)15;
}

static int most(int a, int64_t b)
{
    return b > a ? (int)b : a;
}

/* What the layers' matrices ask of the buffers they share. */
struct needs {
    form_mask in, mid;
    int k_mid, n_ff; /* widest input of O / down; widest gate or up */
    size_t scratch;
    int products;
};

static void needs_reader(const struct forward *f, const struct weight *w, form_mask *forms, int *k)
{
    *forms |= matmul_forms(f->k, w, ROLE_GEN) | matmul_forms(f->k, w, ROLE_PROMPT);
    if (k)
        *k = most(*k, w->w.k);
}

static struct needs needs_of(const struct forward *f)
{
    static const enum weight_role from_in[] = {
        W_QKV,     W_Q,      W_K,         W_V,       W_Q_A,          W_KV_A,       W_GATE,     W_UP,
        W_GATE_UP, W_ROUTER, W_GATE_EXPS, W_UP_EXPS, W_GATE_UP_EXPS, W_GATE_SHEXP, W_UP_SHEXP, W_SHEXP_GATE};
    static const enum weight_role from_mid[] = {W_O, W_DOWN, W_DOWN_SHEXP, W_Q_B_PROJ};
    static const enum weight_role hidden[] = {W_GATE, W_UP, W_GATE_UP, W_GATE_SHEXP, W_UP_SHEXP};
    struct needs n = {.k_mid = 1, .n_ff = 1, .products = 4};
    for (int l = f->first; l < f->last; l++) {
        const struct weight *w = weights_layer(f->weights, l);
        for (size_t i = 0; i < sizeof from_in / sizeof *from_in; i++)
            needs_reader(f, &w[from_in[i]], &n.in, NULL);
        for (size_t i = 0; i < sizeof from_mid / sizeof *from_mid; i++)
            needs_reader(f, &w[from_mid[i]], &n.mid, &n.k_mid);
        for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
            n.n_ff = most(n.n_ff, w[hidden[i]].n);
        for (int r = 0; r < W_COUNT; r++)
            matmul_scratch(f->k, &w[r], &n.scratch);
    }
    const struct weight *model = weights_model(f->weights);
    matmul_scratch(f->k, &model[W_HEAD], &n.scratch);
    if (f->lora)
        lora_needs(f->lora, f->k, &n.products, &n.scratch);
    n.products = most(n.products, f->desc->attn.latent ? f->hp->n_head : 0);
    n.products = most(n.products, 2 * f->hp->n_expert);
    /* f32 rows while they are made. Adapters, experts that weigh their input, attention's output: kept in f32. */
    size_t row = sizeof(float) * (size_t)most(most(n.k_mid, f->hp->n_embd), f->hp->n_ff_expert);
    n.scratch = row > n.scratch ? row : n.scratch;
    n.in |= f->lora || f->hp->moe_weight_on_input ? 1u << ACT_F32 : 0;
    n.mid |= 1u << ACT_F32;
    if (f->last > f->first && attn_run_scratch(f) > n.scratch)
        n.scratch = attn_run_scratch(f);
    return n;
}

static void carve_tables(struct forward *f, struct carve *c)
{
    const struct hparams *hp = f->hp;
    int widest = most(most(hp->n_embd, hp->n_head * (int64_t)hp->head_dim_k), most(hp->q_lora, hp->kv_lora));
    f->ones = carve_take(c, (size_t)widest, sizeof(float));
    f->slopes = hp->alibi_max_bias > 0 ? carve_take(c, (size_t)hp->n_head, sizeof(float)) : NULL;
    if (!c->base)
        return;
    for (int i = 0; i < widest; i++)
        f->ones[i] = 1;
    if (f->slopes)
        alibi_slopes(f->slopes, hp->n_head, hp->alibi_max_bias, alibi_scale(f));
}

void forward_carve(struct forward *f, struct carve *c, int threads)
{
    const struct hparams *hp = f->hp;
    struct needs need = needs_of(f);
    size_t rows = (size_t)f->max_rows;

    f->ldx = up16(hp->n_embd);
    f->ldff = up16(need.n_ff);
    f->ldqkv = up16(dim_value(hp, DIM_QKV));
    carve_tables(f, c);
    f->mm = (struct matmul){.k = f->k, .pool = f->pool, .max_products = need.products};
    f->mm.scratch_bytes = (need.scratch + 127) & ~(size_t)127;
    f->mm.scratch = carve_take(c, (size_t)threads, f->mm.scratch_bytes);
    f->mm.starts = carve_take(c, (size_t)need.products + 1, sizeof(int));

    f->x = carve_take(c, rows * f->ldx, sizeof(float));
    f->y = carve_take(c, rows * f->ldx, sizeof(float));
    f->place = carve_take(c, rows, sizeof *f->place);
    f->moe = NULL;
    f->latent = NULL;
    if (f->first == f->last)
        return;
    attn_run_carve(f, c, threads);
    f->y2 = f->desc->block == BLOCK_PARALLEL ? carve_take(c, rows * f->ldx, sizeof(float)) : NULL;
    acts_carve(&f->in, c, f->max_rows, hp->n_embd, need.in);
    acts_carve(&f->mid, c, f->max_rows, need.k_mid, need.mid);
    f->gate = carve_take(c, rows * f->ldff, sizeof(float));
    f->up = carve_take(c, rows * f->ldff, sizeof(float));
    if (f->lora)
        lora_carve(f->lora, c, f->k, f->max_rows);
    for (int t = 0; t < 2; t++)
        f->cs[t] = carve_take(c, rows * f->n_cs, sizeof(float));

    /* Measuring has no memory to keep these in: a stand-in serves for the sizes. */
    struct latent latent = {0}, *kept_latent;
    struct moe moe = {0}, *kept_moe;
    if (f->desc->attn.latent) {
        kept_latent = carve_take(c, 1, sizeof *kept_latent);
        f->latent = kept_latent ? kept_latent : &latent;
        latent_carve(f, c);
        f->latent = kept_latent;
    } else {
        f->qkv = carve_take(c, rows * f->ldqkv, sizeof(float));
    }
    if (hp->n_expert > 0) {
        kept_moe = carve_take(c, 1, sizeof *kept_moe);
        f->moe = kept_moe ? kept_moe : &moe;
        moe_carve(f, c);
        f->moe = kept_moe;
    }
}

/* ---- a step ---- */

static void angles_task(void *ctx, int first, int last, int worker)
{
    struct forward *f = ctx;
    size_t n = f->n_cs;
    (void)worker;
    for (int i = first; i < last; i++) {
        const struct batch_row *row = &f->b->rows[i];
        bool far = f->rope.long_from > 0 && (row->pos >= f->rope.long_from || (row->flags & ROW_LONG));
        rope_angles(&f->rope.table[far ? ROPE_LONG : ROPE_GLOBAL], row->pos, f->cs[0] + (size_t)i * n);
        if (f->rope.table[ROPE_LOCAL].n_half > 0)
            rope_angles(&f->rope.table[ROPE_LOCAL], row->pos, f->cs[1] + (size_t)i * n);
    }
}

void forward_begin(struct forward *f, const struct batch *b)
{
    assert(b->n_rows <= f->max_rows);
    f->b = b;
    f->rows = (struct rows){.n = b->n_rows, .n_gen = b->n_gen, .place = f->place};
    for (int i = 0; i < b->n_rows; i++)
        f->place[i] = (struct row_place){.pos = b->rows[i].pos, .seq = b->rows[i].seq};
    if (f->first == f->last)
        return;
    if (f->lora)
        lora_begin(f);
    attn_runs_make(f);
    if (f->n_cs > 0)
        rows_run(f->pool, b->n_rows, 32 * (int64_t)f->n_cs, angles_task, f);
}

static void embed_task(void *ctx, int first, int last, int worker)
{
    struct forward *f = ctx;
    const struct hparams *hp = f->hp;
    const struct weight *w = weights_model(f->weights);
    (void)worker;
    for (int i = first; i < last; i++) {
        const struct batch_row *row = &f->b->rows[i];
        float *x = f->x + (size_t)i * f->ldx, *add = f->y + (size_t)i * f->ldx;
        if (row->flags & ROW_DEAD) {
            memset(x, 0, sizeof(float) * (size_t)hp->n_embd);
            continue;
        }
        packed_dequant_row(&w[W_EMBD].w, row->token, x);
        if (hp->embed_scale != 1)
            for (int c = 0; c < hp->n_embd; c++)
                x[c] *= hp->embed_scale;
        if (weight_has(&w[W_TYPE_EMBD])) {
            packed_dequant_row(&w[W_TYPE_EMBD].w, 0, add);
            f->k->axpy(x, add, 1, hp->n_embd);
        }
        if (weight_has(&w[W_POS_EMBD])) {
            packed_dequant_row(&w[W_POS_EMBD].w, row->pos + f->desc->pos_offset, add);
            f->k->axpy(x, add, 1, hp->n_embd);
        }
        if (weight_has(&w[W_EMBD_NORM]))
            forward_norm(f, x, x, &w[W_EMBD_NORM], &w[W_EMBD_NORM_B], hp->n_embd);
    }
}

void forward_embed(struct forward *f)
{
    rows_run(f->pool, f->rows.n, 8 * (int64_t)f->hp->n_embd, embed_task, f);
}

/* One pass over the rows between two blocks. */
struct between {
    struct forward *f;
    const float *y, *y2;                /* blocks' outputs to add to x; NULL: none */
    const struct weight *post, *post_b; /* norm of y before it is added, or of the sum (post_sum) */
    bool post_sum;                      /* BERT */
    bool next;                          /* make f->in of the new x */
    const struct weight *norm, *norm_b; /* NULL: x as it is */
    struct forms forms;
};

static void between_task(void *ctx, int first, int last, int worker)
{
    struct between *t = ctx;
    struct forward *f = t->f;
    int n = f->hp->n_embd;
    for (int i = first; i < last; i++) {
        float *x = f->x + (size_t)i * f->ldx;
        if (t->y) {
            float *y = (float *)t->y + (size_t)i * f->ldx;
            if (!t->post_sum && weight_has(t->post))
                forward_norm(f, y, y, t->post, t->post_b, n);
            f->k->axpy(x, y, f->hp->residual_scale, n);
            if (t->y2)
                f->k->axpy(x, t->y2 + (size_t)i * f->ldx, f->hp->residual_scale, n);
            if (t->post_sum)
                forward_norm(f, x, x, t->post, t->post_b, n);
        }
        if (!t->next)
            continue;
        float *in = t->norm ? forward_row(f, &f->in, i, &t->forms, worker) : x;
        if (t->norm)
            forward_norm(f, in, x, t->norm, t->norm_b, n);
        forward_prepare(f, &f->in, i, &t->forms, in);
    }
}

static void between(struct forward *f, struct between *t)
{
    t->f = f;
    if (t->next)
        acts_begin(&f->in, f->hp->n_embd);
    rows_run(f->pool, f->rows.n, 4 * (int64_t)f->hp->n_embd, between_task, t);
}

static struct forms attn_readers(const struct forward *f, const struct weight *w)
{
    struct forms m = {{0}};
    static const enum weight_role roles[] = {W_QKV, W_Q, W_K, W_V, W_Q_A, W_KV_A};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        forms_add(f, &m, &w[roles[i]]);
    return m;
}

static struct forms ffn_readers(const struct forward *f, const struct weight *w)
{
    struct forms m = {{0}};
    static const enum weight_role roles[] = {W_GATE,      W_UP,        W_GATE_UP,      W_ROUTER,
                                             W_GATE_EXPS, W_UP_EXPS,   W_GATE_UP_EXPS, W_GATE_SHEXP,
                                             W_UP_SHEXP,  W_SHEXP_GATE};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        forms_add(f, &m, &w[roles[i]]);
    for (int r = 0; r < ROLE_COUNT; r++)
        m.of[r] |= f->hp->moe_weight_on_input ? 1u << ACT_F32 : 0;
    return m;
}

static void forms_join(struct forms *m, struct forms other)
{
    for (int r = 0; r < ROLE_COUNT; r++)
        m->of[r] |= other.of[r];
}

static void attention(struct forward *f, int l, const struct weight *w)
{
    if (f->latent)
        attn_latent_block(f, l, w, f->y);
    else
        attn_block(f, l, w, f->y);
}

static const struct weight *or_none(const struct weight *w)
{
    return weight_has(w) ? w : NULL;
}

/* x += attn(norm(x)) + ffn(norm(x)), the second norm perhaps another. `t` is the
 * pass that ends the layer. */
static void parallel_layer(struct forward *f, int l, const struct weight *w, struct between *t)
{
    bool two = weight_has(&w[W_ATTN_NORM2]);
    const struct weight *attn_norm = &w[two ? W_ATTN_NORM2 : W_ATTN_NORM];
    const struct weight *attn_norm_b = &w[two ? W_ATTN_NORM2_B : W_ATTN_NORM_B];
    const struct weight *ffn_norm = weight_has(&w[W_FFN_NORM]) ? &w[W_FFN_NORM] : &w[W_ATTN_NORM];
    const struct weight *ffn_norm_b = weight_has(&w[W_FFN_NORM]) ? &w[W_FFN_NORM_B] : &w[W_ATTN_NORM_B];

    t->next = true;
    t->norm = attn_norm;
    t->norm_b = attn_norm_b;
    t->forms = attn_readers(f, w);
    if (attn_norm == ffn_norm)
        forms_join(&t->forms, ffn_readers(f, w));
    between(f, t);
    attention(f, l, w);
    if (attn_norm != ffn_norm) {
        struct between again = {
            .next = true, .norm = ffn_norm, .norm_b = ffn_norm_b, .forms = ffn_readers(f, w)};
        between(f, &again);
    }
    ffn_block(f, l, w, f->y2);
    *t = (struct between){.y = f->y, .y2 = f->y2, .post = &w[W_ATTN_POST_NORM]};
}

/* x += post(attn(norm(x))); x += post(ffn(norm(x))), or the norms over the sums. */
static void serial_layer(struct forward *f, int l, const struct weight *w, struct between *t)
{
    bool post_sum = f->desc->block == BLOCK_POST_NORM, bare = post_sum || f->desc->norm.post_only;
    t->next = true;
    t->norm = bare ? NULL : &w[W_ATTN_NORM];
    t->norm_b = or_none(&w[W_ATTN_NORM_B]);
    t->forms = attn_readers(f, w);
    between(f, t);
    attention(f, l, w);

    *t = (struct between){.y = f->y,
                          .post = &w[W_ATTN_POST_NORM],
                          .post_b = &w[W_ATTN_POST_NORM_B],
                          .post_sum = post_sum,
                          .next = true,
                          .norm = bare ? NULL : &w[W_FFN_NORM],
                          .norm_b = or_none(&w[W_FFN_NORM_B]),
                          .forms = ffn_readers(f, w)};
    between(f, t);
    ffn_block(f, l, w, f->y);
    *t = (struct between){
        .y = f->y, .post = &w[W_FFN_POST_NORM], .post_b = &w[W_FFN_POST_NORM_B], .post_sum = post_sum};
}

void forward_layers(struct forward *f)
{
    struct between t = {.y = NULL};
    for (int l = f->first; l < f->last; l++) {
        const struct weight *w = weights_layer(f->weights, l);
        if (f->desc->block == BLOCK_PARALLEL)
            parallel_layer(f, l, w, &t);
        else
            serial_layer(f, l, w, &t);
    }
    if (t.y)
        between(f, &t); /* the last layer's residual */
}
