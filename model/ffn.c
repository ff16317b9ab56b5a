/* ffn.c - the dense feed-forward block: gated (gate and up, or both in one
 * matrix) or plain (up, activation, down). Layers with experts go to moe.c.
 */
#include "model/forward.h"
#include "model/moe.h"

struct ffn_rows {
    struct forward *f;
    const float *gate, *up; /* rows f->ldff apart; gate NULL: not gated */
    int n;
    struct forms forms;
};

static void hidden_task(void *ctx, int first, int last, int worker)
{
    struct ffn_rows *t = ctx;
    struct forward *f = t->f;
    enum activation act = f->desc->ffn.act;
    for (int i = first; i < last; i++) {
        float *h = forward_row(f, &f->mid, i, &t->forms, worker);
        size_t at = (size_t)i * f->ldff;
        if (t->gate)
            f->k->glu[act](h, t->gate + at, t->up + at, t->n);
        else
            f->k->act[act](h, t->up + at, t->n);
        forward_prepare(f, &f->mid, i, &t->forms, h);
    }
}

void ffn_dense(struct forward *f, const struct ffn_weights *w, float *y)
{
    struct ffn_rows t = {.f = f, .up = f->up};
    struct product p[2];
    struct lora_site sites[] = {{W_GATE_UP, f->gate, f->ldff},
                                {w->shared ? W_GATE_SHEXP : W_GATE, f->gate, f->ldff},
                                {w->shared ? W_UP_SHEXP : W_UP, f->up, f->ldff}};
    struct lora_site down = {w->shared ? W_DOWN_SHEXP : W_DOWN, y, f->ldx};
    int n = 0;

    if (w->gate_up) {
        t.n = (int)w->gate_up->n / 2;
        t.gate = f->gate;
        t.up = sites[2].y = f->gate + t.n;
        p[n++] = product_of(&f->rows, w->gate_up, NULL, f->gate, f->ldff);
    } else {
        t.n = (int)w->up->n;
        p[n++] = product_of(&f->rows, w->up, w->up_bias, f->up, f->ldff);
        if (w->gate) {
            t.gate = f->gate;
            p[n++] = product_of(&f->rows, w->gate, w->gate_bias, f->gate, f->ldff);
        }
    }
    matmul_run(&f->mm, &f->rows, &f->in, p, n);
    lora_add(f, w->layer, &f->in, sites, 3);

    acts_begin(&f->mid, t.n);
    forms_add(f, &t.forms, w->down);
    rows_run(f->pool, f->rows.n, 3 * (int64_t)t.n, hidden_task, &t);
    p[0] = product_of(&f->rows, w->down, w->down_bias, y, f->ldx);
    matmul_run(&f->mm, &f->rows, &f->mid, p, 1);
    lora_add(f, w->layer, &f->mid, &down, 1);
}

static const struct weight *or_null(const struct weight *w)
{
    return weight_has(w) ? w : NULL;
}

void ffn_block(struct forward *f, int l, const struct weight *w, float *y)
{
    if (weight_has(&w[W_DOWN_EXPS])) {
        moe_block(f, l, w, y);
        return;
    }
    struct ffn_weights d = {
        .gate = or_null(&w[W_GATE]),
        .up = &w[W_UP],
        .gate_up = or_null(&w[W_GATE_UP]),
        .down = &w[W_DOWN],
        .gate_bias = or_null(&w[W_GATE_B]),
        .up_bias = or_null(&w[W_UP_B]),
        .down_bias = or_null(&w[W_DOWN_B]),
        .layer = l,
    };
    ffn_dense(f, &d, y);
}
