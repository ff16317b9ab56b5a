/* test_sample.c - the sampler against distributions computed the plain way. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/rng.h"
#include "model/sample.h"

enum { VOCAB = 50 };

static struct sample_params plain(float temperature)
{
    return (struct sample_params){.temperature = temperature, .top_p = 1, .repetition_penalty = 1, .seed = 7};
}

static struct sampler *opened(struct sample_params p, const int32_t *prompt, int n)
{
    struct sampler *s = NULL;
    struct why why;
    assert_int_equal(sampler_open(&p, prompt, n, VOCAB, 64, &s, &why), ERR_OK);
    return s;
}

static int32_t draw_at(const struct sampler *s, const float *logits, int pos)
{
    static struct sample_scratch scratch;
    float work[VOCAB];
    return sampler_draw(s, logits, work, pos, &scratch);
}

/* A fixed, uneven row; the order of ids is not the order of values. */
static void some_logits(float *x)
{
    for (int i = 0; i < VOCAB; i++)
        x[i] = 3 * sinf((float)i * 1.7f) + (float)(i % 7) * 0.2f;
}

/* Draws at many positions and compares counts with the probabilities p [VOCAB]
 * by chi-square; 50 cells at most, so 110 would be a one in a million event. */
static void check_distribution(const struct sampler *s, const float *logits, const double *p)
{
    enum { DRAWS = 40000 };
    int count[VOCAB] = {0};
    double chi = 0;
    for (int i = 0; i < DRAWS; i++)
        count[draw_at(s, logits, i)]++;
    for (int i = 0; i < VOCAB; i++) {
        if (p[i] == 0)
            assert_int_equal(count[i], 0);
        else
            chi += (count[i] - DRAWS * p[i]) * (count[i] - DRAWS * p[i]) / (DRAWS * p[i]);
    }
    assert_true(chi < 110);
}

static void softmax_of(const float *x, double temperature, double *p)
{
    double sum = 0;
    for (int i = 0; i < VOCAB; i++)
        sum += p[i] = exp((double)x[i] / temperature);
    for (int i = 0; i < VOCAB; i++)
        p[i] /= sum;
}

/* Keeps the k most likely, lowest id first among equals, and renormalises. */
static void keep_most_likely(double *p, int k)
{
    bool keep[VOCAB] = {false};
    double sum = 0;
    for (int n = 0; n < k; n++) {
        int best = -1;
        for (int i = 0; i < VOCAB; i++)
            if (!keep[i] && (best < 0 || p[i] > p[best]))
                best = i;
        keep[best] = true;
    }
    for (int i = 0; i < VOCAB; i++)
        sum += p[i] = keep[i] ? p[i] : 0;
    for (int i = 0; i < VOCAB; i++)
        p[i] /= sum;
}

static int smallest_nucleus(const double *p, double limit)
{
    double sorted[VOCAB], sum = 0;
    memcpy(sorted, p, sizeof sorted);
    for (int i = 0; i < VOCAB; i++)
        for (int j = i + 1; j < VOCAB; j++)
            if (sorted[j] > sorted[i]) {
                double t = sorted[i];
                sorted[i] = sorted[j];
                sorted[j] = t;
            }
    for (int i = 0; i < VOCAB; i++)
        if ((sum += sorted[i]) >= limit)
            return i + 1;
    return VOCAB;
}

static void draws_follow_the_temperature(void **state)
{
    float x[VOCAB];
    double p[VOCAB];
    (void)state;
    some_logits(x);
    for (int t = 1; t <= 3; t++) {
        struct sampler *s = opened(plain(0.5f * (float)t), NULL, 0);
        softmax_of(x, 0.5 * t, p);
        check_distribution(s, x, p);
        sampler_close(s);
    }
}

static void truncations_keep_the_most_likely(void **state)
{
    float x[VOCAB];
    double p[VOCAB];
    (void)state;
    some_logits(x);
    for (int k = 1; k < VOCAB; k += 6) {
        struct sample_params a = plain(1), b = plain(1), c = plain(1);
        struct sampler *s;
        a.top_k = k;
        softmax_of(x, 1, p);
        keep_most_likely(p, k);
        check_distribution(s = opened(a, NULL, 0), x, p);
        sampler_close(s);

        b.top_p = 0.02f * (float)k;
        softmax_of(x, 1, p);
        keep_most_likely(p, smallest_nucleus(p, b.top_p));
        check_distribution(s = opened(b, NULL, 0), x, p);
        sampler_close(s);

        c.top_k = k; /* both: the nucleus is taken of what top-k left */
        c.top_p = 0.6f;
        softmax_of(x, 1, p);
        keep_most_likely(p, k);
        keep_most_likely(p, smallest_nucleus(p, 0.6f));
        check_distribution(s = opened(c, NULL, 0), x, p);
        sampler_close(s);
    }
}

