/* Adapters from memory on the tree's tiny Llama (5 layers, 64 wide, 4 heads of 16, 2 KV
 * heads): scales, the order of rows, what is refused, and damaged bytes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/lora_file.h"
#include "model/lora_reader.h"
#include "model/source.h"

enum { MAX_BYTES = 1 << 16 };
#define LAYER "base_model.model.model.layers."

static struct source *src;

static char *path_in_tree(const char *file)
{
    static char path[1024];
    const char *root = getenv("CORDEE_SOURCE");
    snprintf(path, sizeof path, "%s/%s", root ? root : ".", file);
    return path;
}

static int open_model(void **state)
{
    struct why why = {""};
    (void)state;
    if (source_open(path_in_tree("tests/golden/tiny/tiny-llama-spm.gguf"), &src, &why) == ERR_OK)
        return 0;
    print_error("%s\n", why.text);
    return 1;
}

static int close_model(void **state)
{
    (void)state;
    source_close(src);
    return 0;
}

/* A safetensors file: element i of every tensor is i / columns, the number of its row. */
static size_t make_tensors(char *out, const char *const names[], const int (*shapes)[2], int n)
{
    char head[8192] = "{";
    size_t at = 1, data = 0;
    for (int i = 0; i < n; i++) {
        size_t bytes = (size_t)shapes[i][0] * (size_t)shapes[i][1] * 4;
        at += (size_t)snprintf(head + at, sizeof head - at,
                               "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
                               i ? "," : "", names[i], shapes[i][0], shapes[i][1], data, data + bytes);
        data += bytes;
    }
    at += (size_t)snprintf(head + at, sizeof head - at, "}");
    while (at % 8)
        head[at++] = ' ';
    uint64_t len = at;
    assert_true(8 + at + data <= MAX_BYTES);
    memcpy(out, &len, 8);
    memcpy(out + 8, head, at);
    float *x = (float *)(void *)(out + 8 + at);
    for (int i = 0; i < n; i++)
        for (int r = 0; r < shapes[i][0]; r++)
            for (int c = 0; c < shapes[i][1]; c++)
                *x++ = (float)r;
    return 8 + at + data;
}

static err open_peft(const char *config, const char *const names[], const int (*shapes)[2], int n,
                     struct lora_file **out, struct why *why)
{
    static char file[MAX_BYTES] __attribute__((aligned(8)));
    struct lora_reader r;
    size_t bytes = make_tensors(file, names, shapes, n);
    err e = lora_peft_open_memory(config, strlen(config), file, bytes, "adapter", &r, why);
    return e ? e : lora_file_bind(&r, "adapter", src, out, why);
}

static const char *const pair[] = {LAYER "2.self_attn.q_proj.lora_A.weight", LAYER "2.self_attn.q_proj.lora_B.weight"};
static const int pair_shapes[][2] = {{4, 64}, {64, 4}};

static float scale_of(const char *config)
{
    struct lora_file *f;
    struct why why = {""};
    err e = open_peft(config, pair, pair_shapes, 2, &f, &why);
    if (e)
        fail_msg("%s", why.text);
    const struct lora_part *p = lora_file_part(f, W_Q, 2);
    assert_non_null(p);
    assert_null(lora_file_part(f, W_Q, 1));
    assert_null(lora_file_part(f, W_K, 2));
    float scale = p->scale;
    lora_file_close(f);
    return scale;
}

#define CONFIG(more) "{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8" more "}"

static void scales_follow_the_config(void **state)
{
    (void)state;
    assert_float_equal(scale_of(CONFIG("")), 2, 0);
    assert_float_equal(scale_of(CONFIG(",\"use_rslora\":true")), 4, 0);
    assert_float_equal(scale_of(CONFIG(",\"alpha_pattern\":{\"q_proj\":2}")), 0.5, 0);
    assert_float_equal(scale_of(CONFIG(",\"alpha_pattern\":{\"k_proj\":2,\"proj\":3}")), 2, 0); /* whole names */
    assert_float_equal(scale_of(CONFIG(",\"alpha_pattern\":{\".*proj\":4,\"q_proj\":2}")), 1, 0); /* the first */
    assert_float_equal(scale_of(CONFIG(",\"alpha_pattern\":{\"layers.[0-2].self_attn.q_proj\":4}")), 1, 0);
    assert_float_equal(scale_of(CONFIG(",\"alpha_pattern\":{\"^model.layers.2.*\":4}")), 1, 0);
    assert_float_equal(scale_of("{\"peft_type\":\"LORA\",\"r\":7,\"lora_alpha\":8,\"rank_pattern\":{\"q_proj\":4}}"),
                       2, 0);
}

