/* arch_deepseek.c - DeepSeek V2 (and Lite), V3 and R1: multi-head latent attention.
 *
 * Keys and values are projected down to one latent vector a token (kv_lora) plus a
 * rotated key shared by all heads (qk_rope); only those are cached. Queries have an
 * unrotated part (qk_nope) that meets the latent through a matrix a head, and a
 * rotated part. Queries come through a latent of their own, except in Lite.
 *
 * The first layers are dense, the others have many small experts and a shared one.
 * V2 scores experts by softmax and a group by its best expert; V3 by sigmoid plus a
 * bias that counts for the choice only, and a group by its two best.
 *
 * YaRN's mscale ends up squared in the scale of q.k; cos and sin keep the ratio of
 * mscale and mscale_all_dim, which is 1 in all published models.
 */
#include <math.h>

#include "model/arch_rows.h"
#include "model/facts.h"

#define HF_ATTN "self_attn."

/* clang-format off */
static const struct tensor_spec tensors[] = {
    ROWS_MODEL(0),
    ROWS_ATTN_NORM(0),
    {W_Q, "blk.%d.attn_q.weight", {DIM_EMBD, DIM_MLA_Q}, MAY, HF_LAYER HF_ATTN "q_proj.weight"},
    {W_Q_A, "blk.%d.attn_q_a.weight", {DIM_EMBD, DIM_Q_LORA}, MAY, HF_LAYER HF_ATTN "q_a_proj.weight"},
    {W_Q_A_NORM, "blk.%d.attn_q_a_norm.weight", {DIM_Q_LORA}, MAY, HF_LAYER HF_ATTN "q_a_layernorm.weight"},
    {W_Q_B_PROJ, "blk.%d.attn_q_b.weight", {DIM_Q_LORA, DIM_MLA_Q}, MAY, HF_LAYER HF_ATTN "q_b_proj.weight"},
    {W_KV_A, "blk.%d.attn_kv_a_mqa.weight", {DIM_EMBD, DIM_KV_A}, MUST, HF_LAYER HF_ATTN "kv_a_proj_with_mqa.weight"},
    {W_KV_A_NORM, "blk.%d.attn_kv_a_norm.weight", {DIM_KV_LORA}, MUST, HF_LAYER HF_ATTN "kv_a_layernorm.weight"},
    {W_KV_B, "blk.%d.attn_kv_b.weight", {DIM_KV_LORA, DIM_KV_B}, MAY, HF_LAYER HF_ATTN "kv_b_proj.weight"},
    {W_K_B_PROJ, "blk.%d.attn_k_b.weight", {DIM_NOPE, DIM_KV_LORA, DIM_N_HEAD}, MAY, NULL},
    {W_V_B_PROJ, "blk.%d.attn_v_b.weight", {DIM_KV_LORA, DIM_MLA_V, DIM_N_HEAD}, MAY, NULL},
    {W_O, "blk.%d.attn_output.weight", {DIM_ATTN, DIM_EMBD}, MUST, HF_LAYER HF_ATTN "o_proj.weight"},
    ROWS_FFN_NORM(0),
    ROWS_FFN_GATED(MUST_DENSE),
    ROWS_EXPERTS_MLP,
    {W_ROUTER_BIAS, "blk.%d.exp_probs_b.bias", {DIM_EXPERTS}, MAY, HF_LAYER "mlp.gate.e_score_correction_bias"},
    ROWS_SHARED_EXPERT(MAY, "mlp.shared_experts"),
    TENSORS_END,
};
/* clang-format on */

static void common(struct facts *f, struct hparams *hp, float mscale_all_dim)
{
    float m = hp->rope_scaling == ROPE_SCALING_YARN && mscale_all_dim > 0
                  ? hparams_yarn_mscale(hp->rope_factor, mscale_all_dim)
                  : 1;

    if (hp->qk_nope < 1 || hp->qk_rope < 2 || hp->kv_lora < 1 || hp->qk_nope > 4096 || hp->qk_rope > 4096) {
        fact_fail(f, ERR_FORMAT, "latent attention with heads of %d + %d and a latent of %d", hp->qk_nope,
                  hp->qk_rope, hp->kv_lora);
        return;
    }
    hp->n_head_kv = hp->n_head;
    hp->head_dim_k = hp->qk_nope + hp->qk_rope;
    hp->n_rot = hp->qk_rope;
    hp->attn_scale = m * m / sqrtf((float)hp->head_dim_k);
    hp->moe_group_by_sum2 = hp->moe_gate == MOE_SIGMOID;
    hparams_dense_lead(hp, hp->n_dense_lead);
}

