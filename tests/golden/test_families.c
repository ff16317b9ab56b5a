/* test_families.c - models of every family against Hugging Face transformers in f32.
 *
 * Every GGUF file and HF directory of the conformance set (without it: the HF
 * directories of tests/golden/reference, a part of it) that is supported runs in
 * exact precision with an f32 KV cache. Logits may differ by 1e-4 + 1e-4 |x| (both sides
 * sum in f32, in other orders; measured distances are near 1e-5), greedy tokens of
 * the safe steps must be equal, and a cut into 1, 2 and 3 stages must give the same bits.
 * The set's own README tells which files need a variant golden and why.
 */
#include <dirent.h>
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
#include "model/weights.h"

/* Goldens of what llama.cpp computes where a GGUF lost something in conversion, or
 * llama.cpp ignores it. Ours may be either: the model's own, or this one. */
static const char *const variants[][2] = {
    {"mistral-swa", "mistral-swa@nowindow"},
    {"phi3", "phi3@nowindow"},
    {"gpt_oss-mxfp4", "gpt_oss-mxfp4@yarntrunc"},
    {"deepseek_v2", "deepseek_v2@groupsum2"},
};

static float *floats_of(const char *dir, const char *file, size_t n)
{
    float *x = malloc(n * sizeof *x);
    FILE *f = fopen(path_of("%s/%s", dir, file).text, "rb");
    assert_non_null(f);
    assert_int_equal(fread(x, sizeof *x, n, f), n);
    fclose(f);
    return x;
}

struct worst {
    double logit, logprob;
    double most, sum; /* of |difference| over all logits compared, and how many */
    size_t n;
    int bad_greedy, cases;
    uint64_t bits; /* of all logits and tokens, mixed: equal for every number of stages */
    bool same_bits;
};

static void mix_bits(struct worst *w, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        w->bits = (w->bits ^ p[i]) * 0x100000001b3u;
}

/* Largest excess over the tolerance's relative part. */
static double distance(const float *got, const float *want, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]) - 1e-4 * fabs((double)want[i]);
        most = d > most || isnan(d) ? d : most;
    }
    return most;
}

static void count_differences(struct worst *w, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        w->most = d > w->most ? d : w->most;
        w->sum += d;
    }
    w->n += n;
}

/* Logits of the wanted positions; the whole prompt in one step of at most max_rows. */
static void check_logits(struct chain *c, const char *dir, const json_t *spec, const int32_t *ids, int n,
                         struct worst *w)
{
    size_t vocab = (size_t)c->hp->n_vocab;
    bool all = strcmp(json_string_value(json_object_get(spec, "positions")), "all") == 0;
    float *want =
        floats_of(dir, json_string_value(json_object_get(spec, "file")), (all ? (size_t)n : 1) * vocab);
    float *got = malloc(vocab * sizeof *got);
    for (int i = 0; i < n; i++)
        chain_row(c, 0, ids[i], i, i == n - 1 ? ROW_SAMPLE : 0, -1);
    chain_run(c);
    for (int i = all ? 0 : n - 1; i < n; i++) {
        chain_logits(c, i, got);
        mix_bits(w, got, vocab * sizeof *got);
        double d = distance(got, want + (all ? (size_t)i * vocab : 0), vocab);
        count_differences(w, got, want + (all ? (size_t)i * vocab : 0), vocab);
        w->logit = d > w->logit || isnan(d) ? d : w->logit;
    }
    free(want);
    free(got);
}

static void check_greedy(struct chain *c, const json_t *greedy, const int32_t *ids, int n,
                         const json_t *prices, struct worst *w)
{
    int32_t want[64];
    float logprobs[256];
    const json_t *safe = json_object_get(greedy, "safe_steps");
    int n_want = ids_of(json_object_get(greedy, "ids"), want, 64),
        steps = safe ? (int)json_integer_value(safe) : n_want;
    chain_slot(c, 0, NULL);
    int32_t token = chain_prompt(c, 0, ids, n, 0, logprobs, NULL);
    for (int i = 1; i < n; i++) {
        double d = fabs((double)logprobs[i] - json_real_value(json_array_get(prices, (size_t)i)));
        w->logprob = d > w->logprob || isnan(d) ? d : w->logprob;
    }
    for (int i = 0; i < steps; i++) {
        w->bad_greedy += token != want[i];
        mix_bits(w, &token, sizeof token);
        token = chain_next(c, 0, want[i], n + i, NULL);
    }
}

