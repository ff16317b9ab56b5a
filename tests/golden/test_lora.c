/* test_lora.c - adapters against the same model with the adapter merged into it.
 *
 * The conformance set has PEFT adapters and what transformers computes with
 * W + scale * B A in f32. An adapter must fit the model in both of its formats (GGUF
 * rotates Llama's heads in another order), on any number of stages with the same
 * bits, and in a batch with other adapters and none exactly as alone.
 *
 * Tolerance: 2e-4 + 1e-4 |x|. Both sides sum in f32, and the merged weights round
 * once more.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/cpu.h"
#include "driver.h"
#include "json_ids.h"

enum { MAX_IDS = 256, N_GREEDY = 8 };

/* Model, its GGUF twin, adapter. */
static const struct {
    const char *model, *gguf, *adapter;
} cases[] = {
    {"models/llama2-mha", "gguf/llama2-mha.f16.gguf", "llama2-mha-r8"},
    {"models/qwen2", "gguf/qwen2.f16.gguf", "qwen2-r4-rslora"},
};

static struct chain_options options(int stages, const char *adapter)
{
    return (struct chain_options){.stages = stages,
                                  .threads = 2,
                                  .max_rows = 160,
                                  .isa = cpu_isa(),
                                  .precision = PREC_EXACT,
                                  .kv_type = KV_F32,
                                  .adapters = {adapter}};
}

/* Logits after the last of the ids, alone in a step. */
static void last_logits(struct chain *c, int seq, const int32_t *ids, int n, float *out)
{
    for (int i = 0; i < n; i++)
        chain_row(c, seq, ids[i], i, i == n - 1 ? ROW_SAMPLE : 0, -1);
    chain_run(c);
    chain_logits(c, n - 1, out);
}

static double check_case(struct chain *c, const char *dir, const json_t *value)
{
    int32_t ids[MAX_IDS], want_ids[64];
    int n = ids_of(json_object_get(value, "ids"), ids, MAX_IDS), vocab = c->hp->n_vocab;
    const json_t *spec = json_object_get(value, "logits"), *greedy = json_object_get(value, "greedy");
    int rows = strcmp(json_string_value(json_object_get(spec, "positions")), "all") == 0 ? n : 1;
    float *want = calloc((size_t)rows * (size_t)vocab, sizeof *want), *got = calloc((size_t)vocab, sizeof *got);
    FILE *f = fopen(path_of("%s/%s", dir, json_string_value(json_object_get(spec, "file"))).text, "rb");
    double worst = 0;

    assert_true(want && got && f);
    assert_int_equal(fread(want, sizeof *want, (size_t)rows * (size_t)vocab, f), (size_t)rows * (size_t)vocab);
    fclose(f);
    chain_slot(c, 0, NULL);
    last_logits(c, 0, ids, n, got);
    for (int i = 0; i < rows; i++) {
        chain_logits(c, n - rows + i, got);
        for (int j = 0; j < vocab; j++) {
            double x = want[(size_t)i * (size_t)vocab + (size_t)j], d = fabs(got[j] - x) - 1e-4 * fabs(x);
            worst = d > worst || isnan(d) ? d : worst;
        }
    }
    ids_of(json_object_get(greedy, "ids"), want_ids, MAX_IDS);
    int steps = (int)json_integer_value(json_object_get(greedy, "safe_steps"));
    chain_slot(c, 0, NULL);
    int32_t token = chain_prompt(c, 0, ids, n, 0, NULL, NULL);
    for (int i = 0; i < steps; i++) {
        assert_int_equal(token, want_ids[i]);
        token = chain_next(c, 0, want_ids[i], n + i, NULL);
    }
    free(want);
    free(got);
    return worst;
}

static void check_model(const char *model, const char *adapter, const char *dir, int stages)
{
    struct chain c;
    struct chain_options o = options(stages, adapter);
    const char *name;
    json_t *value, *root = json_load_file(path_of("%s/expected.json", dir).text, JSON_ALLOW_NUL, NULL);
    double worst = 0;
    assert_non_null(root);
    chain_open(&c, model, &o);
    c.adapter[0] = 1;
    json_object_foreach(json_object_get(root, "cases"), name, value)
    {
        double d = check_case(&c, dir, value);
        worst = d > worst || isnan(d) ? d : worst;
    }
    chain_close(&c);
    json_decref(root);
    printf("%s, %d stages: %.3g\n", model, stages, worst);
    assert_true(worst <= 2e-4);
}

static void adapters_equal_the_merged_model(void **state)
{
    const char *root = golden_dir();
    (void)state;
    if (!root)
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct path adapter = path_of("%s/golden/lora/%s", root, cases[i].adapter);
        struct path dir = path_of("%s/golden/golden/lora-%s", root, cases[i].adapter);
        for (int stages = 1; stages <= 3; stages++)
            check_model(path_of("%s/golden/%s", root, cases[i].model).text, adapter.text, dir.text, stages);
        check_model(path_of("%s/golden/%s", root, cases[i].gguf).text, adapter.text, dir.text, 2);
    }
}