static void min_p_is_relative_to_the_best(void **state)
{
    float x[VOCAB];
    double p[VOCAB], max = 0, sum = 0;
    struct sample_params a = plain(1);
    (void)state;
    a.min_p = 0.3f;
    some_logits(x);
    softmax_of(x, 1, p);
    for (int i = 0; i < VOCAB; i++)
        max = p[i] > max ? p[i] : max;
    for (int i = 0; i < VOCAB; i++)
        sum += p[i] = p[i] >= 0.3 * max ? p[i] : 0;
    for (int i = 0; i < VOCAB; i++)
        p[i] /= sum;
    struct sampler *s = opened(a, NULL, 0);
    check_distribution(s, x, p);
    sampler_close(s);
}

static void equal_logits_are_cut_by_id(void **state)
{
    float x[VOCAB] = {0};
    double p[VOCAB] = {0};
    struct sample_params a = plain(1), b = plain(1);
    (void)state;
    a.top_k = 3;
    p[0] = p[1] = p[2] = 1.0 / 3;
    struct sampler *s = opened(a, NULL, 0);
    check_distribution(s, x, p);
    sampler_close(s);
    b.top_p = 1e-6f; /* at least one stays */
    s = opened(b, NULL, 0);
    assert_int_equal(draw_at(s, x, 3), 0);
    sampler_close(s);
}

static void greedy_takes_the_lowest_id_and_never_a_nan(void **state)
{
    float x[VOCAB] = {0};
    struct sampler *s = opened(plain(0), NULL, 0);
    (void)state;
    assert_true(sampler_is_argmax(s, 0));
    x[9] = x[20] = 2;
    x[3] = NAN;
    assert_int_equal(draw_at(s, x, 0), 9);
    sampler_close(s);
    s = opened(plain(1), NULL, 0);
    for (int i = 0; i < 1000; i++)
        assert_int_not_equal(draw_at(s, x, i), 3);
    sampler_close(s);
}

static void a_position_always_draws_the_same(void **state)
{
    float x[VOCAB];
    struct sample_params a = plain(1), b = plain(1);
    int differ = 0;
    (void)state;
    some_logits(x);
    b.choice = 1;
    struct sampler *s = opened(a, NULL, 0), *again = opened(a, NULL, 0), *other = opened(b, NULL, 0);
    for (int i = 99; i >= 0; i--) {
        assert_int_equal(draw_at(s, x, i), draw_at(again, x, i));
        differ += draw_at(s, x, i) != draw_at(other, x, i);
    }
    assert_true(differ > 50);
    sampler_close(s);
    sampler_close(again);
    sampler_close(other);
}

static void penalties_and_biases(void **state)
{
    static const struct token_bias bias[] = {{4, -5}, {6, 2.5f}};
    static const int32_t prompt[] = {1, 1, 2};
    float x[VOCAB] = {0};
    struct sample_params p = plain(0);
    (void)state;
    x[1] = 3;
    x[2] = 2.9f;
    x[3] = 2;
    x[4] = 6;
    p.bias = bias;
    p.n_bias = 2;
    struct sampler *s = opened(p, NULL, 0);
    assert_false(sampler_is_argmax(s, 0));
    assert_int_equal(draw_at(s, x, 0), 1); /* 4 pushed down, 6 up to 2.5 */
    sampler_close(s);

    p = plain(0);
    p.repetition_penalty = 2; /* over the prompt: 3 -> 1.5, 2.9 -> 1.45 */
    x[4] = 0;
    s = opened(p, prompt, 3);
    assert_int_equal(draw_at(s, x, 0), 3);
    sampler_push(s, 3, 10);
    assert_int_equal(draw_at(s, x, 11), 1);
    sampler_close(s);

    p = plain(0);
    p.frequency_penalty = 0.3f; /* over the output only */
    s = opened(p, prompt, 3);
    sampler_push(s, 1, 3);
    assert_int_equal(draw_at(s, x, 3), 2);
    sampler_push(s, 2, 4);
    assert_int_equal(draw_at(s, x, 4), 1);
    sampler_push(s, 1, 4); /* the step came twice: counted once */
    assert_int_equal(draw_at(s, x, 4), 1);
    sampler_push(s, 1, 5);
    assert_int_equal(draw_at(s, x, 5), 2);
    sampler_close(s);
}

