/* plan.c - where to cut the model; see plan.h.
 *
 * A decode step reads all weights of a stage once, so a stage's time is its bytes
 * over its node's speed and the slowest stage sets the pace of the pipeline. The
 * best cut is found exactly, in two passes over (stage, first layer):
 *
 *   1. the least possible time of the slowest stage;
 *   2. among the cuts that reach it, the most even one (least sum of squared
 *      times); of equal ones the one with the longest front stages.
 *
 * n stages over L layers cost n * L^2 / 2 steps: 64 stages of a 126-layer model
 * take half a million.
 */
#include "shard/plan.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define TIE 1e-9 /* relative: sums of doubles taken in another order */

struct planner {
    const struct plan_model *m;
    const struct plan_node *nodes;
    int n;
    bool check_memory;
    uint64_t *before; /* [n_layer + 1] bytes of all layers in front of layer i */
    double *best;     /* [n + 1][n_layer + 1] value of stages i.. that start at layer a */
};

static double *best_at(const struct planner *p, int stage, int first)
{
    return &p->best[(size_t)stage * (size_t)(p->m->n_layer + 1) + (size_t)first];
}

static struct plan_stage stage_of(const struct planner *p, int stage, int first, int last)
{
    struct plan_stage s = {.first = first, .last = last, .embed = stage == 0, .head = stage == p->n - 1};

    s.weight_bytes = p->before[last] - p->before[first];
    s.weight_bytes += (s.embed ? p->m->embed_bytes : 0) + (s.head ? p->m->head_bytes : 0);
    s.kv_bytes = (uint64_t)(last - first) * p->m->kv_bytes_per_layer;
    return s;
}

static uint64_t stage_needs(const struct planner *p, const struct plan_stage *s)
{
    return s->weight_bytes + s->kv_bytes + p->m->fixed_bytes;
}

static bool stage_fits(const struct planner *p, int stage, const struct plan_stage *s)
{
    uint64_t memory = p->nodes[stage].memory_bytes;

    return !p->check_memory || memory == 0 || stage_needs(p, s) <= memory;
}

/* The embedding is read a row a token, not as a whole. INFINITY: does not fit. */
static double stage_time(const struct planner *p, int stage, int first, int last)
{
    struct plan_stage s = stage_of(p, stage, first, last);

    if (!stage_fits(p, stage, &s))
        return INFINITY;
    return (double)(s.weight_bytes - (s.embed ? p->m->embed_bytes : 0)) / p->nodes[stage].speed;
}

/* Fills best[][] from the last stage to the first. With limit < 0 the value is the
 * slowest stage's time, else the sum of squared times of stages no slower than limit. */
static void solve(struct planner *p, double limit)
{
    const int layers = p->m->n_layer;

    for (int a = 0; a <= layers; a++)
        *best_at(p, p->n, a) = a == layers ? 0 : INFINITY;
    for (int i = p->n - 1; i >= 0; i--)
        for (int a = 0; a <= layers; a++) {
            double least = INFINITY;
            for (int b = a; b <= layers; b++) {
                double t = stage_time(p, i, a, b), rest = *best_at(p, i + 1, b), value;
                if (limit < 0)
                    value = fmax(t, rest);
                else
                    value = t <= limit * (1 + TIE) ? t * t + rest : INFINITY;
                least = fmin(least, value);
            }
            *best_at(p, i, a) = least;
        }
}

/* Walks the second pass from the front, taking as many layers as a best cut allows. */
static void walk(const struct planner *p, double limit, struct plan_stage *stages)
{
    int a = 0;

    for (int i = 0; i < p->n; i++) {
        int b = p->m->n_layer;
        for (; b > a; b--) {
            double t = stage_time(p, i, a, b);
            if (t <= limit * (1 + TIE) && t * t + *best_at(p, i + 1, b) <= *best_at(p, i, a) * (1 + TIE))
                break;
        }
        stages[i] = stage_of(p, i, a, b);
        a = b;
    }
}

#define GIB (1024.0 * 1024.0 * 1024.0)