/* The model's heads lie in pairs, the adapter's in halves. */
static void rows_lie_as_the_models(void **state)
{
    static const char *const names[] = {
        LAYER "0.self_attn.q_proj.lora_A.weight", LAYER "0.self_attn.q_proj.lora_B.weight",
        LAYER "0.self_attn.v_proj.lora_A.weight", LAYER "0.self_attn.v_proj.lora_B.weight"};
    static const int shapes[][2] = {{2, 64}, {64, 2}, {2, 64}, {32, 2}};
    struct lora_file *f;
    struct why why = {""};
    float row[64];
    (void)state;
    assert_int_equal(open_peft("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":2}", names, shapes, 4, &f, &why),
                     ERR_OK);
    assert_int_equal(lora_file_max_rank(f), 2);
    const struct lora_part *q = lora_file_part(f, W_Q, 0), *v = lora_file_part(f, W_V, 0);
    assert_int_equal(q->in, 64);
    assert_int_equal(q->out, 64);
    assert_int_equal(v->out, 32);
    for (int r = 0; r < 64; r++) {
        lora_part_b_row(f, q, r, row);
        int want = r / 16 * 16 + r % 2 * 8 + r % 16 / 2;
        assert_float_equal(row[1], want, 0);
    }
    for (int r = 0; r < 32; r++) {
        lora_part_b_row(f, v, r, row);
        assert_float_equal(row[0], r, 0);
    }
    lora_part_a_row(q, 1, row);
    assert_float_equal(row[63], 1, 0);
    lora_file_close(f);
}

static void expect_refusal(const char *config, const char *const names[], const int (*shapes)[2], int n, err code)
{
    struct lora_file *f = NULL;
    struct why why = {""};
    err e = open_peft(config, names, shapes, n, &f, &why);
    if (e != code)
        fail_msg("%s: %s instead of %s: %s", config, err_name(e), err_name(code), why.text);
    assert_non_null(strstr(why.text, "adapter"));
    assert_null(f);
}

static void configs_are_refused(void **state)
{
    static const struct {
        const char *config;
        err code;
    } cases[] = {
        {"", ERR_FORMAT},
        {"[]", ERR_FORMAT},
        {"{}", ERR_UNSUPPORTED},
        {"{\"peft_type\":\"LORA\"}", ERR_FORMAT},
        {"{\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":8}", ERR_FORMAT},
        {"{\"peft_type\":\"LORA\",\"r\":-4,\"lora_alpha\":8}", ERR_FORMAT},
        {"{\"peft_type\":\"LORA\",\"r\":4.0,\"lora_alpha\":8}", ERR_FORMAT},
        {"{\"peft_type\":\"LORA\",\"r\":1e9,\"lora_alpha\":8}", ERR_FORMAT},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":\"8\"}", ERR_FORMAT},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":1e300}", ERR_FORMAT}, /* no f32 */
        {"{\"peft_type\":\"LORA\",\"r\":5,\"lora_alpha\":8}", ERR_SHAPE},
        {CONFIG(",\"use_rslora\":\"yes\""), ERR_FORMAT},
        {CONFIG(",\"rank_pattern\":[]"), ERR_FORMAT},
        {CONFIG(",\"rank_pattern\":{\"q_proj\":null}"), ERR_FORMAT},
        {CONFIG(",\"rank_pattern\":{\"[\":4}"), ERR_FORMAT},
        {CONFIG(",\"rank_pattern\":{\"((.+)+)+[yz]\":4}"), ERR_FORMAT},
        {CONFIG(",\"use_dora\":true"), ERR_UNSUPPORTED},
        {CONFIG(",\"bias\":\"lora_only\""), ERR_UNSUPPORTED},
        {CONFIG(",\"lora_bias\":true"), ERR_UNSUPPORTED},
        {CONFIG(",\"modules_to_save\":[\"lm_head\"]"), ERR_UNSUPPORTED},
        {CONFIG(",\"trainable_token_indices\":[1]"), ERR_UNSUPPORTED},
        {CONFIG(",\"layer_replication\":[[0,1]]"), ERR_UNSUPPORTED},
        {CONFIG(",\"init_lora_weights\":\"olora\""), ERR_UNSUPPORTED},
        {CONFIG(",\"init_lora_weights\":7"), ERR_UNSUPPORTED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refusal(cases[i].config, pair, pair_shapes, 2, cases[i].code);
}

