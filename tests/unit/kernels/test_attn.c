/* test_attn.c - attention against a plain softmax in double, on every instruction
 * set and KV type; and its part of the numeric contract. */
#include "attn_scene.h"
#include "tests/tools/emulated_tiles.h"

static bool visible(const struct attn *a, int i, int j)
{
    return (!a->causal || j <= i) && (a->window == 0 || j > i - a->window) &&
           (a->chunk == 0 || j / a->chunk == i / a->chunk);
}

static void true_row(const struct scene *s, int i, int head, double *out)
{
    const struct attn *a = &s->a;
    const float *q = s->q + (size_t)i * a->ldq + (size_t)(head * a->dk);
    double total = a->sinks ? exp((double)a->sinks[head]) : 0;
    memset(out, 0, sizeof *out * (size_t)a->dv);
    for (int j = 0; j < a->n_kv; j++) {
        if (!visible(a, a->pos0 + i, j))
            continue;
        double x = 0;
        for (int c = 0; c < a->dk; c++)
            x += (double)q[c] * s->k[j * a->dk + c];
        x *= (double)a->scale;
        if (a->softcap > 0)
            x = (double)a->softcap * tanh(x / (double)a->softcap);
        if (a->slopes)
            x += (double)a->slopes[head] * (j - a->pos0 - i);
        total += exp(x);
        for (int c = 0; c < a->dv; c++)
            out[c] += exp(x) * s->v[j * a->dv + c];
    }
    for (int c = 0; c < a->dv; c++)
        out[c] /= total;
}

/* What a result may be off by. In f32 a score near 20 is known to 2e-6, and so is its
 * weight, relatively. Kernels that round the query (and the weights) to bf16 or int8 know
 * a score to a few hundredths here, where queries have outliers and scores reach 20; a wrong
 * column or position would be off by whole units. */
static double tolerance(const struct kernels *k, const struct kernels *plain, enum kv_type t, enum role role,
                        double want)
{
    bool narrow = k->attn[t][role] != plain->attn[t][role];
    return (narrow ? 0.1 : 1e-5) * (1 + fabs(want));
}

static void check_softmax(const struct kernels *k, const struct shape *shape, enum kv_type t, enum role role)
{
    struct kernels plain;
    double want[256];
    kernels_init(&plain, k->isa, PREC_EXACT);
    struct scene s = scene_make(shape, k, t);
    scene_bind(&s, shape);
    k->attn[t][role](&s.a, s.scratch);
    for (int i = 0; i < shape->n_q; i++)
        for (int head = 0; head < shape->n_group; head++) {
            const float *got = s.out + (size_t)i * s.a.ldo + (size_t)(head * shape->dv);
            true_row(&s, i, head, want);
            for (int c = 0; c < shape->dv; c++)
                if (!(fabs((double)got[c] - want[c]) <= tolerance(k, &plain, t, role, want[c])))
                    fail_msg("isa %x kv %s %s: query %d head %d column %d: %g, not %g", k->isa, kv_type_name(t),
                             shape->name, i, head, c, (double)got[c], want[c]);
        }
    scene_free(&s);
}

typedef void check_fn(const struct kernels *, const struct shape *, enum kv_type, enum role);

/* Every KV type, shape and role of a table; of those that `before` has, too, nothing. */
static void all_of(const struct kernels *k, const struct kernels *before, check_fn *check)
{
    for (int h = 0; h < N_SHAPES; h++)
        for (int t = 0; t < KV_TYPE_COUNT; t++)
            for (int role = 0; role < ROLE_COUNT; role++)
                if (k->attn[t][role] != before->attn[t][role] && holds((enum kv_type)t, &shapes[h]))
                    check(k, &shapes[h], (enum kv_type)t, (enum role)role);
}

/* Every instruction set and precision; AMX with its tiles in plain C where there are none. */
static void everywhere(check_fn *check)
{
    unsigned masks[8];
    for (int precision = 0; precision < PREC_COUNT; precision++) {
        struct kernels k, before = {0};
        for (int m = 0, n = isa_masks(masks, 8); m < n; m++, before = k) {
            kernels_init(&k, masks[m], (enum precision)precision);
            all_of(&k, &before, check);
        }
        if (emulate_tiles(&k))
            all_of(&k, &before, check);
    }
}

static void attention_equals_softmax_on_every_isa(void **state)
{
    (void)state;
    everywhere(check_softmax);
}

