/* hparams.c - hyper-parameters from a file's facts, and the checks on them.
 *
 * Three steps: what is called alike in all families (one table of names per
 * format), then the family's own reader, then hparams_check(), which everything
 * that sizes a buffer, divides or loops by these numbers relies on.
 */
#include "model/hparams.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/desc.h"
#include "model/facts.h"

#define MAX_DIM (1 << 20) /* of one tensor dimension but the vocabulary */
#define MAX_VOCAB (1 << 22)
#define MAX_CONTEXT (1 << 27)

float hparams_yarn_mscale(float factor, float mscale)
{
    return factor <= 1 ? 1.0f : 0.1f * mscale * logf(factor) + 1.0f;
}

void hparams_window_pattern(struct hparams *hp, int period, int first)
{
    for (int i = 0; i < hp->n_layer; i++)
        hp->layer_window[i] = period > 1 && (i + first) % period != period - 1;
}

void hparams_window_all(struct hparams *hp)
{
    memset(hp->layer_window, hp->window > 0, sizeof hp->layer_window);
}

void hparams_dense_lead(struct hparams *hp, int n)
{
    hp->n_dense_lead = n;
    for (int i = 0; i < MAX_LAYERS; i++)
        hp->layer_dense[i] = hp->n_expert == 0 || i < n;
}

void hparams_layer_types(struct facts *f, struct hparams *hp)
{
    if (!fact_has(f, "layer_types"))
        return;
    for (int i = 0; i < hp->n_layer && i < MAX_LAYERS; i++) {
        const char *type = fact_text_at(f, "layer_types", (size_t)i);
        if (type && strcmp(type, "sliding_attention") == 0)
            hp->layer_window[i] = 1;
        else if (type && strcmp(type, "full_attention") == 0)
            hp->layer_window[i] = 0;
        else
            fact_fail(f, ERR_UNSUPPORTED, "layer_types[%d] is %s", i, type ? type : "missing");
    }
}

void hparams_experts_hf(struct facts *f, struct hparams *hp, const char *key, int n_ff_expert)
{
    hp->n_expert = fact_int_or(f, key, 0);
    if (hp->n_expert) {
        hp->n_expert_used = fact_int(f, "num_experts_per_tok");
        hp->n_ff_expert = n_ff_expert;
    }
    hparams_dense_lead(hp, 0);
}

void hparams_sparse_step(struct facts *f, struct hparams *hp)
{
    double dense[MAX_LAYERS];
    int step = fact_int_or(f, "decoder_sparse_step", 1);
    size_t n = fact_reals(f, "mlp_only_layers", dense, MAX_LAYERS);

    if (step < 1)
        fact_fail(f, ERR_FORMAT, "decoder_sparse_step is %d", step);
    for (int i = 0; !f->e && i < hp->n_layer && i < MAX_LAYERS; i++)
        hp->layer_dense[i] = hp->n_expert == 0 || (i + 1) % step != 0;
    for (size_t i = 0; !f->e && i < n && i < MAX_LAYERS; i++)
        if (dense[i] >= 0 && dense[i] < MAX_LAYERS)
            hp->layer_dense[(int)dense[i]] = 1;
}

void hparams_window_qwen(struct facts *f, struct hparams *hp)
{
    int first = fact_int_or(f, "max_window_layers", 0);

    if (!fact_bool_or(f, "use_sliding_window", false))
        return;
    hp->window = fact_int_or(f, "sliding_window", 0);
    for (int i = 0; i < MAX_LAYERS; i++)
        hp->layer_window[i] = hp->window > 0 && i >= first;
}

void hparams_query_scalar(struct facts *f, struct hparams *hp, double otherwise)
{
    double scalar = fact_real_or(f, "query_pre_attn_scalar", otherwise);

    if (!(scalar > 0))
        fact_fail(f, ERR_FORMAT, "query_pre_attn_scalar is %g", scalar);
    else
        hp->attn_scale = (float)(1 / sqrt(scalar));
}

