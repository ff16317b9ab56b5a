/* config.json into hyper-parameters: what each key ends up as, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "model/desc.h"
#include "model/facts.h"

#define BASE                                                                                         \
    "\"hidden_size\":64,\"num_hidden_layers\":6,\"num_attention_heads\":4,\"intermediate_size\":96," \
    "\"max_position_embeddings\":1024"

/* keys: more members of the object, or "". */
static err read_config(const char *type, const char *keys, struct hparams *hp, struct why *why)
{
    char text[2048];
    struct facts f;

    snprintf(text, sizeof text, "{\"model_type\":\"%s\"," BASE "%s%s}", type, *keys ? "," : "", keys);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    facts_init_json(&f, root, "config.json");
    const struct arch_desc *arch = arch_find_hf(type), *variant = arch->variant ? arch->variant(&f) : NULL;
    err e = hparams_read(&f, variant ? variant : arch, 100, hp, why);
    json_decref(root);
    return e;
}

static struct hparams good(const char *type, const char *keys)
{
    struct hparams hp;
    struct why why = {""};
    err e = read_config(type, keys, &hp, &why);

    if (e)
        print_error("%s %s: %s\n", type, keys, why.text);
    assert_int_equal(e, ERR_OK);
    return hp;
}

static void plain_llama(void **state)
{
    struct hparams hp = good("llama", "");

    (void)state;
    assert_int_equal(hp.n_layer, 6);
    assert_int_equal(hp.n_head_kv, 4);
    assert_int_equal(hp.head_dim_k, 16);
    assert_int_equal(hp.n_rot, 16);
    assert_int_equal(hp.rope_kind, ROPE_HALVES);
    assert_int_equal(hp.rope_scaling, ROPE_SCALING_NONE);
    assert_true(hp.attn_scale == 0.25f && hp.embed_scale == 1 && hp.logit_scale == 1 &&
                hp.residual_scale == 1);
    assert_true(hp.causal && hp.window == 0 && hp.layer_dense[0]);
}

static void rope_scalings(void **state)
{
    struct hparams hp;

    (void)state;
    hp = good("llama", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}");
    assert_int_equal(hp.rope_scaling, ROPE_SCALING_LINEAR);
    assert_true(hp.rope_factor == 4);
    hp = good("llama", "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
                       "\"high_freq_factor\":4,\"original_max_position_embeddings\":256}");
    assert_int_equal(hp.rope_scaling, ROPE_SCALING_LLAMA3);
    assert_true(hp.rope_low_freq == 1 && hp.rope_high_freq == 4 && hp.rope_ctx_orig == 256);
    hp = good(
        "llama",
        "\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":5000,\"factor\":4,\"truncate\":false}");
    assert_int_equal(hp.rope_scaling, ROPE_SCALING_YARN);
    assert_true(hp.rope_base == 5000 && hp.yarn_beta_fast == 32 && hp.yarn_beta_slow == 1 &&
                !hp.yarn_truncate);
    assert_int_equal(hp.rope_ctx_orig, 1024);
    hp = good("phi3", "\"original_max_position_embeddings\":128,"
                      "\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1],\"long_factor\":[2]}");
    assert_int_equal(hp.rope_scaling, ROPE_SCALING_LONGROPE);
    assert_int_equal(hp.rope_ctx_orig, 128);
    hp = good("llama", "\"rope_scaling\":null,\"rope_theta\":500000");
    assert_true(hp.rope_base == 500000);
}

static void windows_and_layers(void **state)
{
    struct hparams hp =
        good("gemma3_text", "\"head_dim\":16,\"sliding_window\":8,\"query_pre_attn_scalar\":16");

    (void)state;
    for (int i = 0; i < 6; i++)
        assert_int_equal(hp.layer_window[i], i != 5);
    assert_true(hp.embed_scale == 8 && hp.rope_base_local == 10000 && hp.rope_base == 1000000);
    hp = good("gemma2", "\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\","
                        "\"sliding_attention\",\"full_attention\",\"full_attention\"]");
    assert_true(hp.layer_window[3] && !hp.layer_window[0]);
    hp = good("cohere2", "\"sliding_window\":8");
    assert_true(hp.layer_no_rope[3] && !hp.layer_window[3] && hp.layer_window[2] && !hp.layer_no_rope[2]);
    hp = good("qwen2", "\"sliding_window\":8,\"use_sliding_window\":true,\"max_window_layers\":4");
    assert_true(!hp.layer_window[3] && hp.layer_window[4]);
    hp = good("qwen2", "\"sliding_window\":8,\"use_sliding_window\":false");
    assert_int_equal(hp.window, 0);
    hp = good("qwen3_moe", "\"num_experts\":4,\"num_experts_per_tok\":2,\"moe_intermediate_size\":8,"
                           "\"decoder_sparse_step\":2,\"mlp_only_layers\":[3]");
    assert_true(hp.layer_dense[0] && !hp.layer_dense[1] && hp.layer_dense[3] && !hp.layer_dense[5]);
}

