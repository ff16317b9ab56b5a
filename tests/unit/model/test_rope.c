/* test_rope.c - frequencies of the scalings that no golden model reaches within its
 * context, and the angles themselves. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model/rope.h"

enum { HALF = 8 };

static const struct arch_desc family;

static struct hparams base(void)
{
    return (struct hparams){.rope_kind = ROPE_HALVES, .n_rot = 2 * HALF, .rope_base = 10000, .n_ctx_train = 4096};
}

static void near(float a, double b)
{
    assert_true(fabs((double)a - b) <= 1e-6 * (1 + fabs(b)));
}

static struct rope made(const struct hparams *hp, const float *factors)
{
    struct rope r;
    struct why why;
    assert_int_equal(rope_init(&r, &family, hp, factors, NULL, NULL, &why), ERR_OK);
    return r;
}

static void plain_angles(void **state)
{
    struct hparams hp = base();
    float cs[2 * HALF];
    struct rope r = made(&hp, NULL);
    (void)state;
    rope_angles(&r.table[ROPE_GLOBAL], 77, cs);
    for (int i = 0; i < HALF; i++) {
        double angle = 77 * pow(10000, -(double)i / HALF);
        assert_true(fabs((double)cs[2 * i] - cos(angle)) < 2e-5);
        assert_true(fabs((double)cs[2 * i + 1] - sin(angle)) < 2e-5);
    }
    assert_int_equal(r.table[ROPE_LOCAL].n_half, 0);
    assert_int_equal(r.table[ROPE_LONG].n_half, 0);
    rope_fini(&r);
}

/* GGUF has llama 3's scaling as divisors, config.json as parameters: the same. */
static void llama3_by_parameters_or_by_factors(void **state)
{
    struct hparams hp = base();
    struct rope plain = made(&hp, NULL);
    float factors[HALF];
    (void)state;
    hp.rope_scaling = ROPE_SCALING_LLAMA3;
    hp.rope_factor = 8;
    hp.rope_low_freq = 1;
    hp.rope_high_freq = 4;
    hp.rope_ctx_orig = 512;
    struct rope a = made(&hp, NULL);
    int kept = 0, slowed = 0, blended = 0;
    for (int i = 0; i < HALF; i++) {
        factors[i] = plain.table[ROPE_GLOBAL].freq[i] / a.table[ROPE_GLOBAL].freq[i];
        kept += factors[i] == 1;
        slowed += fabsf(factors[i] - 8) < 1e-4f;
        blended += factors[i] > 1.001f && factors[i] < 7.999f;
    }
    assert_true(kept > 0 && slowed > 0 && blended > 0);
    struct rope b = made(&hp, factors);
    for (int i = 0; i < HALF; i++)
        near(b.table[ROPE_GLOBAL].freq[i], (double)a.table[ROPE_GLOBAL].freq[i]);
    rope_fini(&plain);
    rope_fini(&a);
    rope_fini(&b);
}

static void longrope_has_a_table_for_each_length(void **state)
{
    static const float brief[HALF] = {1, 1, 1, 1, 1, 1, 2, 2}, extended[HALF] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct hparams hp = base();
    (void)state;
    hp.rope_scaling = ROPE_SCALING_LONGROPE;
    hp.rope_short = brief;
    hp.rope_long = extended;
    hp.rope_ctx_orig = 1024; /* 4096 / 1024: by the rule sqrt(1 + ln 4 / ln 1024) */
    struct rope r = made(&hp, NULL);
    assert_int_equal(r.long_from, 1024);
    for (int i = 0; i < HALF; i++) {
        double f = pow(10000, -(double)i / HALF);
        near(r.table[ROPE_GLOBAL].freq[i], f / (double)brief[i]);
        near(r.table[ROPE_LONG].freq[i], f / (double)extended[i]);
    }
    near(r.table[ROPE_LONG].mscale, sqrt(1 + log(4) / log(1024)));
    hp.longrope_short_mscale = 1.5f;
    rope_fini(&r);
    r = made(&hp, NULL);
    near(r.table[ROPE_GLOBAL].mscale, 1.5);
    rope_fini(&r);
}

static void what_cannot_be_scaled_is_refused(void **state)
{
    struct hparams hp = base();
    struct rope r;
    struct why why;
    (void)state;
    hp.rope_scaling = ROPE_SCALING_DYNAMIC;
    assert_int_equal(rope_init(&r, &family, &hp, NULL, NULL, NULL, &why), ERR_UNSUPPORTED);
    hp.rope_scaling = ROPE_SCALING_LONGROPE;
    assert_int_equal(rope_init(&r, &family, &hp, NULL, NULL, NULL, &why), ERR_FORMAT);
    hp.rope_ctx_orig = 1024;
    assert_int_equal(rope_init(&r, &family, &hp, NULL, NULL, NULL, &why), ERR_SHAPE);
    assert_null(r.block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_angles),
        cmocka_unit_test(llama3_by_parameters_or_by_factors),
        cmocka_unit_test(longrope_has_a_table_for_each_length),
        cmocka_unit_test(what_cannot_be_scaled_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
