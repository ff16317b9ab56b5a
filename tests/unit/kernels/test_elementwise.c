/* test_elementwise.c - norms, rotation, activations and reductions against the
 * reference on every instruction set, at lengths around a vector's. */
#include "guard.h"

static const int lengths[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 129, 640, 2050};
enum { N_LENGTHS = sizeof lengths / sizeof lengths[0] };

static struct kernels ref;

static void check_near(const char *what, unsigned isa, const float *got, const float *want, int n, float absolute,
                       float relative)
{
    for (int i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= absolute + relative * fabsf(want[i])))
            fail_msg("%s, isa %x, %d long, element %d: %.9g, not %.9g", what, isa, n, i, (double)got[i],
                     (double)want[i]);
}

/* Calls body for each vector set and length, with guarded x, y, z, w of n floats. */
struct rows {
    struct kernels k;
    int n;
    float *x, *y, *z, *want;
};

static void for_each_row(void (*body)(struct rows *))
{
    unsigned masks[8];
    kernels_init(&ref, ISA_REF, PREC_FAST);
    for (int i = 1, n_masks = isa_masks(masks, 8); i < n_masks; i++)
        for (int l = 0; l < N_LENGTHS; l++) {
            struct rows r = {.n = lengths[l]};
            size_t bytes = (size_t)r.n * sizeof(float);
            kernels_init(&r.k, masks[i], PREC_FAST);
            float **all[] = {&r.x, &r.y, &r.z, &r.want};
            for (int j = 0; j < 4; j++) {
                *all[j] = guarded(bytes);
                random_floats(*all[j], (size_t)r.n);
            }
            body(&r);
            for (int j = 0; j < 4; j++)
                guarded_free(*all[j], bytes);
        }
}

static void norms_body(struct rows *r)
{
    ref.rmsnorm(r->want, r->x, r->z, 1e-6f, r->n);
    r->k.rmsnorm(r->y, r->x, r->z, 1e-6f, r->n);
    check_near("rmsnorm", r->k.isa, r->y, r->want, r->n, 0, 2e-6f);
    for (int bias = 0; bias < 2; bias++) {
        float *b = bias ? r->z : NULL;
        ref.layernorm(r->want, r->x, r->z, b, 1e-5f, r->n);
        memcpy(r->y, r->x, (size_t)r->n * sizeof(float)); /* in place */
        r->k.layernorm(r->y, r->y, r->z, b, 1e-5f, r->n);
        check_near("layernorm", r->k.isa, r->y, r->want, r->n, 4e-6f, 2e-6f);
    }
}

static void norms(void **state)
{
    (void)state;
    for_each_row(norms_body);
}

static void activations_body(struct rows *r)
{
    for (int i = 0; i < r->n; i++)
        r->x[i] = random_unit() * 20;
    if (r->n > 8)
        memcpy(r->x, (float[]){0, -0.0f, 1e-20f, -1e-5f, 90, -90, 200, -200}, 32);
    for (int a = 0; a < ACTIVATION_COUNT; a++) {
        if (ref.act[a]) {
            ref.act[a](r->want, r->x, r->n);
            r->k.act[a](r->y, r->x, r->n);
            check_near("act", r->k.isa, r->y, r->want, r->n, 2e-6f, 2e-6f);
        }
        ref.glu[a](r->want, r->x, r->z, r->n);
        r->k.glu[a](r->y, r->x, r->z, r->n);
        check_near("glu", r->k.isa, r->y, r->want, r->n, 2e-6f, 4e-6f);
    }
    memcpy(r->y, r->z, (size_t)r->n * sizeof(float));
    memcpy(r->want, r->z, (size_t)r->n * sizeof(float));
    ref.axpy(r->want, r->x, 0.37f, r->n);
    r->k.axpy(r->y, r->x, 0.37f, r->n);
    check_near("axpy", r->k.isa, r->y, r->want, r->n, 1e-6f, 1e-6f);
}

static void activations(void **state)
{
    (void)state;
    for_each_row(activations_body);
}

