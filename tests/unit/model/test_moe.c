/* test_moe.c - which experts a row goes to, and with what weights. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model/moe.h"

static struct hparams eight(int used)
{
    return (struct hparams){.n_expert = 8, .n_expert_used = used, .moe_weight_scale = 1};
}

static void near(float a, double b)
{
    assert_true(fabs((double)a - b) < 1e-6);
}

static void softmax_over_all_or_over_the_chosen(void **state)
{
    const float logits[8] = {0, 3, 0, 0, 2, 0, 0, 0};
    float scores[8], weight[2];
    int expert[2];
    struct hparams hp = eight(2);
    double all = exp(3) + exp(2) + 6;
    (void)state;
    for (int i = 0; i < 8; i++)
        scores[i] = logits[i];
    hp.moe_gate = MOE_SOFTMAX;
    moe_choose(&hp, scores, NULL, expert, weight);
    assert_int_equal(expert[0], 1);
    assert_int_equal(expert[1], 4);
    near(weight[0], exp(3) / all);
    near(weight[1], exp(2) / all);

    for (int i = 0; i < 8; i++)
        scores[i] = logits[i];
    hp.moe_norm_weights = true;
    hp.moe_weight_scale = 2.5f;
    moe_choose(&hp, scores, NULL, expert, weight);
    near(weight[0], 2.5 * exp(3) / (exp(3) + exp(2)));

    for (int i = 0; i < 8; i++)
        scores[i] = logits[i];
    hp = eight(2);
    hp.moe_gate = MOE_SOFTMAX_TOPK;
    moe_choose(&hp, scores, NULL, expert, weight);
    near(weight[0] + weight[1], 1);
    near(weight[1], exp(2) / (exp(3) + exp(2)));
}

static void experts_come_out_ascending_and_ties_go_to_the_lower(void **state)
{
    float scores[8] = {1, 5, 1, 9, 1, 1, 7, 1}, weight[4];
    int expert[4];
    struct hparams hp = eight(4);
    (void)state;
    hp.moe_gate = MOE_SIGMOID;
    moe_choose(&hp, scores, NULL, expert, weight);
    assert_int_equal(expert[0], 0);
    assert_int_equal(expert[1], 1);
    assert_int_equal(expert[2], 3);
    assert_int_equal(expert[3], 6);
    near(weight[2], 1 / (1 + exp(-9)));
}

static void a_bias_chooses_but_does_not_weigh(void **state)
{
    float scores[8] = {2, 1, 0, 0, 0, 0, 0, 0}, weight[1];
    const float bias[8] = {0, 0, 0, 0, 0, 3, 0, 0};
    int expert[1];
    struct hparams hp = eight(1);
    (void)state;
    hp.moe_gate = MOE_SIGMOID;
    moe_choose(&hp, scores, bias, expert, weight);
    assert_int_equal(expert[0], 5);
    near(weight[0], 0.5);
}

static void groups_are_scored_by_their_best_or_their_two_best(void **state)
{
    const float logits[8] = {5, -9, /**/ 3, 3, /**/ 0, 0, /**/ -1, -1};
    float scores[8], weight[2];
    int expert[2];
    struct hparams hp = eight(2);
    (void)state;
    hp.moe_gate = MOE_SOFTMAX_TOPK; /* raw scores are compared */
    hp.n_expert_groups = 4;
    hp.n_expert_groups_used = 1;
    for (int i = 0; i < 8; i++)
        scores[i] = logits[i];
    moe_choose(&hp, scores, NULL, expert, weight);
    assert_int_equal(expert[0], 0);
    assert_int_equal(expert[1], 1);
    hp.moe_group_by_sum2 = true;
    moe_choose(&hp, scores, NULL, expert, weight);
    assert_int_equal(expert[0], 2);
    assert_int_equal(expert[1], 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_over_all_or_over_the_chosen),
        cmocka_unit_test(experts_come_out_ascending_and_ties_go_to_the_lower),
        cmocka_unit_test(a_bias_chooses_but_does_not_weigh),
        cmocka_unit_test(groups_are_scored_by_their_best_or_their_two_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
