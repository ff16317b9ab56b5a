/* test_attn.c - attention against a plain softmax in double, on every instruction
 * set and KV type; and its part of the numeric contract. */
#include "guard.h"

#include "base/f16.h"
#include "kernels/kv_page.h"

struct shape {
    const char *name;
    int n_q, pos0, n_group, dk, dv, window, chunk, n_kv;
    bool causal, slopes, sinks;
    float softcap;
    bool latent; /* dv <= dk: values are the first columns of the keys */
};

static const struct shape shapes[] = {
    {"one token alone", 1, 0, 1, 64, 64, 0, 0, 1, true, false, false, 0, false},
    {"grouped heads, pages begun", 1, 77, 4, 128, 128, 0, 0, 78, true, false, false, 0, false},
    {"prompt chunk across pages", 40, 25, 2, 64, 64, 0, 0, 65, true, false, false, 0, false},
    {"sliding window", 20, 90, 2, 256, 256, 33, 0, 110, true, false, false, 0, false},
    {"window shorter than a page", 9, 60, 1, 32, 32, 5, 0, 69, true, false, false, 0, false},
    {"attention chunks", 30, 50, 1, 64, 64, 0, 48, 80, true, false, false, 0, false},
    {"encoder", 37, 0, 1, 64, 64, 0, 0, 37, false, false, false, 0, false},
    {"soft cap, ALiBi, sinks", 5, 70, 3, 64, 96, 0, 0, 75, true, true, true, 30, false},
    {"odd head sizes", 3, 33, 2, 80, 72, 0, 0, 36, true, false, false, 0, false},
    {"columns that fill no vector", 5, 61, 5, 22, 20, 0, 0, 66, true, false, false, 0, false},
    {"many heads: a tile of each height", 6, 60, 15, 64, 96, 0, 0, 66, true, false, false, 0, false},
    {"more rows than a pass", 33, 40, 5, 64, 64, 0, 0, 73, true, false, false, 0, false},
    {"latent: one row per position", 2, 40, 20, 192, 128, 0, 0, 42, true, false, false, 0, true},
    {"blocks begun", 3, 140, 4, 64, 64, 0, 0, 143, true, false, false, 0, false},
    {"spans", 2, 2100, 4, 64, 64, 0, 0, 2102, true, false, true, 0, false},
    {"a chunk that enters a span", 12, 2044, 1, 32, 32, 0, 0, 2056, true, false, false, 0, false},
    {"a window over two spans", 3, 2100, 2, 64, 64, 200, 0, 2103, true, true, false, 0, false},
};
enum { MAX_GROUP = 20, N_SHAPES = sizeof shapes / sizeof shapes[0], MAX_PAGES = 72, MAX_SPANS = 3 };

struct scene {
    struct attn a;
    float *q, *out, slopes[MAX_GROUP], sinks[MAX_GROUP];
    char *kv;
    uint32_t pages[MAX_PAGES];
    size_t q_bytes, out_bytes, kv_bytes, scratch_bytes;
    void *scratch;
    double *k, *v; /* what the cache holds, [n_kv][dk], [n_kv][dv] */
};

static double kv_value(enum kv_type t, const char *row, int i)
{
    uint16_t half;
    float value;
    switch (t) {
    case KV_F32:
        memcpy(&value, row + 4 * i, 4);
        return (double)value;
    case KV_F16:
        memcpy(&half, row + 2 * i, 2);
        return (double)f16_to_f32(half);
    case KV_BF16:
        memcpy(&half, row + 2 * i, 2);
        return (double)bf16_to_f32(half);
    default:
        memcpy(&half, row + i / 32 * KV_Q8_BLOCK, 2);
        return (double)f16_to_f32(half) * (signed char)row[i / 32 * KV_Q8_BLOCK + 2 + i % 32];
    }
}

static void scene_fill(struct scene *s, const struct kernels *k, enum kv_type t)
{
    struct attn *a = &s->a;
    float row[256];
    char stored[256 * sizeof(float)]; /* the row as the cache keeps it, in order */
    int n_pages = (a->n_kv + KV_PAGE - 1) / KV_PAGE;
    for (int p = 0; p < n_pages; p++)
        s->pages[p] = (uint32_t)(n_pages - 1 - p); /* not in order */
    s->k = malloc(sizeof *s->k * (size_t)(a->n_kv * a->dk));
    s->v = malloc(sizeof *s->v * (size_t)(a->n_kv * a->dv));
    assert_true(s->k && s->v);
    for (int j = 0; j < a->n_kv; j++) {
        char *page = s->kv + s->pages[j / KV_PAGE] * a->page_bytes;
        random_floats(row, (size_t)a->dk);
        k->kv_put[t](stored, row, a->dk);
        for (int c = 0; c < a->dk; c++)
            s->k[j * a->dk + c] = kv_value(t, stored, c);
        if (a->latent) {
            memcpy(page + (size_t)(j % KV_PAGE) * kv_row_bytes(t, a->dk), stored, kv_row_bytes(t, a->dk));
        } else {
            kv_page_put_k(t, k->kv_put[t], page + a->k_offset, j % KV_PAGE, row, a->dk);
            random_floats(row, (size_t)a->dv);
            k->kv_put[t](stored, row, a->dv);
            kv_page_put_v(t, k->kv_put[t], page + a->v_offset, j % KV_PAGE, row, a->dv);
        }
        for (int c = 0; c < a->dv; c++)
            s->v[j * a->dv + c] = kv_value(t, stored, c);
    }
}