static struct worst run_cut(const char *gguf, const char *dir, int stages)
{
    struct chain c;
    struct chain_options o = {.stages = stages,
                              .threads = 2,
                              .max_rows = 160,
                              .isa = cpu_isa(),
                              .precision = PREC_EXACT,
                              .kv_type = KV_F32};
    struct worst w = {0};
    const char *name;
    json_t *value;
    json_t *root = json_load_file(path_of("%s/expected.json", dir).text, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    chain_open(&c, gguf, &o);
    json_object_foreach(json_object_get(root, "cases"), name, value)
    {
        int32_t ids[256];
        int n = ids_of(json_object_get(value, "ids"), ids, 256);
        chain_slot(&c, 0, NULL);
        check_logits(&c, dir, json_object_get(value, "logits"), ids, n, &w);
        check_greedy(&c, json_object_get(value, "greedy"), ids, n, json_object_get(value, "prompt_logprobs"),
                     &w);
        w.cases++;
    }
    chain_close(&c);
    json_decref(root);
    return w;
}

static struct worst run_model(const char *gguf, const char *dir)
{
    struct worst w = run_cut(gguf, dir, 2);
    w.same_bits = true;
    for (int stages = 1; stages <= 3; stages += 2)
        w.same_bits = w.same_bits && run_cut(gguf, dir, stages).bits == w.bits;
    return w;
}

/* "llama31-gqa.bf16.gguf" -> golden/llama31-gqa, "llama2-mha.Q4_0.gguf" ->
 * golden/gguf-llama2-mha.Q4_0; *variant, if there is one, else empty. */
static void goldens_of(const char *root, const char *file, struct path *dir, struct path *variant)
{
    struct path base = path_of("%.*s", (int)(strlen(file) - strlen(".gguf")), file);
    *variant = path_of("%s", "");
    *dir = path_of("%s/golden/golden/gguf-%s", root, base.text);
    if (access(dir->text, R_OK) == 0)
        return;
    *strrchr(base.text, '.') = 0;
    *dir = path_of("%s/golden/golden/%s", root, base.text);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if (strcmp(base.text, variants[i][0]) == 0)
            *variant = path_of("%s/golden/golden/%s", root, variants[i][1]);
}

static bool runnable(const char *path)
{
    struct source *src;
    struct why why;
    if (source_open(path, &src, &why) != ERR_OK) {
        print_message("  not run: %s\n", why.text);
        return false;
    }
    struct weights *w = NULL;
    err e = weights_open(src, (struct weight_range){0, source_hparams(src)->n_layer, true, true}, &w, &why);
    bool ok = e == ERR_OK && source_hparams(src)->causal;
    if (e != ERR_OK)
        print_message("  not run: %s\n", why.text);
    weights_close(w);
    source_close(src);
    return ok;
}

static bool is_good(const struct worst *w)
{
    return w->logit <= 1e-4 && w->logprob <= 3e-4 && w->bad_greedy == 0 && w->same_bits;
}

static FILE *table; /* docs/families.md when CORDEE_FAMILIES_TABLE names it, else NULL */

static void table_open(void)
{
    const char *path = getenv("CORDEE_FAMILIES_TABLE");

    table = path ? fopen(path, "w") : NULL;
    if (table)
        fputs("# Families against Hugging Face transformers\n\n"
              "Written by `CORDEE_FAMILIES_TABLE=docs/families.md golden_test_families` over the whole "
              "conformance set:\n"
              "tiny random models, exact precision, f32 KV cache. Differences are of logits (encoders: of "
              "hidden states),\n"
              "whose standard deviation is about 2. Greedy misses count the tokens, of all that are decided "
              "by more than\n"
              "1e-3, that differ. The last column compares all logits and tokens of 1, 2 and 3 stages. What "
              "formats are read\n"
              "is in formats.md.\n\n"
              "| model | family | values compared | largest difference | mean difference | greedy misses | "
              "1, 2, 3 stages |\n"
              "|---|---|---|---|---|---|---|\n",
              table);
}

static void table_row(const char *label, const char *model, const struct worst *w)
{
    struct source *src;

    if (!table || source_open(model, &src, NULL))
        return;
    fprintf(table, "| %s | %s | %zu | %.1e | %.1e | %d | %s |\n", label, source_arch(src)->name, w->n,
            w->most, w->n ? w->sum / (double)w->n : 0, w->bad_greedy, w->same_bits ? "same bits" : "differ");
    source_close(src);
}

/* Runs one model against its golden, or else the variant. Returns 1 for a failure. */
static int check_model(const char *label, const char *model, const char *dir, const char *variant)
{
    struct worst w = run_model(model, dir);
    const char *which = "";
    if (!is_good(&w) && *variant) {
        w = run_model(model, variant);
        which = strrchr(variant, '@');
    }
    table_row(path_of("%s%s", label, which).text, model, &w);
    print_message("  %-32s logits %.1e  logprobs %.1e  greedy misses %d %s%s%s\n", label, w.logit, w.logprob,
                  w.bad_greedy, which, w.same_bits ? "" : " OTHER BITS", is_good(&w) ? "" : "   <-- BAD");
    return !is_good(&w);
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* An encoder: the whole text in one step, final hidden states against last_hidden. */
static struct worst encoder_run(const char *model, const char *dir, int stages)
{
    struct chain c;
    struct chain_options o = {.stages = stages,
                              .threads = 2,
                              .max_rows = 256,
                              .isa = cpu_isa(),
                              .precision = PREC_EXACT,
                              .kv_type = KV_F32};
    const char *name;
    json_t *value, *root = json_load_file(path_of("%s/expected.json", dir).text, JSON_ALLOW_NUL, NULL);
    struct worst w = {.same_bits = true};
    assert_non_null(root);
    chain_open(&c, model, &o);
    size_t n_embd = (size_t)c.hp->n_embd;
    float *got = malloc(n_embd * sizeof *got);
    json_object_foreach(json_object_get(root, "cases"), name, value)
    {
        int32_t ids[256];
        int n = ids_of(json_object_get(value, "ids"), ids, 256);
        const char *file = json_string_value(json_object_get(json_object_get(value, "last_hidden"), "file"));
        float *want = floats_of(dir, file, (size_t)n * n_embd);
        for (int i = 0; i < n; i++)
            chain_row(&c, 0, ids[i], i, 0, -1);
        chain_run(&c);
        for (int i = 0; i < n; i++) {
            stage_hidden(c.stages[o.stages - 1], i, got);
            mix_bits(&w, got, n_embd * sizeof *got);
            double d = distance(got, want + (size_t)i * n_embd, n_embd);
            count_differences(&w, got, want + (size_t)i * n_embd, n_embd);
            w.logit = d > w.logit || isnan(d) ? d : w.logit;
        }
        free(want);
    }
    free(got);
    chain_close(&c);
    json_decref(root);
    return w;
}

static void encoders_equal_transformers(void **state)
{
    (void)state;
    if (!golden_dir())
        skip();
    const char *models[] = {"models/bert", "gguf/bert.f16.gguf"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct path model = path_of("%s/golden/%s", golden_dir(), models[i]),
                    dir = path_of("%s/golden/golden/bert", golden_dir());
        struct worst w = encoder_run(model.text, dir.text, 2);
        for (int stages = 1; stages <= 3; stages += 2)
            w.same_bits = w.same_bits && encoder_run(model.text, dir.text, stages).bits == w.bits;
        table_row(strrchr(models[i], '/') + 1, model.text, &w);
        print_message("  %-32s hidden %.1e\n", models[i], w.logit);
        assert_true(w.logit <= 1e-4 && w.same_bits);
    }
}

/* Every entry of `folder` that CORDEE_GOLDEN_ONLY lets through. */
static void check_folder(const char *root, const char *folder, bool gguf)
{
    const char *only = getenv("CORDEE_GOLDEN_ONLY");
    int n_run = 0, n_bad = 0;
    struct path models = path_of("%s/golden/%s", root, folder);
    struct dirent **names;
    int n_names = scandir(models.text, &names, NULL, alphasort);
    assert_true(n_names > 0);
    for (int i = 0; i < n_names; i++) {
        const struct dirent *f = names[i];
        if (f->d_name[0] == '.' || (only && !strstr(f->d_name, only)) || ends_in(f->d_name, ".gguf") != gguf)
            continue;
        struct path model = path_of("%s/%s", models.text, f->d_name), variant = path_of("%s", "");
        struct path dir = path_of("%s/golden/golden/%s", root, f->d_name);
        if (gguf)
            goldens_of(root, f->d_name, &dir, &variant);
        if (access(dir.text, R_OK) != 0 || !runnable(model.text))
            continue;
        n_bad += check_model(f->d_name, model.text, dir.text, variant.text);
        n_run++;
    }
    for (int i = 0; i < n_names; i++)
        free(names[i]);
    free(names);
    print_message("  %d models\n", n_run);
    assert_true(n_run > 0 || only);
    assert_int_equal(n_bad, 0);
}

static void gguf_equals_transformers(void **state)
{
    (void)state;
    if (!golden_dir())
        skip();
    check_folder(golden_dir(), "gguf", true);
}

static void hf_equals_transformers(void **state)
{
    const char *root = golden_dir(), *source = getenv("CORDEE_SOURCE");
    (void)state;
    if (!root && !source)
        skip();
    check_folder(root ? root : path_of("%s/tests/golden/reference", source).text, "models", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gguf_equals_transformers),
                                       cmocka_unit_test(hf_equals_transformers),
                                       cmocka_unit_test(encoders_equal_transformers)};
    table_open();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (table)
        fclose(table);
    return failed;
}