/* Small arguments keep their digits: an absolute error would hide there. */
static void small_arguments_keep_their_digits(void **state)
{
    (void)state;
    unsigned masks[8];
    float x[64], want[64], got[64];
    kernels_init(&ref, ISA_REF, PREC_FAST);
    for (int i = 0; i < 64; i++)
        x[i] = ldexpf(i % 2 ? -1.1f : 1.3f, -i / 2);
    for (int i = 1, n = isa_masks(masks, 8); i < n; i++) {
        struct kernels k;
        kernels_init(&k, masks[i], PREC_FAST);
        for (int a = 0; a < ACTIVATION_COUNT; a++)
            if (ref.act[a]) {
                ref.act[a](want, x, 64);
                k.act[a](got, x, 64);
                check_near("act", masks[i], got, want, 64, 0, 3e-6f);
            }
    }
}

static void reductions_body(struct rows *r)
{
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    for (int i = 0; i < r->n; i++)
        r->x[i] = random_unit() * 10;
    for (int at = 0, step; at < r->n; at += step) { /* streamed in two blocks */
        step = at == 0 && r->n > 1 ? r->n / 2 : r->n - at;
        ref.lse(r->x + at, step, &max[0], &sum[0]);
        r->k.lse(r->x + at, step, &max[1], &sum[1]);
    }
    assert_true(max[0] == max[1]);
    check_near("lse", r->k.isa, &sum[1], &sum[0], 1, 0, 2e-6f);

    assert_int_equal(r->k.argmax(r->x, r->n), ref.argmax(r->x, r->n));
    if (r->n > 2) { /* ties and NaN */
        r->x[r->n - 1] = r->x[r->n / 2] = 50;
        assert_int_equal(r->k.argmax(r->x, r->n), r->n / 2);
        r->x[r->n / 2] = NAN;
        assert_int_equal(r->k.argmax(r->x, r->n), r->n - 1);
    }
    for (int i = 0; i < r->n; i++)
        r->x[i] = i % 2 ? -INFINITY : NAN;
    assert_int_equal(r->k.argmax(r->x, r->n), r->n > 1 ? 1 : 0);
    assert_int_equal(ref.argmax(r->x, r->n), r->n > 1 ? 1 : 0);
}

static void reductions(void **state)
{
    (void)state;
    for_each_row(reductions_body);
}

static void minus_infinity_has_no_weight(void **state)
{
    (void)state;
    unsigned masks[8];
    float x[40];
    for (int i = 0; i < 40; i++)
        x[i] = -INFINITY;
    for (int i = 0, n = isa_masks(masks, 8); i < n; i++) {
        struct kernels k;
        float max = -INFINITY, sum = 0;
        kernels_init(&k, masks[i], PREC_FAST);
        x[5] = -INFINITY;
        k.lse(x, 40, &max, &sum);
        assert_true(max == -INFINITY && sum == 0);
        x[5] = 3;
        k.lse(x, 40, &max, &sum);
        assert_true(max == 3 && sum == 1);
    }
}

static void rotations(void **state)
{
    (void)state;
    static const int shapes[][3] = {{1, 64, 64}, {3, 128, 128}, {2, 80, 20}, {2, 96, 96}, {1, 6, 6}, {4, 256, 64}};
    unsigned masks[8];
    kernels_init(&ref, ISA_REF, PREC_FAST);
    for (int i = 1, n_masks = isa_masks(masks, 8); i < n_masks; i++)
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            struct kernels k;
            int heads = shapes[s][0], dim = shapes[s][1], rot = shapes[s][2];
            size_t n = (size_t)(heads * dim), bytes = n * sizeof(float), cs_bytes = (size_t)rot * sizeof(float);
            float *x = guarded(bytes), *y = guarded(bytes), *cs = guarded(cs_bytes);
            kernels_init(&k, masks[i], PREC_FAST);
            for (int c = 0; c < rot / 2; c++) {
                cs[2 * c] = cosf((float)c);
                cs[2 * c + 1] = sinf((float)c);
            }
            for (int kind = 0; kind < 2; kind++) {
                random_floats(x, n);
                memcpy(y, x, bytes);
                (kind ? ref.rope_pairs : ref.rope_halves)(x, cs, heads, dim, rot);
                (kind ? k.rope_pairs : k.rope_halves)(y, cs, heads, dim, rot);
                check_near("rope", masks[i], y, x, (int)n, 2e-6f, 1e-6f);
            }
            guarded_free(x, bytes);
            guarded_free(y, bytes);
            guarded_free(cs, cs_bytes);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms),
        cmocka_unit_test(activations),
        cmocka_unit_test(small_arguments_keep_their_digits),
        cmocka_unit_test(reductions),
        cmocka_unit_test(minus_infinity_has_no_weight),
        cmocka_unit_test(rotations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
