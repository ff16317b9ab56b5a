/* test_default_model.c - Gemma 3 270M Q4_K_M against transformers on its
 * dequantised weights (gemma-3-270m.json).
 *
 * Mean absolute difference of prompt log-probabilities: 0.005 in exact precision
 * (f32 sums in another order; measured near 1e-5), 0.07 in fast (activations as
 * int8 blocks or, on AMX, activations and weights as bf16; llama.cpp is 0.072 away on the same file). Greedy tokens in exact
 * are equal up to the first step whose two best logits are closer than 0.01.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/cpu.h"
#include "driver.h"
#include "json_ids.h"

enum { MAX_IDS = 512 };

struct totals {
    double sum, most;
    int n, greedy_checked, greedy_wrong;
};

/* generate: greedy tokens too. */
static void run_case(struct chain *c, const json_t *value, bool generate, struct totals *t)
{
    int32_t ids[MAX_IDS], greedy[MAX_IDS];
    float logprobs[MAX_IDS];
    int n = ids_of(json_object_get(value, "ids"), ids, MAX_IDS),
        n_greedy = ids_of(json_object_get(value, "greedy"), greedy, MAX_IDS);
    const json_t *want = json_object_get(value, "prompt_logprobs"), *gap = json_object_get(value, "gap");

    chain_slot(c, 0, NULL);
    int32_t token = chain_prompt(c, 0, ids, n, 0, logprobs, NULL);
    for (int i = 1; i < n; i++) {
        double d = fabs((double)logprobs[i] - json_real_value(json_array_get(want, (size_t)i)));
        t->sum += d;
        t->most = d > t->most ? d : t->most;
        t->n++;
    }
    for (int i = 0; generate && i < n_greedy && json_real_value(json_array_get(gap, (size_t)i)) >= 0.01; i++) {
        t->greedy_checked++;
        t->greedy_wrong += token != greedy[i];
        token = chain_next(c, 0, greedy[i], n + i, NULL);
    }
}

/* emulate_tiles: prompts only, because a tile in plain C takes its time. */
static struct totals run_all(enum precision precision, enum kv_type kv, bool emulate_tiles)
{
    struct chain c;
    struct chain_options o = {.stages = 3,
                              .threads = 2,
                              .max_rows = 256,
                              .isa = cpu_isa(),
                              .precision = precision,
                              .kv_type = kv,
                              .emulate_tiles = emulate_tiles};
    struct totals t = {0};
    const char *name;
    chain_open(&c, golden_model(), &o);
    json_t *value, *root = json_load_file(path_of("%s/golden/gemma-3-270m.json", golden_dir()).text, 0, NULL);
    assert_non_null(root);
    json_object_foreach(json_object_get(root, "cases"), name, value) run_case(&c, value, !emulate_tiles, &t);
    chain_close(&c);
    json_decref(root);
    print_message("  %s, kv %s: mean |difference| %.5f, most %.5f over %d; greedy %d of %d differ\n",
                  emulate_tiles              ? "fast with tiles"
                  : precision == PREC_EXACT ? "exact"
                                            : "fast",
                  kv_type_name(kv), t.sum / t.n, t.most, t.n, t.greedy_wrong, t.greedy_checked);
    return t;
}

static void exact_equals_transformers(void **state)
{
    (void)state;
    if (!golden_dir() || !golden_model())
        skip();
    struct totals t = run_all(PREC_EXACT, KV_F32, false);
    assert_true(t.sum / t.n <= 0.005);
    assert_int_equal(t.greedy_wrong, 0);
}

static void fast_is_close(void **state)
{
    (void)state;
    if (!golden_dir() || !golden_model())
        skip();
    static const enum kv_type kv[] = {KV_F16, KV_BF16, KV_Q8_0}; /* each has arithmetic of its own */
    for (size_t i = 0; i < sizeof kv / sizeof *kv; i++) {
        struct totals t = run_all(PREC_FAST, kv[i], false);
        assert_true(t.sum / t.n <= 0.07);
    }
}

/* The kernels of AMX, which this machine need not have: tests/tools/emulated_tiles.h.
 * Unoptimised, as sanitizers want it, that would take an hour. */
static void fast_with_tiles_is_close(void **state)
{
    (void)state;
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
    if (!golden_dir() || !golden_model())
        skip();
    struct totals t = run_all(PREC_FAST, KV_F16, true);
    assert_true(t.sum / t.n <= 0.07);
#else
    skip();
#endif
}

/* More sampled rows than whole rows of logits are kept for: the head works in
 * slices, and every row still draws what it drew alone. */
static void sampled_rows_replayed_together_draw_the_same(void **state)
{
    enum { PROMPT = 9, DRAWN = 40 };
    struct chain c;
    struct chain_options o = {.threads = 2, .isa = cpu_isa(), .precision = PREC_FAST, .kv_type = KV_F16};
    struct sample_params p = {.temperature = 1,
                              .top_p = 0.9f,
                              .top_k = 1000,
                              .repetition_penalty = 1.1f,
                              .frequency_penalty = 0.2f,
                              .seed = 11};
    int32_t ids[PROMPT] = {2, 818, 5279, 529, 7001, 563, 1234, 99, 4000}, token[DRAWN];
    float logprob[DRAWN];
    (void)state;
    if (!golden_model())
        skip();
    chain_open(&c, golden_model(), &o);
    chain_slot(&c, 0, &p);
    token[0] = chain_prompt(&c, 0, ids, PROMPT, 0, NULL, &logprob[0]);
    for (int i = 1; i < DRAWN; i++)
        token[i] = chain_next(&c, 0, token[i - 1], PROMPT + i - 1, &logprob[i]);

    chain_slot(&c, 0, &p);
    for (int i = 1; i < DRAWN; i++)
        chain_row(&c, 0, token[i - 1], PROMPT + i - 1, ROW_GENERATED | ROW_SAMPLE, -1);
    chain_run(&c);
    assert_int_equal(c.n_results, DRAWN - 1);
    for (int i = 1; i < DRAWN; i++) {
        assert_int_equal(c.results[i - 1].token, token[i]);
        assert_memory_equal(&c.results[i - 1].logprob, &logprob[i], sizeof *logprob);
    }
    chain_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact_equals_transformers),
                                       cmocka_unit_test(fast_is_close),
                                       cmocka_unit_test(fast_with_tiles_is_close),
                                       cmocka_unit_test(sampled_rows_replayed_together_draw_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