/* Says what is short on a cut. */
static err refuse_cut(const struct planner *p, const struct plan_stage *cut, struct why *why)
{
    uint64_t need = 0, have = 0;
    int bad = -1;

    for (int i = 0; i < p->n; i++) {
        need += stage_needs(p, &cut[i]);
        have += p->nodes[i].memory_bytes;
        if (bad < 0 && !stage_fits(p, i, &cut[i]))
            bad = i;
    }
    if (bad < 0) /* cannot be: then a cut exists */
        return why_set(why, ERR_REFUSED, "the model does not fit its nodes");
    return why_set(
        why, ERR_REFUSED,
        "stage %d (layers %d to %d) needs %.2f GiB: %.2f weights, %.2f KV cache, %.2f buffers; its node "
        "has %.2f GiB (in all %.2f GiB needed, %.2f there): add nodes, or lower --context or --kv-type",
        bad + 1, cut[bad].first, cut[bad].last, (double)stage_needs(p, &cut[bad]) / GIB,
        (double)cut[bad].weight_bytes / GIB, (double)cut[bad].kv_bytes / GIB, (double)p->m->fixed_bytes / GIB,
        (double)p->nodes[bad].memory_bytes / GIB, (double)need / GIB, (double)have / GIB);
}

/* On the cut that would be taken if memory were no matter. */
static err refuse(struct planner *p, struct plan_stage *scratch, struct why *why)
{
    double slowest;

    p->check_memory = false;
    solve(p, -1);
    slowest = *best_at(p, 0, 0);
    solve(p, slowest);
    walk(p, slowest, scratch);
    p->check_memory = true;
    return refuse_cut(p, scratch, why);
}

/* before[i]: bytes of all layers in front of layer i. */
static err sum_layers(struct planner *p, struct why *why)
{
    p->before = calloc((size_t)p->m->n_layer + 1, sizeof *p->before);
    if (!p->before)
        return why_set(why, ERR_NOMEM, "a plan of %d stages", p->n);
    for (int i = 0; i < p->m->n_layer; i++)
        p->before[i + 1] = p->before[i] + p->m->layer_bytes[i];
    return ERR_OK;
}

err plan_cut(const struct plan_model *m, const struct plan_node *nodes, int n, struct plan_stage *stages,
             struct why *why)
{
    err e;
    struct planner p = {.m = m, .nodes = nodes, .n = n, .check_memory = true};
    struct plan_stage *made = NULL;
    double slowest;

    if (n < 1 || m->n_layer < 1)
        FAIL(ERR_INVAL, "%d stages for %d layers", n, m->n_layer);
    if (n > m->n_layer + 2)
        FAIL(ERR_REFUSED,
             "%d stages cannot be filled: %d layers, embedding and head make at most %d; use --workers %d", n,
             m->n_layer, m->n_layer + 2, m->n_layer + 2);
    for (int i = 0; i < n; i++)
        if (!(nodes[i].speed > 0))
            FAIL(ERR_INVAL, "node %d has speed %g", i + 1, nodes[i].speed);

    TRY(sum_layers(&p, why));
    p.best = calloc(((size_t)n + 1) * ((size_t)m->n_layer + 1), sizeof *p.best);
    made = calloc((size_t)n, sizeof *made);
    if (!p.best || !made)
        FAIL(ERR_NOMEM, "a plan of %d stages", n);

    solve(&p, -1);
    slowest = *best_at(&p, 0, 0);
    if (isinf(slowest)) {
        e = refuse(&p, made, why);
        goto out;
    }
    solve(&p, slowest);
    walk(&p, slowest, made);
    for (int i = 0; i < n; i++)
        stages[i] = made[i];
    e = ERR_OK;
out:
    free(made);
    free(p.best);
    free(p.before);
    return e;
}

err plan_given(const struct plan_model *m, const struct plan_node *nodes, int n, struct plan_stage *stages,
               struct why *why)
{
    err e;
    struct planner p = {.m = m, .nodes = nodes, .n = n, .check_memory = true};
    bool fits = true;

    for (int i = 0; i < n; i++)
        if (stages[i].first != (i ? stages[i - 1].last : 0) || stages[i].last < stages[i].first ||
            stages[i].last > m->n_layer || (i == n - 1 && stages[i].last != m->n_layer))
            FAIL(ERR_INVAL, "stage %d of %d: layers %d to %d of %d", i + 1, n, stages[i].first,
                 stages[i].last, m->n_layer);
    TRY(sum_layers(&p, why));
    for (int i = 0; i < n; i++) {
        stages[i] = stage_of(&p, i, stages[i].first, stages[i].last);
        fits = fits && stage_fits(&p, i, &stages[i]);
    }
    e = fits ? ERR_OK : refuse_cut(&p, stages, why);
out:
    free(p.before);
    return e;
}
