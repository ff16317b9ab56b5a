/* test_no_alloc.c - a step of a stage allocates nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "shard/stage.h"
#include "tests/unit/count_alloc.h"

enum { ROWS = 16, STREAMS = 2, PAGES = 4, STEPS = 20 };

static void step(struct stage *s, struct batch_row *rows, int n, int n_gen, struct batch_seq *seqs)
{
    struct why why = {""};
    struct row_result results[ROWS];
    int n_results = 0;
    struct batch b = {.n_rows = n, .n_gen = n_gen, .n_seqs = STREAMS, .rows = rows, .seqs = seqs};
    count_alloc_watch(true);
    err e = stage_step(s, &b, NULL, NULL, results, &n_results, &why);
    count_alloc_watch(false);
    if (e != ERR_OK)
        fail_msg("%s", why.text);
}

/* A prompt and some tokens of two streams: one takes the best, the other draws. */
static void run_model(const char *root, const char *name, enum precision precision)
{
    char path[512];
    struct why why = {""};
    struct source *src;
    struct kernels k;
    struct pool *pool;
    struct stage *s;
    uint32_t pages[STREAMS * PAGES];
    struct batch_seq seqs[STREAMS];
    struct batch_row rows[ROWS];
    struct stage_limits lim = {.max_rows = ROWS,
                               .max_slots = STREAMS,
                               .max_context = PAGES * KV_PAGE,
                               .n_pages = STREAMS * PAGES,
                               .kv_type = KV_F16};
    struct sample_params params[STREAMS] = {
        {.top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_k = 20, .top_p = 0.9f, .repetition_penalty = 1.1f, .seed = 1}};

    snprintf(path, sizeof path, "%s/%s", root, name);
    kernels_init(&k, cpu_isa(), precision);
    assert_int_equal(source_open(path, &src, &why), ERR_OK);
    assert_int_equal(pool_open(3, &pool, &why), ERR_OK);
    struct stage_range all = {.last = source_hparams(src)->n_layer, .embed = true, .head = true};
    assert_int_equal(stage_open(src, all, &lim, &k, pool, &s, &why), ERR_OK);
    for (uint32_t i = 0; i < STREAMS * PAGES; i++)
        pages[i] = i;
    for (uint32_t q = 0; q < STREAMS; q++) {
        seqs[q] = (struct batch_seq){.slot = q, .n_pages = PAGES, .pages = pages + q * PAGES};
        assert_int_equal(stage_slot_open(s, q, &params[q], NULL, 0, &why), ERR_OK);
    }

    (void)count_alloc_take();
    for (int i = 0; i < ROWS; i++)
        rows[i] =
            (struct batch_row){.token = 5 + i, .pos = i % (ROWS / 2), .seq = (uint16_t)(i / (ROWS / 2))};
    step(s, rows, ROWS, 0, seqs);
    for (int g = 0; g < STEPS; g++) {
        for (int q = 0; q < STREAMS; q++)
            rows[q] = (struct batch_row){.token = 7 + g,
                                         .pos = ROWS / 2 + g,
                                         .seq = (uint16_t)q,
                                         .n_top = 3,
                                         .flags = ROW_GENERATED | ROW_SAMPLE};
        step(s, rows, STREAMS, STREAMS, seqs);
    }
    int n = count_alloc_take();
    if (n != 0)
        fail_msg("%s: %d allocations in %d steps", name, n, STEPS + 1);
    stage_close(s);
    pool_close(pool);
    source_close(src);
}

static void run_models(const char *variable, const char *const *models, size_t n)
{
    const char *root = getenv(variable);
    if (!COUNT_ALLOC || !root)
        skip();
    for (size_t i = 0; i < n; i++)
        for (int p = 0; p < PREC_COUNT; p++)
            run_model(root, models[i], (enum precision)p);
}

static void a_step_allocates_nothing(void **state)
{
    (void)state;
    static const char *const models[] = {"tests/golden/tiny/tiny-llama-spm.gguf",
                                         "tests/golden/tiny/tiny-gemma3-bpe.gguf"};
    run_models("CORDEE_SOURCE", models, sizeof models / sizeof *models);
}

static void nor_with_experts_or_latent_attention(void **state)
{
    (void)state;
    static const char *const models[] = {"golden/models/qwen3_moe", "golden/models/llama4-text",
                                         "golden/models/deepseek_v2"};
    run_models("CORDEE_CONFORMANCE", models, sizeof models / sizeof *models);
}

/* The counter itself: a test that cannot fail proves nothing. */
static void the_counter_counts(void **state)
{
    (void)state;
    if (!COUNT_ALLOC)
        skip();
    (void)count_alloc_take();
    count_alloc_watch(true);
    void *volatile p = malloc(100);
    free(p);
    count_alloc_watch(false);
    assert_int_equal(count_alloc_take(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counter_counts),
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(nor_with_experts_or_latent_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