static void deepseek_squares_mscale(void **state)
{
    struct hparams hp =
        good("deepseek_v3",
             "\"kv_lora_rank\":32,\"qk_rope_head_dim\":8,\"qk_nope_head_dim\":8,"
             "\"v_head_dim\":12,\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"n_group\":4,"
             "\"topk_group\":2,\"moe_intermediate_size\":16,\"n_shared_experts\":2,"
             "\"first_k_dense_replace\":1,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2.718281828459045,"
             "\"mscale\":1,\"mscale_all_dim\":1}");

    (void)state;
    assert_float_equal(hp.attn_scale, 0.25 * 1.1 * 1.1, 1e-6);
    assert_true(hp.moe_gate == MOE_SIGMOID && hp.moe_group_by_sum2 && hp.moe_norm_weights);
    assert_true(hp.layer_dense[0] && !hp.layer_dense[1] && hp.n_ff_shared == 32 && hp.head_dim_v == 12);
}

static void refuses_with_the_key(void **state)
{
    static const struct {
        const char *type, *keys, *reason;
        err want;
    } rows[] = {
        {"llama", "\"rope_scaling\":{\"type\":\"magic\",\"factor\":4}", "rope scaling magic",
         ERR_UNSUPPORTED},
        {"llama", "\"rope_scaling\":{\"type\":\"llama3\",\"factor\":4}", "low_freq_factor is missing",
         ERR_FORMAT},
        {"llama", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", "factor", ERR_FORMAT},
        {"llama", "\"num_key_value_heads\":3", "do not divide", ERR_FORMAT},
        {"llama", "\"num_key_value_heads\":-1", "number of KV heads", ERR_FORMAT},
        {"llama", "\"rms_norm_eps\":\"small\"", "rms_norm_eps is not a finite number", ERR_FORMAT},
        {"llama", "\"head_dim\":7", "odd", ERR_FORMAT},
        {"llama", "\"head_dim\":2.5", "32-bit integer", ERR_FORMAT},
        {"llama", "\"num_local_experts\":4", "num_experts_per_tok is missing", ERR_FORMAT},
        {"llama", "\"num_local_experts\":4,\"num_experts_per_tok\":5", "experts a token", ERR_FORMAT},
        {"llama", "\"hidden_act\":\"gelu\"", "activation gelu", ERR_UNSUPPORTED},
        {"gemma2", "\"layer_types\":[\"other\"]", "layer_types[0] is other", ERR_UNSUPPORTED},
        {"gemma2", "\"query_pre_attn_scalar\":-1", "query_pre_attn_scalar", ERR_FORMAT},
        {"mpt", "\"attn_config\":{\"alibi\":false}", "ALiBi", ERR_UNSUPPORTED},
        {"granite", "\"logits_scaling\":0", "logit divisor", ERR_FORMAT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct hparams hp;
        struct why why = {""};
        err e = read_config(rows[i].type, rows[i].keys, &hp, &why);
        if (e != rows[i].want || !strstr(why.text, rows[i].reason))
            print_error("%s: %s: %s\n", rows[i].keys, err_name(e), why.text);
        assert_int_equal(e, rows[i].want);
        assert_non_null(strstr(why.text, rows[i].reason));
        assert_non_null(strstr(why.text, "config.json"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_llama),          cmocka_unit_test(rope_scalings),
        cmocka_unit_test(windows_and_layers),   cmocka_unit_test(deepseek_squares_mscale),
        cmocka_unit_test(refuses_with_the_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
