/* moe.c - experts: each one's weights are read once per micro-batch.
 *
 * Rows are routed, then gathered by expert (generated rows of an expert before
 * its prompt rows, both in row order), multiplied in one loop over all experts
 * that have rows, and summed back per row in ascending order of expert index: the
 * same order whatever else is in the batch.
 */
#include "model/moe.h"

#include <math.h>
#include <string.h>

#define MAX_GROUPS 64
#define MAX_EXPERTS 1024

void moe_carve(struct forward *f, struct carve *c)
{
    const struct hparams *hp = f->hp;
    struct moe *m = f->moe;
    size_t rows = (size_t)f->max_rows, slots = rows * (size_t)hp->n_expert_used,
           experts = (size_t)hp->n_expert;
    struct forms in = {{0}}, hidden = {{0}};

    for (int l = f->first; l < f->last; l++) {
        const struct weight *w = weights_layer(f->weights, l);
        forms_add(f, &in, &w[W_GATE_EXPS]);
        forms_add(f, &in, &w[W_UP_EXPS]);
        forms_add(f, &in, &w[W_GATE_UP_EXPS]);
        forms_add(f, &hidden, &w[W_DOWN_EXPS]);
    }
    m->ld_scores = experts;
    m->ldff = 2 * (size_t)hp->n_ff_expert;
    m->scores = carve_take(c, rows * m->ld_scores, sizeof(float));
    m->expert = carve_take(c, slots, sizeof(int));
    m->weight = carve_take(c, slots, sizeof(float));
    m->slot = carve_take(c, slots, sizeof(int));
    m->start = carve_take(c, experts + 1, sizeof(int));
    m->n_gen = carve_take(c, experts, sizeof(int));
    m->row = carve_take(c, slots, sizeof(int));
    acts_carve(&m->in, c, (int)slots, hp->n_embd, in.of[ROLE_GEN] | in.of[ROLE_PROMPT]);
    acts_carve(&m->hidden, c, (int)slots, hp->n_ff_expert, hidden.of[ROLE_GEN] | hidden.of[ROLE_PROMPT]);
    m->gate = carve_take(c, slots * m->ldff, sizeof(float));
    m->up = m->gate ? m->gate + hp->n_ff_expert : NULL; /* side by side: a fused matrix writes both */
    m->out = carve_take(c, slots * f->ldx, sizeof(float));
    m->shared = carve_take(c, rows * f->ldx, sizeof(float));
    m->place = carve_take(c, slots, sizeof *m->place);
    m->products = carve_take(c, 2 * experts, sizeof *m->products);
}

/* ---- the choice ---- */

static void softmax(float *x, int n)
{
    float max = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++)
        sum += x[i] = expf(x[i] - max);
    for (int i = 0; i < n; i++)
        x[i] /= sum;
}

static float biased(const float *scores, const float *bias, int i)
{
    return scores[i] + (bias ? bias[i] : 0);
}

/* Marks the experts of all but the best groups. */
static void drop_groups(const struct hparams *hp, const float *scores, const float *bias, bool *dropped)
{
    int per = hp->n_expert / hp->n_expert_groups;
    float value[MAX_GROUPS];
    bool kept[MAX_GROUPS] = {false};
    for (int g = 0; g < hp->n_expert_groups; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (int i = g * per; i < (g + 1) * per; i++) {
            float s = biased(scores, bias, i);
            if (s > first) {
                second = first;
                first = s;
            } else if (s > second) {
                second = s;
            }
        }
        value[g] = hp->moe_group_by_sum2 && per > 1 ? first + second : first;
    }
    for (int n = 0; n < hp->n_expert_groups_used; n++) {
        int best = -1;
        for (int g = 0; g < hp->n_expert_groups; g++)
            if (!kept[g] && (best < 0 || value[g] > value[best]))
                best = g;
        kept[best] = true;
    }
    for (int i = 0; i < per * hp->n_expert_groups; i++)
        dropped[i] = !kept[i / per];
}

static void weigh(const struct hparams *hp, const float *scores, const int *expert, float *weight)
{
    int n = hp->n_expert_used;
    float sum = 0;
    for (int j = 0; j < n; j++)
        weight[j] = scores[expert[j]];
    if (hp->moe_gate == MOE_SOFTMAX_TOPK)
        softmax(weight, n);
    for (int j = 0; j < n; j++)
        sum += weight[j];
    for (int j = 0; j < n; j++) {
        if (hp->moe_norm_weights)
            weight[j] /= sum + 1e-20f;
        weight[j] *= hp->moe_weight_scale;
    }
}