static struct scene scene_make(const struct shape *h, const struct kernels *k, enum kv_type t)
{
    struct scene s = {0};
    struct attn *a = &s.a;
    int n_pages = (h->n_kv + KV_PAGE - 1) / KV_PAGE;
    *a = (struct attn){.n_q = h->n_q, .pos0 = h->pos0, .n_group = h->n_group, .dk = h->dk, .dv = h->dv,
                       .scale = 0.2f, .softcap = h->softcap, .window = h->window, .chunk = h->chunk,
                       .causal = h->causal, .n_kv = h->n_kv};
    a->latent = h->latent;
    a->v_offset = h->latent ? 0 : kv_k_bytes(t, h->dk);
    a->page_bytes = kv_k_bytes(t, h->dk) + (h->latent ? 0 : kv_v_bytes(t, h->dv));
    a->ldq = (size_t)(h->n_group * h->dk);
    a->ldo = (size_t)(h->n_group * h->dv);
    s.q_bytes = (size_t)h->n_q * a->ldq * sizeof(float);
    s.out_bytes = (size_t)h->n_q * a->ldo * sizeof(float);
    s.kv_bytes = (size_t)n_pages * a->page_bytes;
    s.scratch_bytes = attn_scratch_bytes(h->n_q, h->n_group, h->dk, h->dv);
    s.q = guarded(s.q_bytes);
    s.out = guarded(s.out_bytes);
    s.kv = guarded(s.kv_bytes); /* NaN where nothing was put */
    s.scratch = guarded(s.scratch_bytes);
    random_floats(s.q, s.q_bytes / sizeof(float));
    for (int i = 0; i < MAX_GROUP; i++) {
        s.slopes[i] = 0.01f * (float)(i + 1);
        s.sinks[i] = random_unit();
    }
    scene_fill(&s, k, t);
    return s;
}

static void scene_bind(struct scene *s, const struct shape *h)
{
    s->a.q = s->q;
    s->a.out = s->out;
    s->a.base = s->kv;
    s->a.pages = s->pages;
    s->a.slopes = h->slopes ? s->slopes : NULL;
    s->a.sinks = h->sinks ? s->sinks : NULL;
}

static void scene_free(struct scene *s)
{
    guarded_free(s->q, s->q_bytes);
    guarded_free(s->out, s->out_bytes);
    guarded_free(s->kv, s->kv_bytes);
    guarded_free(s->scratch, s->scratch_bytes);
    free(s->k);
    free(s->v);
}

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

static bool holds(enum kv_type t, const struct shape *shape)
{
    return t != KV_Q8_0 || (shape->dk % 32 == 0 && shape->dv % 32 == 0 && !shape->latent);
}

/* What a result may be off by. In f32 a score near 20 is known to 2e-6, and so is its
 * weight, relatively. Kernels that round the query (and the weights) to bf16 or int8 know
 * a score to a few hundredths here, where queries have outliers and scores reach 20; a wrong
 * column or position would be off by whole units. */
static double tolerance(const struct kernels *k, const struct kernels *plain, enum kv_type t, double want)
{
    bool narrow = k->attn[t][ROLE_GEN] != plain->attn[t][ROLE_GEN];
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
                if (!(fabs((double)got[c] - want[c]) <= tolerance(k, &plain, t, want[c])))
                    fail_msg("isa %x kv %s %s: query %d head %d column %d: %g, not %g", k->isa, kv_type_name(t),
                             shape->name, i, head, c, (double)got[c], want[c]);
        }
    scene_free(&s);
}

/* Every instruction set, precision, KV type, shape and role. */
static void everywhere(void (*check)(const struct kernels *, const struct shape *, enum kv_type, enum role))
{
    unsigned masks[8];
    for (int m = 0, n = isa_masks(masks, 8); m < n; m++)
        for (int precision = 0; precision < PREC_COUNT; precision++)
            for (int h = 0; h < N_SHAPES; h++)
                for (int t = 0; t < KV_TYPE_COUNT; t++)
                    for (int role = 0; role < ROLE_COUNT; role++) {
                        struct kernels k;
                        kernels_init(&k, masks[m], (enum precision)precision);
                        if (holds((enum kv_type)t, &shapes[h]))
                            check(&k, &shapes[h], (enum kv_type)t, (enum role)role);
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
