/* arch_gpt_oss.c - OpenAI gpt-oss 20B and 120B.
 *
 * Grouped-query attention with biases and a learned sink a head (one more logit
 * without a value), a window in every other layer, YaRN without rounding of its
 * limits. The feed-forward is experts only: clamped SwiGLU with (up + 1), biases,
 * router weights that are a softmax over the chosen.
 *
 * HF stores the experts either as MXFP4 blocks [expert][out][in] or as bf16
 * [expert][in][out]; both interleave gate and up.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define HF_EXPERTS "mlp.experts."

/* clang-format off */
static const struct tensor_spec tensors[] = {
    ROWS_MODEL(0),
    ROWS_ATTN_NORM(0),
    ROWS_ATTN,
    ROWS_ATTN_QKV_BIAS(MUST),
    ROWS_ATTN_OUT_BIAS(MUST),
    {W_SINKS, "blk.%d.attn_sinks.weight", {DIM_N_HEAD}, MUST, HF_LAYER "self_attn.sinks"},
    {W_FFN_NORM, "blk.%d.post_attention_norm.weight", {DIM_EMBD}, MUST, HF_LAYER "post_attention_layernorm.weight"},
    {W_ROUTER, "blk.%d.ffn_gate_inp.weight", {DIM_EMBD, DIM_EXPERTS}, MUST, HF_LAYER "mlp.router.weight"},
    {W_ROUTER_B, "blk.%d.ffn_gate_inp.bias", {DIM_EXPERTS}, MUST, HF_LAYER "mlp.router.bias"},
    {W_GATE_EXPS, "blk.%d.ffn_gate_exps.weight", {DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS}, MUST,
      HF_LAYER HF_EXPERTS "gate_up_proj_blocks", .hf_layout = PICK_EVEN},
    {W_GATE_EXPS, NULL, {DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS}, MUST, HF_LAYER HF_EXPERTS "gate_up_proj",
      .hf_layout = LAYOUT_TRANSPOSED | PICK_EVEN},
    {W_UP_EXPS, "blk.%d.ffn_up_exps.weight", {DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS}, MUST,
      HF_LAYER HF_EXPERTS "gate_up_proj_blocks", .hf_layout = PICK_ODD},
    {W_UP_EXPS, NULL, {DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS}, MUST, HF_LAYER HF_EXPERTS "gate_up_proj",
      .hf_layout = LAYOUT_TRANSPOSED | PICK_ODD},
    {W_DOWN_EXPS, "blk.%d.ffn_down_exps.weight", {DIM_FF_EXP, DIM_EMBD, DIM_EXPERTS}, MUST,
      HF_LAYER HF_EXPERTS "down_proj_blocks"},
    {W_DOWN_EXPS, NULL, {DIM_FF_EXP, DIM_EMBD, DIM_EXPERTS}, MUST, HF_LAYER HF_EXPERTS "down_proj",
      .hf_layout = LAYOUT_TRANSPOSED},
    {W_GATE_EXPS_B, "blk.%d.ffn_gate_exps.bias", {DIM_FF_EXP, DIM_EXPERTS}, MUST, HF_LAYER HF_EXPERTS "gate_up_proj_bias",
      .hf_layout = PICK_EVEN},
    {W_UP_EXPS_B, "blk.%d.ffn_up_exps.bias", {DIM_FF_EXP, DIM_EXPERTS}, MUST, HF_LAYER HF_EXPERTS "gate_up_proj_bias",
      .hf_layout = PICK_ODD},
    {W_DOWN_EXPS_B, "blk.%d.ffn_down_exps.bias", {DIM_EMBD, DIM_EXPERTS}, MUST, HF_LAYER HF_EXPERTS "down_proj_bias"},
    TENSORS_END,
};
/* clang-format on */

#define SWIGLU_LIMIT 7.0

static void common(struct hparams *hp)
{
    hp->moe_gate = MOE_SOFTMAX_TOPK;
    hp->moe_norm_weights = false; /* they sum to 1 already */
    hparams_window_pattern(hp, 2, 0);
}

static void hparams_gguf(struct facts *f, struct hparams *hp)
{
    common(hp);
    hp->yarn_truncate =
        fact_bool_or(f, "rope.scaling.truncate", false); /* files do not say; no model rounds */
}

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->window = fact_int_or(f, "sliding_window", 128);
    hparams_experts_hf(f, hp, "num_local_experts", hp->n_ff);
    common(hp);
    hparams_layer_types(f, hp);
    double limit = fact_real_or(f, "swiglu_limit", SWIGLU_LIMIT);
    if (limit != SWIGLU_LIMIT)
        fact_fail(f, ERR_UNSUPPORTED, "swiglu_limit is %g; %g is supported", limit, SWIGLU_LIMIT);
}

static const char *const hf_types[] = {"gpt_oss", NULL};

const struct arch_desc arch_gpt_oss = {
    .name = "gpt-oss",
    .hf_types = hf_types,
    .norm = {.kind = NORM_RMS},
    .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES},
    .ffn = {.act = ACTIVATION_SWIGLU_OAI, .gated = true},
    .tensors = tensors,
    .hparams_gguf = hparams_gguf,
    .hparams_hf = hparams_hf,
};