void moe_choose(const struct hparams *hp, float *scores, const float *bias, int *expert, float *weight)
{
    bool dropped[MAX_EXPERTS] = {false};

    if (hp->moe_gate == MOE_SOFTMAX)
        softmax(scores, hp->n_expert);
    else if (hp->moe_gate == MOE_SIGMOID)
        for (int i = 0; i < hp->n_expert; i++)
            scores[i] = 1 / (1 + expf(-scores[i]));
    if (hp->n_expert_groups > 1 && hp->n_expert_groups_used < hp->n_expert_groups)
        drop_groups(hp, scores, bias, dropped);

    for (int j = 0; j < hp->n_expert_used; j++) {
        int best = -1;
        for (int i = 0; i < hp->n_expert; i++)
            if (!dropped[i] && (best < 0 || biased(scores, bias, i) > biased(scores, bias, best)))
                best = i;
        dropped[best] = true;
        int at = j;
        for (; at > 0 && expert[at - 1] > best; at--)
            expert[at] = expert[at - 1];
        expert[at] = best;
    }
    weigh(hp, scores, expert, weight);
}

/* ---- the rows ---- */

struct moe_rows {
    struct forward *f;
    const struct weight *w;
    struct forms forms;
    bool fused;
    const float *shared, *shared_gate; /* rows to add, and their sigmoid gate; NULL: none */
    float *y;
};

static void choose_task(void *ctx, int first, int last, int worker)
{
    struct moe_rows *t = ctx;
    struct moe *m = t->f->moe;
    (void)worker;
    for (int i = first; i < last; i++) {
        size_t at = (size_t)i * (size_t)t->f->hp->n_expert_used;
        moe_choose(t->f->hp, m->scores + (size_t)i * m->ld_scores, t->w[W_ROUTER_BIAS].v, m->expert + at,
                   m->weight + at);
    }
}

/* Counting sort of (row, choice) by expert. */
static void group_rows(struct forward *f)
{
    struct moe *m = f->moe;
    int n_expert = f->hp->n_expert, used = f->hp->n_expert_used, n = f->rows.n * used;

    memset(m->start, 0, sizeof(int) * (size_t)(n_expert + 1));
    memset(m->n_gen, 0, sizeof(int) * (size_t)n_expert);
    for (int s = 0; s < n; s++) {
        m->start[m->expert[s] + 1]++;
        m->n_gen[m->expert[s]] += s / used < f->rows.n_gen;
    }
    for (int e = 0; e < n_expert; e++)
        m->start[e + 1] += m->start[e];
    for (int s = 0; s < n; s++) { /* start[e] is the next free place while filling ... */
        int to = m->start[m->expert[s]]++;
        m->slot[s] = to;
        m->row[to] = s / used;
        m->place[to] = f->rows.place[s / used];
    }
    memmove(m->start + 1, m->start, sizeof(int) * (size_t)n_expert); /* ... and then the end: shift back */
    m->start[0] = 0;
}

static float weight_of(const struct moe *m, int gathered, int used)
{
    int row = m->row[gathered];
    for (int j = 0; j < used; j++)
        if (m->slot[row * used + j] == gathered)
            return m->weight[row * used + j];
    return 0;
}

static void gather_task(void *ctx, int first, int last, int worker)
{
    struct moe_rows *t = ctx;
    struct forward *f = t->f;
    struct moe *m = f->moe;
    for (int g = first; g < last; g++) {
        int row = m->row[g];
        form_mask forms = t->forms.of[row < f->rows.n_gen ? ROLE_GEN : ROLE_PROMPT];
        if (!f->hp->moe_weight_on_input) {
            for (int a = 0; a < ACT_COUNT; a++)
                if (forms & 1u << a)
                    memcpy(m->in.form[a] + (size_t)g * m->in.stride[a],
                           f->in.form[a] + (size_t)row * f->in.stride[a], m->in.stride[a]);
            continue;
        }
        float s = weight_of(m, g, f->hp->n_expert_used), *to = matmul_row(&f->mm, &m->in, g, forms, worker);
        const float *x = acts_row(&f->in, row);
        for (int c = 0; c < m->in.k; c++)
            to[c] = s * x[c];
        matmul_prepare(&f->mm, &m->in, g, forms, to);
    }
}

static void hidden_task(void *ctx, int first, int last, int worker)
{
    struct moe_rows *t = ctx;
    struct forward *f = t->f;
    struct moe *m = f->moe;
    bool gated = t->fused || weight_has(&t->w[W_GATE_EXPS]);
    for (int g = first; g < last; g++) {
        form_mask forms = t->forms.of[m->row[g] < f->rows.n_gen ? ROLE_GEN : ROLE_PROMPT];
        float *h = matmul_row(&f->mm, &m->hidden, g, forms, worker);
        float *gate = m->gate + (size_t)g * m->ldff, *up = m->up + (size_t)g * m->ldff;
        if (gated)
            f->k->glu[f->desc->ffn.act](h, gate, up, m->hidden.k);
        else
            f->k->act[f->desc->ffn.act](h, up, m->hidden.k);
        matmul_prepare(&f->mm, &m->hidden, g, forms, h);
    }
}