/* A number that some files give per layer: all layers must agree. */
static int uniform_int(struct facts *f, const char *key, int otherwise)
{
    double x[MAX_LAYERS];
    size_t n = fact_reals(f, key, x, MAX_LAYERS);

    if (n <= 1)
        return fact_int_or(f, key, otherwise);
    for (size_t i = 1; i < n && i < MAX_LAYERS; i++)
        if (x[i] != x[0]) {
            fact_fail(f, ERR_UNSUPPORTED, "%s differs between layers (%g, %g); it must be the same in all",
                      key, x[0], x[i]);
            return otherwise;
        }
    if (!(x[0] >= 0 && x[0] <= MAX_VOCAB))
        fact_fail(f, ERR_FORMAT, "%s is %g", key, x[0]);
    return f->e ? otherwise : (int)x[0];
}

/* ---- rope scaling ---------------------------------------------------------------- */

static void scaling_yarn(struct facts *f, struct hparams *hp, const char *base)
{
    const bool gguf = f->gguf != NULL;
    char key[96];

#define KEY(name) (snprintf(key, sizeof key, "%s.%s", base, name), key)
    hp->yarn_beta_fast = (float)fact_real_or(f, KEY(gguf ? "yarn_beta_fast" : "beta_fast"), 32);
    hp->yarn_beta_slow = (float)fact_real_or(f, KEY(gguf ? "yarn_beta_slow" : "beta_slow"), 1);
    hp->yarn_truncate = fact_bool_or(f, KEY("truncate"), true);
    if (gguf) {
        hp->yarn_attn_factor =
            (float)fact_real_or(f, KEY("attn_factor"), 1) * hparams_yarn_mscale(hp->rope_factor, 1);
    } else {
        hp->yarn_mscale = (float)fact_real_or(f, KEY("mscale"), 0);
        hp->yarn_mscale_all_dim = (float)fact_real_or(f, KEY("mscale_all_dim"), 0);
        hp->yarn_attn_factor = (float)fact_real_or(f, KEY("attention_factor"), 0);
    }
#undef KEY
}

void hparams_rope_scaling(struct facts *f, struct hparams *hp)
{
    const char *base = f->gguf                       ? "rope.scaling"
                       : fact_has(f, "rope_scaling") ? "rope_scaling"
                                                     : "rope_parameters";
    char key[96];
    const char *type;

#define KEY(name) (snprintf(key, sizeof key, "%s.%s", base, name), key)
    type = fact_text_or(f, KEY("rope_type"), NULL);
    if (!type)
        type = fact_text_or(f, KEY("type"), "none");
    bool is_llama3 = strcmp(type, "llama3") == 0, is_dynamic = strcmp(type, "dynamic") == 0;
    if (strcmp(type, "none") == 0 || strcmp(type, "default") == 0 || is_dynamic)
        hp->rope_scaling =
            ROPE_SCALING_NONE; /* dynamic: no change up to the trained length, which is the limit */
    else if (strcmp(type, "linear") == 0)
        hp->rope_scaling = ROPE_SCALING_LINEAR;
    else if (is_llama3)
        hp->rope_scaling = ROPE_SCALING_LLAMA3;
    else if (strcmp(type, "yarn") == 0)
        hp->rope_scaling = ROPE_SCALING_YARN;
    else if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0)
        hp->rope_scaling = ROPE_SCALING_LONGROPE;
    else
        fact_fail(f, ERR_UNSUPPORTED,
                  "rope scaling %s is not supported; supported: linear, llama3, yarn, longrope", type);

    hp->rope_factor = (float)fact_real_or(f, KEY("factor"), 1);
    int orig =
        fact_int_or(f, KEY(f->gguf ? "original_context_length" : "original_max_position_embeddings"), 0);
    if (!orig && !f->gguf)
        orig = fact_int_or(f, "original_max_position_embeddings", 0);
    hp->rope_ctx_orig = orig ? orig : hp->n_ctx_train;
    if (is_llama3) {
        hp->rope_low_freq = (float)fact_real(f, KEY("low_freq_factor"));
        hp->rope_high_freq = (float)fact_real(f, KEY("high_freq_factor"));
    }
    if (hp->rope_scaling == ROPE_SCALING_YARN)
        scaling_yarn(f, hp, base);
    if (hp->rope_scaling == ROPE_SCALING_LONGROPE)
        hp->longrope_short_mscale = hp->longrope_long_mscale =
            (float)fact_real_or(f, KEY(f->gguf ? "attn_factor" : "attention_factor"), 0);
    if (hp->rope_scaling != ROPE_SCALING_NONE && !(hp->rope_factor > 0))
        fact_fail(f, ERR_FORMAT, "%s is %g", KEY("factor"), (double)hp->rope_factor);