/* However a run of queries is cut into calls, each keeps its bits. */
static void check_cuts(const struct kernels *k, const struct shape *shape, enum kv_type t, enum role role, int step)
{
    struct scene s = scene_make(shape, k, t);
    scene_bind(&s, shape);
    k->attn[t][role](&s.a, s.scratch);
    float *whole = malloc(s.out_bytes);
    assert_non_null(whole);
    memcpy(whole, s.out, s.out_bytes);
    memset(s.out, 0xff, s.out_bytes);
    for (int i = 0; i < shape->n_q; i += step) {
        struct attn part = s.a;
        part.n_q = shape->n_q - i < step ? shape->n_q - i : step;
        part.pos0 += i;
        part.q += (size_t)i * part.ldq;
        part.out += (size_t)i * part.ldo;
        if (shape->causal)
            part.n_kv = part.pos0 + part.n_q; /* later rows are not there yet */
        k->attn[t][role](&part, s.scratch);
    }
    if (memcmp(whole, s.out, s.out_bytes) != 0)
        fail_msg("isa %x kv %s %s: calls of %d queries give other bits", k->isa, kv_type_name(t), shape->name, step);
    free(whole);
    scene_free(&s);
}

static void check_all_cuts(const struct kernels *k, const struct shape *shape, enum kv_type t, enum role role)
{
    static const int steps[] = {1, 3, 32};
    for (size_t step = 0; step < sizeof steps / sizeof steps[0]; step++)
        check_cuts(k, shape, t, role, steps[step]);
}

static void a_query_depends_on_nothing_but_itself(void **state)
{
    (void)state;
    everywhere(check_all_cuts);
}

/* Spans computed apart, in any order and by any call, then added up: the bits of one call. */
static void check_parts(const struct kernels *k, const struct shape *shape, enum kv_type t, enum role role)
{
    struct scene s = scene_make(shape, k, t);
    int n_spans = (shape->n_kv + ATTN_SPAN - 1) / ATTN_SPAN;
    size_t floats = (size_t)(shape->n_q * shape->n_group) * attn_part_floats(shape->dv);
    size_t part_bytes = (size_t)n_spans * floats * sizeof(float);
    float *whole = malloc(s.out_bytes), *part = guarded(part_bytes);
    assert_non_null(whole);
    scene_bind(&s, shape);
    k->attn[t][role](&s.a, s.scratch);
    memcpy(whole, s.out, s.out_bytes);
    memset(s.out, 0xff, s.out_bytes);
    for (int span = n_spans - 1, n; span >= 0; span -= n) { /* two spans, then one */
        struct attn a = s.a;
        n = span == n_spans - 1 && span > 0 ? 2 : 1;
        a.span0 = span + 1 - n;
        a.span1 = span + 1;
        a.part = part + (size_t)a.span0 * floats;
        k->attn[t][role](&a, s.scratch);
    }
    s.a.part = part;
    s.a.span0 = 0;
    s.a.span1 = n_spans;
    k->attn_merge(&s.a);
    if (memcmp(whole, s.out, s.out_bytes) != 0)
        fail_msg("isa %x kv %s %s: spans apart give other bits", k->isa, kv_type_name(t), shape->name);
    guarded_free(part, part_bytes);
    free(whole);
    scene_free(&s);
}

static void spans_may_be_computed_apart(void **state)
{
    (void)state;
    everywhere(check_parts);
}

static void kv_rows_are_equal_on_every_isa(void **state)
{
    (void)state;
    static const int widths[] = {32, 64, 96, 256, 40};
    unsigned masks[8];
    float x[256];
    struct kernels ref, k;
    kernels_init(&ref, ISA_REF, PREC_FAST);
    for (int m = 1, n = isa_masks(masks, 8); m < n; m++)
        for (int t = 0; t < KV_TYPE_COUNT; t++)
            for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
                if (t == KV_Q8_0 && widths[w] % 32)
                    continue;
                size_t bytes = kv_row_bytes((enum kv_type)t, widths[w]);
                char *want = guarded(bytes), *got = guarded(bytes);
                random_floats(x, (size_t)widths[w]);
                x[3] = 1e30f; /* infinite as f16 */
                x[4] = 1e-7f; /* subnormal as f16 */
                kernels_init(&k, masks[m], PREC_FAST);
                ref.kv_put[t](want, x, widths[w]);
                k.kv_put[t](got, x, widths[w]);
                assert_memory_equal(got, want, bytes);
                guarded_free(want, bytes);
                guarded_free(got, bytes);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_equals_softmax_on_every_isa),
        cmocka_unit_test(a_query_depends_on_nothing_but_itself),
        cmocka_unit_test(spans_may_be_computed_apart),
        cmocka_unit_test(kv_rows_are_equal_on_every_isa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