static void combine_task(void *ctx, int first, int last, int worker)
{
    struct moe_rows *t = ctx;
    struct forward *f = t->f;
    struct moe *m = f->moe;
    int used = f->hp->n_expert_used, n = f->hp->n_embd;
    (void)worker;
    for (int i = first; i < last; i++) {
        float *y = t->y + (size_t)i * f->ldx;
        memset(y, 0, sizeof(float) * (size_t)n);
        for (int j = i * used; j < (i + 1) * used; j++)
            f->k->axpy(y, m->out + (size_t)m->slot[j] * f->ldx, f->hp->moe_weight_on_input ? 1 : m->weight[j],
                       n);
        if (t->shared)
            f->k->axpy(y, t->shared + (size_t)i * f->ldx,
                       t->shared_gate ? 1 / (1 + expf(-t->shared_gate[i])) : 1, n);
    }
}

/* Products of all experts that have rows with a stack of matrices. */
static int experts_product(struct forward *f, struct product *p, const struct weight *w,
                           const struct weight *bias, float *y, size_t ldy)
{
    const struct moe *m = f->moe;
    int n = 0;
    for (int e = 0; e < f->hp->n_expert; e++) {
        int rows = m->start[e + 1] - m->start[e];
        if (rows == 0)
            continue;
        p[n++] = (struct product){
            .w = weight_at(w, e),
            .bias = weight_has(bias) ? bias->v + (size_t)e * (size_t)w->n : NULL,
            .y = y + (size_t)m->start[e] * ldy,
            .ldy = ldy,
            .row0 = m->start[e],
            .n_gen = m->n_gen[e],
            .n_prompt = rows - m->n_gen[e],
        };
    }
    return n;
}

/* Leaves the experts' outputs in m->out. */
static void run_experts(struct forward *f, struct moe_rows *t)
{
    struct moe *m = f->moe;
    const struct weight *w = t->w;
    int gathered = f->rows.n * f->hp->n_expert_used, n;
    struct rows rows = {.n = gathered, .place = m->place};
    const struct weight absent = {.n = 0};

    t->forms = (struct forms){{0}};
    forms_add(f, &t->forms, &w[W_GATE_EXPS]);
    forms_add(f, &t->forms, &w[W_UP_EXPS]);
    forms_add(f, &t->forms, &w[W_GATE_UP_EXPS]);
    rows_run(f->pool, gathered, f->hp->n_embd, gather_task, t);
    if (t->fused) {
        n = experts_product(f, m->products, &w[W_GATE_UP_EXPS], &absent, m->gate, m->ldff);
    } else {
        n = experts_product(f, m->products, &w[W_UP_EXPS], &w[W_UP_EXPS_B], m->up, m->ldff);
        if (weight_has(&w[W_GATE_EXPS]))
            n += experts_product(f, m->products + n, &w[W_GATE_EXPS], &w[W_GATE_EXPS_B], m->gate, m->ldff);
    }
    matmul_run(&f->mm, &rows, &m->in, m->products, n);

    t->forms = (struct forms){{0}};
    forms_add(f, &t->forms, &w[W_DOWN_EXPS]);
    rows_run(f->pool, gathered, 3 * (int64_t)m->hidden.k, hidden_task, t);
    n = experts_product(f, m->products, &w[W_DOWN_EXPS], &w[W_DOWN_EXPS_B], m->out, f->ldx);
    matmul_run(&f->mm, &rows, &m->hidden, m->products, n);
}

void moe_block(struct forward *f, int l, const struct weight *w, float *y)
{
    struct moe *m = f->moe;
    struct moe_rows t = {.f = f, .w = w, .fused = weight_has(&w[W_GATE_UP_EXPS]), .y = y};
    struct product p = product_of(&f->rows, &w[W_ROUTER], &w[W_ROUTER_B], m->scores, m->ld_scores);

    matmul_run(&f->mm, &f->rows, &f->in, &p, 1);
    rows_run(f->pool, f->rows.n, (int64_t)f->hp->n_expert * (f->hp->n_expert_used + 4), choose_task, &t);
    group_rows(f);
    run_experts(f, &t);

    if (weight_has(&w[W_DOWN_SHEXP])) {
        struct ffn_weights d = {.gate = &w[W_GATE_SHEXP],
                                .up = &w[W_UP_SHEXP],
                                .down = &w[W_DOWN_SHEXP],
                                .layer = l,
                                .shared = true};
        if (weight_has(&w[W_SHEXP_GATE])) {
            p = product_of(&f->rows, &w[W_SHEXP_GATE], NULL, m->scores, 1);
            matmul_run(&f->mm, &f->rows, &f->in, &p, 1);
            t.shared_gate = m->scores;
        }
        if (!weight_has(d.gate))
            d.gate = NULL;
        ffn_dense(f, &d, m->shared);
        t.shared = m->shared;
    }
    rows_run(f->pool, f->rows.n, (int64_t)f->hp->n_embd * (f->hp->n_expert_used + 1), combine_task, &t);
}