#undef KEY
}

/* ---- what families share ------------------------------------------------------------ */

static void read_gguf_experts(struct facts *f, struct hparams *hp)
{
    static const enum moe_gate gates[] = {MOE_SOFTMAX, MOE_SOFTMAX, MOE_SIGMOID, MOE_SOFTMAX_TOPK};
    int gate = fact_int_or(f, "expert_gating_func", 0);

    hp->n_expert_used = fact_int(f, "expert_used_count");
    hp->n_ff_expert = uniform_int(f, "expert_feed_forward_length", hp->n_ff);
    hp->n_expert_shared = fact_int_or(f, "expert_shared_count", 0);
    hp->n_ff_shared = fact_int_or(f, "expert_shared_feed_forward_length", 0);
    hp->n_dense_lead = fact_int_or(f, "leading_dense_block_count", 0);
    hp->n_expert_groups = fact_int_or(f, "expert_group_count", 0);
    hp->n_expert_groups_used = fact_int_or(f, "expert_group_used_count", 0);
    hp->moe_norm_weights = fact_bool_or(f, "expert_weights_norm", hp->moe_norm_weights);
    hp->moe_weight_scale = (float)fact_real_or(f, "expert_weights_scale", 1);
    if (gate < 0 || gate > 3)
        fact_fail(f, ERR_UNSUPPORTED, "expert_gating_func %d is not supported", gate);
    else if (gate)
        hp->moe_gate = gates[gate];
}

static void read_gguf(struct facts *f, struct hparams *hp)
{
    hp->n_layer = fact_int(f, "block_count");
    hp->n_embd = fact_int(f, "embedding_length");
    hp->n_ctx_train = fact_int_or(f, "context_length", 2048);
    hp->n_head = uniform_int(f, "attention.head_count", 0);
    hp->n_head_kv = uniform_int(f, "attention.head_count_kv", hp->n_head);
    hp->head_dim_k = fact_int_or(f, "attention.key_length", hp->n_head > 0 ? hp->n_embd / hp->n_head : 0);
    hp->head_dim_v = fact_int_or(f, "attention.value_length", hp->n_head > 0 ? hp->n_embd / hp->n_head : 0);
    hp->n_ff = uniform_int(f, "feed_forward_length", 0);
    hp->norm_eps = (float)fact_real_or(f, "attention.layer_norm_rms_epsilon",
                                       fact_real_or(f, "attention.layer_norm_epsilon", 1e-5));
    hp->n_rot = fact_int_or(f, "rope.dimension_count", hp->head_dim_k);
    hp->rope_base = (float)fact_real_or(f, "rope.freq_base", 10000);
    hparams_rope_scaling(f, hp);
    hp->alibi_max_bias = (float)fact_real_or(f, "attention.max_alibi_bias", 0);
    hp->attn_scale = (float)fact_real_or(f, "attention.scale", 0);
    hp->attn_softcap = (float)fact_real_or(f, "attn_logit_softcapping", 0);
    hp->logit_softcap = (float)fact_real_or(f, "final_logit_softcapping", 0);
    hp->attn_clip_qkv = (float)fact_real_or(f, "attention.clamp_kqv", 0);
    hp->window = fact_int_or(f, "attention.sliding_window", 0);
    hp->embed_scale = (float)fact_real_or(f, "embedding_scale", 1);
    hp->residual_scale = (float)fact_real_or(f, "residual_scale", 1);
    hp->logit_scale = (float)fact_real_or(f, "logit_scale", 1);
    hp->causal = fact_bool_or(f, "attention.causal", true);
    hp->n_expert = fact_int_or(f, "expert_count", 0);
    if (hp->n_expert)
        read_gguf_experts(f, hp);
}