/* Prompt, then some tokens; everything that was computed, appended to `trace`. */
struct stream {
    int seq;
    int32_t next;
    int pos;
    float *trace; /* [N_GREEDY + 1][n_vocab] */
    int n;
};

static void stream_begin(struct chain *c, struct stream *s, const int32_t *ids, int n)
{
    chain_slot(c, s->seq, NULL);
    s->next = chain_prompt(c, s->seq, ids, n, 0, NULL, NULL);
    s->pos = n;
}

/* One generated row of each stream in one step. */
static void streams_step(struct chain *c, struct stream *s, int n)
{
    size_t vocab = (size_t)c->hp->n_vocab;
    for (int i = 0; i < n; i++)
        chain_row(c, s[i].seq, s[i].next, s[i].pos, ROW_GENERATED | ROW_SAMPLE, -1);
    chain_run(c);
    for (int i = 0; i < n; i++) {
        chain_logits(c, i, s[i].trace + (size_t)s[i].n++ * vocab);
        s[i].next = c->results[i].token;
        s[i].pos++;
    }
}

/* Two adapters (one of them by two names) and none, alternating in one batch; stages
 * and threads change no bits either. */
static void batches_change_no_bits(void **state)
{
    enum { N = 5 };
    static const uint32_t adapter[N] = {1, 0, 2, 1, 0};
    static const int32_t ids[] = {1, 5, 17, 33, 2, 90, 41, 7, 7, 60};
    const char *root = golden_dir();
    struct stream together[N], alone[N];
    float *first[N] = {NULL}; /* what the first of all runs computed */
    struct chain c;
    (void)state;
    if (!root)
        skip();
    struct path model = path_of("%s/golden/models/llama2-mha", root);
    struct path path = path_of("%s/golden/lora/llama2-mha-r8", root);
    struct path same = path_of("%s/golden/lora/../lora/llama2-mha-r8", root);
    for (int stages = 1; stages <= 3; stages++)
        for (int threads = 1; threads <= 3; threads += 2) {
            struct chain_options o = options(stages, path.text);
            o.adapters[1] = same.text;
            o.threads = threads;
            chain_open(&c, model.text, &o);
            size_t bytes = (size_t)c.hp->n_vocab * N_GREEDY * sizeof(float);
            memcpy(c.adapter, adapter, sizeof adapter);
            for (int i = 0; i < N; i++) {
                alone[i] = (struct stream){.seq = i, .trace = malloc(bytes)};
                together[i] = (struct stream){.seq = i, .trace = malloc(bytes)};
                stream_begin(&c, &alone[i], ids + i, 6);
                for (int k = 0; k < N_GREEDY; k++)
                    streams_step(&c, &alone[i], 1);
            }
            for (int i = 0; i < N; i++)
                stream_begin(&c, &together[i], ids + i, 6);
            for (int k = 0; k < N_GREEDY; k++)
                streams_step(&c, together, N);
            for (int i = 0; i < N; i++) {
                if (!first[i]) {
                    first[i] = malloc(bytes);
                    memcpy(first[i], alone[i].trace, bytes);
                }
                assert_memory_equal(alone[i].trace, together[i].trace, bytes);
                assert_memory_equal(alone[i].trace, first[i], bytes);
                free(alone[i].trace);
                free(together[i].trace);
            }
            chain_close(&c);
        }
    for (int i = 0; i < N; i++)
        free(first[i]);
}

/* The same prompt must differ between the model and the model with its adapter. */
static void no_adapter_is_the_base(void **state)
{
    static const int32_t ids[] = {1, 5, 17, 33};
    const char *root = golden_dir();
    struct chain c, bare;
    (void)state;
    if (!root)
        skip();
    struct path model = path_of("%s/golden/models/qwen2", root);
    struct path path = path_of("%s/golden/lora/qwen2-r4-rslora", root);
    struct chain_options o = options(2, path.text), none = options(2, NULL);
    chain_open(&c, model.text, &o);
    chain_open(&bare, model.text, &none);
    size_t n = (size_t)c.hp->n_vocab;
    float *with = malloc(n * sizeof *with), *without = malloc(n * sizeof *with), *base = malloc(n * sizeof *with);
    c.adapter[1] = 1;
    for (int i = 0; i < 2; i++)
        chain_slot(&c, i, NULL);
    chain_slot(&bare, 0, NULL);
    last_logits(&c, 0, ids, 4, without);
    last_logits(&c, 1, ids, 4, with);
    last_logits(&bare, 0, ids, 4, base);
    assert_memory_equal(without, base, n * sizeof *with);
    assert_memory_not_equal(with, base, n * sizeof *with);
    free(with);
    free(without);
    free(base);
    chain_close(&c);
    chain_close(&bare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_equal_the_merged_model),
        cmocka_unit_test(batches_change_no_bits),
        cmocka_unit_test(no_adapter_is_the_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