/* Rows of one sequence that pass together draw what they would have drawn alone. */
static void draws_are_as_of_their_position(void **state)
{
    static const int32_t output[] = {1, 2, 1, 7, 1, 3};
    float x[VOCAB];
    struct sample_params p = plain(0.7f);
    (void)state;
    some_logits(x);
    p.repetition_penalty = 1.5f;
    p.frequency_penalty = 0.4f;
    p.presence_penalty = 0.2f;
    struct sampler *step = opened(p, output, 2), *all = opened(p, output, 2);
    for (int i = 0; i < 6; i++)
        sampler_push(all, output[i], 10 + i);
    assert_int_equal(draw_at(step, x, 9), draw_at(all, x, 9));
    for (int i = 0; i < 6; i++) {
        sampler_push(step, output[i], 10 + i);
        for (int seed = 0; seed < 50; seed++) {
            float y[VOCAB];
            for (int c = 0; c < VOCAB; c++)
                y[c] = x[c] + sinf((float)(seed * c));
            assert_int_equal(draw_at(step, y, 10 + i), draw_at(all, y, 10 + i));
        }
    }
    sampler_close(step);
    sampler_close(all);
}

static void negative_logits_are_penalised_downwards(void **state)
{
    static const int32_t prompt[] = {5};
    float x[VOCAB];
    struct sample_params p = plain(0);
    (void)state;
    for (int i = 0; i < VOCAB; i++)
        x[i] = -10;
    x[5] = -1;
    x[6] = -1.5f;
    p.repetition_penalty = 2;
    struct sampler *s = opened(p, prompt, 1);
    assert_int_equal(draw_at(s, x, 0), 6);
    sampler_close(s);
}

static void end_tokens_wait_for_min_tokens(void **state)
{
    static const int32_t end[] = {8};
    float x[VOCAB] = {0};
    struct sample_params p = plain(0);
    (void)state;
    x[8] = 9;
    x[2] = 1;
    p.end = end;
    p.n_end = 1;
    p.min_tokens = 2;
    struct sampler *s = opened(p, NULL, 0);
    assert_int_equal(draw_at(s, x, 0), 2);
    sampler_push(s, 2, 1);
    assert_int_equal(draw_at(s, x, 1), 2);
    assert_false(sampler_is_argmax(s, 1));
    sampler_push(s, 2, 2);
    assert_true(sampler_is_argmax(s, 2));
    assert_int_equal(draw_at(s, x, 2), 8);
    assert_int_equal(draw_at(s, x, 1), 2); /* as it was one token ago */
    sampler_close(s);
}

static void bad_parameters_are_refused(void **state)
{
    static const struct token_bias bias[] = {{VOCAB, 1}};
    static const int32_t prompt[] = {-1};
    struct sample_params bad[6];
    struct sampler *s = NULL;
    struct why why;
    (void)state;
    for (int i = 0; i < 6; i++)
        bad[i] = plain(1);
    bad[0].temperature = -1;
    bad[1].temperature = NAN;
    bad[2].top_p = 0;
    bad[3].min_p = 2;
    bad[4].repetition_penalty = 0;
    bad[5].bias = bias;
    bad[5].n_bias = 1;
    for (int i = 0; i < 6; i++)
        assert_int_equal(sampler_open(&bad[i], NULL, 0, VOCAB, 64, &s, &why), ERR_INVAL);
    bad[0] = plain(1);
    assert_int_equal(sampler_open(&bad[0], prompt, 1, VOCAB, 64, &s, &why), ERR_INVAL);
    assert_null(s);
}

/* Known answers of the generator's authors, so that journaled seeds keep their meaning. */
static void philox_known_answers(void **state)
{
    static const uint32_t zero[4] = {0}, ones[4] = {~0u, ~0u, ~0u, ~0u};
    static const uint32_t want_zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    static const uint32_t want_ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    uint32_t out[4];
    (void)state;
    rng_block(zero, zero, out);
    assert_memory_equal(out, want_zero, sizeof out);
    rng_block(ones, ones, out);
    assert_memory_equal(out, want_ones, sizeof out);
    for (uint32_t i = 0; i < 1000; i++)
        assert_true(rng_uniform(3, 0, i) >= 0 && rng_uniform(3, 0, i) < 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_temperature),
        cmocka_unit_test(truncations_keep_the_most_likely),
        cmocka_unit_test(min_p_is_relative_to_the_best),
        cmocka_unit_test(equal_logits_are_cut_by_id),
        cmocka_unit_test(greedy_takes_the_lowest_id_and_never_a_nan),
        cmocka_unit_test(a_position_always_draws_the_same),
        cmocka_unit_test(penalties_and_biases),
        cmocka_unit_test(draws_are_as_of_their_position),
        cmocka_unit_test(negative_logits_are_penalised_downwards),
        cmocka_unit_test(end_tokens_wait_for_min_tokens),
        cmocka_unit_test(bad_parameters_are_refused),
        cmocka_unit_test(philox_known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