/* The first of the names that the config has; 0 terminates. Required. */
static int one_of(struct facts *f, const char *const *keys)
{
    for (const char *const *k = keys; *k; k++)
        if (fact_has(f, *k))
            return fact_int(f, *k);
    return fact_int(f, keys[0]);
}
#define ONE_OF(f, ...) one_of(f, (const char *const[]){__VA_ARGS__, NULL})

/* Text parts of multimodal configs leave out what is their family's default; such
 * families fill it in, for the others the check of all numbers says so. */
static int heads_hf(struct facts *f)
{
    return fact_int_or(f, "num_attention_heads", fact_int_or(f, "n_head", fact_int_or(f, "n_heads", 0)));
}

static void read_hf(struct facts *f, struct hparams *hp)
{
    static const char *const context[] = {"max_position_embeddings", "n_positions", "max_seq_len",
                                          "seq_length"};

    hp->n_layer = ONE_OF(f, "num_hidden_layers", "n_layer", "n_layers");
    hp->n_embd = ONE_OF(f, "hidden_size", "n_embd", "d_model");
    hp->n_head = heads_hf(f);
    hp->n_ctx_train = 2048;
    for (size_t i = 0; i < sizeof context / sizeof context[0]; i++)
        if (fact_has(f, context[i])) {
            hp->n_ctx_train = fact_int(f, context[i]);
            break;
        }
    hp->n_head_kv = fact_int_or(f, "num_key_value_heads", hp->n_head);
    hp->head_dim_k = fact_int_or(f, "head_dim", hp->n_head > 0 ? hp->n_embd / hp->n_head : 0);
    hp->head_dim_v = hp->head_dim_k;
    hp->n_ff =
        fact_int_or(f, "intermediate_size", hp->n_embd > 0 && hp->n_embd <= MAX_DIM ? 4 * hp->n_embd : 0);
    hp->norm_eps = (float)fact_real_or(
        f, "rms_norm_eps",
        fact_real_or(f, "layer_norm_eps",
                     fact_real_or(f, "layer_norm_epsilon", fact_real_or(f, "norm_epsilon", 1e-5))));
    double rotary = fact_real_or(
        f, "partial_rotary_factor",
        fact_real_or(f, "rope_parameters.partial_rotary_factor", fact_real_or(f, "rotary_pct", 1)));
    if (!(rotary > 0 && rotary <= 1))
        fact_fail(f, ERR_FORMAT, "partial_rotary_factor is %g", rotary);
    else
        hp->n_rot = (int)(hp->head_dim_k * rotary);
    hp->rope_base = (float)fact_real_or(
        f, "rope_theta",
        fact_real_or(f, "rope_parameters.rope_theta", fact_real_or(f, "rotary_emb_base", 10000)));
    hparams_rope_scaling(f, hp);
    hp->embed_scale = hp->residual_scale = hp->logit_scale = hp->moe_weight_scale = 1;
    hp->causal = true;
}

/* ---- checks --------------------------------------------------------------------------- */

static void check_range(struct facts *f, const char *what, double value, double least, double most)
{
    if (!(value >= least && value <= most))
        fact_fail(f, ERR_FORMAT, "%s is %g; %g to %g is possible", what, value, least, most);
}