static void shared_length(struct facts *f, struct hparams *hp)
{
    if (hp->n_expert_shared < 0 || hp->n_expert_shared > 64 || hp->n_ff_expert < 0 ||
        hp->n_ff_expert > 1 << 20)
        fact_fail(f, ERR_FORMAT, "%d shared experts of %d", hp->n_expert_shared, hp->n_ff_expert);
    else
        hp->n_ff_shared = hp->n_expert_shared * hp->n_ff_expert;
}

static void hparams_gguf(struct facts *f, struct hparams *hp)
{
    int head =
        fact_int_or(f, "attention.key_length_mla", hp->head_dim_k); /* older files: key_length itself */

    hp->kv_lora = fact_int(f, "attention.kv_lora_rank");
    hp->q_lora = fact_int_or(f, "attention.q_lora_rank", 0);
    hp->qk_rope = fact_int(f, "rope.dimension_count");
    hp->qk_nope = hp->qk_rope > 0 && head > hp->qk_rope ? head - hp->qk_rope : 0;
    hp->head_dim_v = fact_int_or(f, "attention.value_length_mla", hp->head_dim_v);
    hp->moe_norm_weights = fact_bool_or(f, "expert_weights_norm", false);
    hp->yarn_attn_factor = 1;
    shared_length(f, hp);
    common(f, hp, (float)fact_real_or(f, "rope.scaling.yarn_log_multiplier", 0) * 10);
}

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->kv_lora = fact_int(f, "kv_lora_rank");
    hp->q_lora = fact_int_or(f, "q_lora_rank", 0);
    hp->qk_rope = fact_int(f, "qk_rope_head_dim");
    hp->qk_nope = fact_int(f, "qk_nope_head_dim");
    hp->head_dim_v = fact_int(f, "v_head_dim");
    hparams_experts_hf(f, hp, "n_routed_experts", fact_int_or(f, "moe_intermediate_size", 0));
    hp->n_dense_lead = fact_int_or(f, "first_k_dense_replace", 0);
    hp->n_expert_shared = fact_int_or(f, "n_shared_experts", 0);
    hp->n_expert_groups = fact_int_or(f, "n_group", 0);
    hp->n_expert_groups_used = fact_int_or(f, "topk_group", 0);
    hp->moe_gate = fact_is(f, "scoring_func", "sigmoid") || fact_is(f, "model_type", "deepseek_v3")
                       ? MOE_SIGMOID
                       : MOE_SOFTMAX;
    hp->moe_norm_weights = fact_bool_or(f, "norm_topk_prob", hp->moe_gate == MOE_SIGMOID);
    hp->moe_weight_scale = (float)fact_real_or(f, "routed_scaling_factor", 1);
    if (fact_is(f, "topk_method", "greedy"))
        hp->n_expert_groups = hp->n_expert_groups_used = 0;
    shared_length(f, hp);
    common(f, hp, hp->yarn_mscale_all_dim);
}

static const char *const hf_types[] = {"deepseek_v2", "deepseek_v3", NULL};
static const char *const ignore[] = {"rotary_emb.inv_freq", NULL};

const struct arch_desc arch_deepseek2 = {
    .name = "deepseek2",
    .hf_types = hf_types,
    .norm = {.kind = NORM_RMS},
    .rope = {.gguf = ROPE_PAIRS, .hf = ROPE_PAIRS},
    .attn = {.latent = true},
    .ffn = {.act = ACTIVATION_SILU, .gated = true},
    .tensors = tensors,
    .ignore = ignore,
    .hparams_gguf = hparams_gguf,
    .hparams_hf = hparams_hf,
};