static void tensors_are_refused(void **state)
{
#define BOTH(module) {LAYER module ".lora_A.weight", LAYER module ".lora_B.weight"}
    static const struct {
        const char *names[2];
        int shapes[2][2];
        err code;
    } cases[] = {
        {BOTH("2.self_attn.q_proj"), {{4, 63}, {64, 4}}, ERR_SHAPE},
        {BOTH("2.self_attn.q_proj"), {{4, 64}, {63, 4}}, ERR_SHAPE},
        {BOTH("2.self_attn.q_proj"), {{4, 64}, {64, 3}}, ERR_SHAPE},
        {BOTH("5.self_attn.q_proj"), {{4, 64}, {64, 4}}, ERR_SHAPE},
        {BOTH("99999999999999999999.self_attn.q_proj"), {{4, 64}, {64, 4}}, ERR_UNSUPPORTED},
        {BOTH("x.self_attn.q_proj"), {{4, 64}, {64, 4}}, ERR_UNSUPPORTED},
        {BOTH("2.self_attn.q_proj.weight"), {{4, 64}, {64, 4}}, ERR_UNSUPPORTED},
        {BOTH("2.input_layernorm"), {{4, 64}, {64, 4}}, ERR_UNSUPPORTED},
        {BOTH("2.block_sparse_moe.experts.0.w1"), {{4, 64}, {64, 4}}, ERR_UNSUPPORTED},
        {BOTH("2.block_sparse_moe.gate"), {{4, 64}, {64, 4}}, ERR_UNSUPPORTED},
        {{"base_model.model.lm_head.lora_A.weight", "base_model.model.lm_head.lora_B.weight"},
         {{4, 64}, {64, 4}},
         ERR_UNSUPPORTED},
        {{LAYER "2.self_attn.q_proj.lora_A.weight", LAYER "2.self_attn.k_proj.lora_B.weight"},
         {{4, 64}, {64, 4}},
         ERR_UNSUPPORTED},
        {{".lora_A.weight", ".lora_B.weight"}, {{4, 64}, {64, 4}}, ERR_UNSUPPORTED},
        {{"base_model.model..lora_A.weight", "base_model.model..lora_B.weight"}, {{4, 64}, {64, 4}}, ERR_UNSUPPORTED},
    };
    char text[600], other[600];
    const char *lengthy[] = {text, other};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refusal(CONFIG(""), cases[i].names, cases[i].shapes, 2, cases[i].code);
    for (int i = 0; i < 500; i++)
        text[i] = "model."[i % 6];
    memcpy(other, text, 500);
    strcpy(text + 500, ".lora_A.weight");
    strcpy(other + 500, ".lora_B.weight");
    expect_refusal(CONFIG(""), lengthy, pair_shapes, 2, ERR_UNSUPPORTED);
    expect_refusal(CONFIG(""), pair, pair_shapes, 1, ERR_UNSUPPORTED); /* A alone */
    expect_refusal(CONFIG(""), pair + 1, pair_shapes + 1, 1, ERR_FORMAT); /* B alone */
    expect_refusal(CONFIG(""), pair, pair_shapes, 0, ERR_FORMAT); /* nothing */
}

/* Every cut and every changed byte of a good GGUF adapter: an error or an adapter, no crash. */
static void damaged_files_do_no_harm(void **state)
{
    static char good[4096] __attribute__((aligned(64))), bad[4096] __attribute__((aligned(64)));
    FILE *file = fopen(path_in_tree("tests/fuzz/corpus/lora/one.gguf"), "rb");
    struct lora_reader r;
    struct lora_file *f;
    struct why why;
    (void)state;
    assert_non_null(file);
    size_t n = fread(good, 1, sizeof good, file);
    fclose(file);
    assert_int_equal(lora_gguf_open_memory(good, n, "adapter", "llama", &r, &why), ERR_OK);
    assert_int_equal(lora_file_bind(&r, "adapter", src, &f, &why), ERR_OK);
    assert_float_equal(lora_file_part(f, W_K, 1)->scale, 8, 0);
    lora_file_close(f);
    assert_int_equal(lora_gguf_open_memory(good, n, "adapter", "qwen2", &r, &why), ERR_UNSUPPORTED);
    for (size_t i = 0; i < 2 * n; i++) {
        memcpy(bad, good, n);
        if (i >= n)
            bad[i - n] = (char)~bad[i - n];
        if (lora_gguf_open_memory(bad, i < n ? i : n, "adapter", "llama", &r, &why) == ERR_OK &&
            lora_file_bind(&r, "adapter", src, &f, &why) == ERR_OK)
            lora_file_close(f);
    }
}

static void adapters_have_names(void **state)
{
    struct why why = {""};
    char *path = path_in_tree("tests/fuzz/corpus/lora/one.gguf");
    (void)state;
    assert_string_equal(source_load_hash(src), source_hash(src));
    assert_int_equal(source_add_adapter(src, "", path, &why), ERR_INVAL);
    assert_int_equal(source_add_adapter(src, "a:b", path, &why), ERR_INVAL);
    assert_int_equal(source_add_adapter(src, "a", path, &why), ERR_OK);
    assert_int_equal(source_add_adapter(src, "a", path, &why), ERR_INVAL);
    assert_string_not_equal(source_load_hash(src), source_hash(src));
    for (int i = 1; i < SOURCE_MAX_ADAPTERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "a-%d", i);
        assert_int_equal(source_add_adapter(src, name, path, &why), ERR_OK);
    }
    assert_int_equal(source_add_adapter(src, "more", path, &why), ERR_LIMIT);
    assert_int_equal(source_n_adapters(src), SOURCE_MAX_ADAPTERS);
    assert_string_equal(source_adapter_name(src, 31), "a-31");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_follow_the_config), cmocka_unit_test(rows_lie_as_the_models),
        cmocka_unit_test(configs_are_refused),      cmocka_unit_test(tensors_are_refused),
        cmocka_unit_test(damaged_files_do_no_harm), cmocka_unit_test(adapters_have_names),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