static void check_experts(struct facts *f, const struct hparams *hp)
{
    int groups = hp->n_expert_groups;

    check_range(f, "number of experts", hp->n_expert, 1, 1024);
    check_range(f, "experts a token", hp->n_expert_used, 1, hp->n_expert);
    check_range(f, "expert feed-forward length", hp->n_ff_expert, 1, MAX_DIM);
    check_range(f, "shared expert length", hp->n_ff_shared, 0, MAX_DIM);
    check_range(f, "expert weight scale", (double)hp->moe_weight_scale, -1e6, 1e6);
    check_range(f, "expert groups", groups, 0, hp->n_expert);
    if (f->e || groups <= 1)
        return;
    if (hp->n_expert % groups != 0)
        fact_fail(f, ERR_FORMAT, "%d experts do not divide into %d groups", hp->n_expert, groups);
    check_range(f, "expert groups a token", hp->n_expert_groups_used, 1, groups);
    if (!f->e && hp->n_expert / groups * hp->n_expert_groups_used < hp->n_expert_used)
        fact_fail(f, ERR_FORMAT, "%d groups of %d experts hold fewer than the %d experts a token",
                  hp->n_expert_groups_used, hp->n_expert / groups, hp->n_expert_used);
}

/* The config's activation must be the family's: the descriptor decides. */
static void check_activation(struct facts *f, enum activation act)
{
    static const struct {
        const char *name;
        enum activation act;
    } names[] = {
        {"silu", ACTIVATION_SILU},
        {"swish", ACTIVATION_SILU},
        {"gelu", ACTIVATION_GELU_ERF},
        {"gelu_new", ACTIVATION_GELU_TANH},
        {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH},
        {"gelu_fast", ACTIVATION_GELU_TANH},
        {"relu", ACTIVATION_RELU},
        {"relu2", ACTIVATION_RELU2},
    };
    static const char *const keys[] = {"hidden_activation", "hidden_act", "activation_function",
                                       "activation"};
    const char *name = NULL;

    for (size_t i = 0; !name && i < sizeof keys / sizeof keys[0]; i++)
        name = fact_text_or(f, keys[i], NULL);
    if (!name || act == ACTIVATION_SWIGLU_OAI)
        return; /* gpt-oss's has no name of its own */
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i].name) == 0) {
            if (names[i].act == act || (act == ACTIVATION_GELU_TANH && names[i].act == ACTIVATION_GELU_ERF))
                return; /* Gemma's first configs say "gelu" and mean tanh */
            break;
        }
    fact_fail(f, ERR_UNSUPPORTED, "activation %s is not what this family computes", name);
}

static void check_rotation(struct facts *f, const struct hparams *hp)
{
    check_range(f, "rotated dimensions", hp->n_rot, 2, hp->kv_lora ? hp->qk_rope : hp->head_dim_k);
    check_range(f, "rope base", (double)hp->rope_base, 1e-3, 1e12);
    check_range(f, "local rope base", (double)hp->rope_base_local, 0, 1e12);
    check_range(f, "original context length", hp->rope_ctx_orig, 1, MAX_CONTEXT);
    check_range(f, "rope factor", (double)hp->rope_factor, 0, 1e6);
    if (!f->e && hp->n_rot % 2 != 0)
        fact_fail(f, ERR_FORMAT, "the number of rotated dimensions, %d, is odd", hp->n_rot);
    if (hp->rope_scaling == ROPE_SCALING_YARN) {
        check_range(f, "YaRN beta_fast", (double)hp->yarn_beta_fast, 1e-6, 1e6);
        check_range(f, "YaRN beta_slow", (double)hp->yarn_beta_slow, 1e-6, 1e6);
    }
    if (hp->rope_scaling == ROPE_SCALING_LLAMA3 && !f->gguf) {
        check_range(f, "low_freq_factor", (double)hp->rope_low_freq, 1e-6, 1e6);
        check_range(f, "high_freq_factor minus low_freq_factor",
                    (double)(hp->rope_high_freq - hp->rope_low_freq), 1e-6, 1e6);
    }
}

static void check_latent(struct facts *f, const struct hparams *hp)
{
    check_range(f, "KV latent dimension", hp->kv_lora, 1, 65536);
    check_range(f, "query latent dimension", hp->q_lora, 0, 65536);
    check_range(f, "unrotated head dimension", hp->qk_nope, 1, 4096);
    check_range(f, "rotated head dimension", hp->qk_rope, 2, 4096);
}

static void hparams_check(struct facts *f, const struct hparams *hp)
{
    check_range(f, "embedding length", hp->n_embd, 1, MAX_DIM);
    check_range(f, "vocabulary size", hp->n_vocab, 1, MAX_VOCAB);
    check_range(f, "context length", hp->n_ctx_train, 1, MAX_CONTEXT);
    check_range(f, "number of heads", hp->n_head, 1, 4096);
    check_range(f, "number of KV heads", hp->n_head_kv, 1, hp->n_head);
    check_range(f, "head dimension", hp->head_dim_k, 1, 4096);
    check_range(f, "value head dimension", hp->head_dim_v, 1, 4096);
    check_range(f, "feed-forward length", hp->n_ff, hp->n_expert ? 0 : 1, MAX_DIM);
    check_range(f, "norm epsilon", (double)hp->norm_eps, 0, 1);
    check_range(f, "sliding window", hp->window, 0, MAX_CONTEXT);
    check_range(f, "attention chunk", hp->attn_chunk, 0, MAX_CONTEXT);
    check_range(f, "temperature length", hp->attn_temp_floor, 0, MAX_CONTEXT);
    check_range(f, "embedding scale", (double)hp->embed_scale, -1e6, 1e6);
    check_range(f, "residual scale", (double)hp->residual_scale, -1e6, 1e6);
    check_range(f, "attention soft cap", (double)hp->attn_softcap, 0, 1e6);
    check_range(f, "logit soft cap", (double)hp->logit_softcap, 0, 1e6);
    check_range(f, "QKV clip", (double)hp->attn_clip_qkv, 0, 1e6);
    check_range(f, "ALiBi bias", (double)hp->alibi_max_bias, 0, 1024);
    check_range(f, "attention scale", (double)hp->attn_scale, -1e6, 1e6);
    check_range(f, "logit scale", (double)hp->logit_scale, -1e6, 1e6);
    check_range(f, "token types", hp->n_token_types, 0, 1024);
    if (!f->e && hp->n_head % hp->n_head_kv != 0)
        fact_fail(f, ERR_FORMAT, "%d heads do not divide by %d KV heads", hp->n_head, hp->n_head_kv);
    if (hp->rope_kind != ROPE_NONE)
        check_rotation(f, hp);
    if (hp->kv_lora)
        check_latent(f, hp);
    if (hp->n_expert)
        check_experts(f, hp);
}

err hparams_read(struct facts *f, const struct arch_desc *arch, int n_vocab, struct hparams *out,
                 struct why *why)
{
    err e;
    struct hparams hp = {.n_vocab = n_vocab, .moe_weight_scale = 1};
    const bool gguf = f->gguf != NULL;
    void (*own)(struct facts *, struct hparams *) = gguf ? arch->hparams_gguf : arch->hparams_hf;

    hp.rope_kind = gguf ? arch->rope.gguf : arch->rope.hf;
    hp.moe_norm_weights = true;
    if (gguf)
        read_gguf(f, &hp);
    else
        read_hf(f, &hp);
    check_range(f, "number of layers", hp.n_layer, 1, MAX_LAYERS); /* families loop over them */
    TRY(facts_err(f, why));
    hparams_window_all(&hp);
    hparams_dense_lead(&hp, hp.n_dense_lead);
    if (!gguf)
        check_activation(f, arch->ffn.act);
    if (own)
        own(f, &hp);
    if (hp.attn_scale == 0 && hp.head_dim_k > 0)
        hp.attn_scale = 1.0f / sqrtf((float)hp.head_dim_k);
    hparams_check(f, &hp);
    TRY(facts_err(f, why));
    *out = hp;
out:
    return e;
}
