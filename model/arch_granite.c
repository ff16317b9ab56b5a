/* arch_granite.c - IBM Granite 3.x, dense and with experts.
 *
 * A Llama block with four multipliers: on the embedding, on what each half adds to
 * the residual, on q.k in place of 1/sqrt(head_dim), and a divisor of the logits.
 * The file holds the divisor; hparams.logit_scale is its inverse.
 *
 * The expert models are a family of their own by name in both formats: router
 * logits are cut to the best first and the softmax is over those, and HF stores
 * gate and up of all experts in one tensor.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define MOE "block_sparse_moe."

#define ROWS_GRANITE                                                                               \
    ROWS_MODEL(0), ROWS_ATTN_NORM(0), ROWS_ATTN, ROWS_ATTN_QKV_BIAS(MAY), ROWS_ATTN_OUT_BIAS(MAY), \
        ROWS_FFN_NORM(0)

/* clang-format off */
static const struct tensor_spec dense[] = {
    ROWS_GRANITE,
    ROWS_ROPE_FACTORS,
    ROWS_FFN_GATED(MUST),
    TENSORS_END,
};

static const struct tensor_spec experts[] = {
    ROWS_GRANITE,
    {W_ROUTER, "blk.%d.ffn_gate_inp.weight", {DIM_EMBD, DIM_EXPERTS}, MUST, HF_LAYER MOE "router.layer.weight"},
    {W_GATE_UP_EXPS, NULL, {DIM_EMBD, DIM_FF_EXP2, DIM_EXPERTS}, MAY, HF_LAYER MOE "input_linear.weight"},
    {W_GATE_EXPS, "blk.%d.ffn_gate_exps.weight", {DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS}, MAY, NULL},
    {W_UP_EXPS, "blk.%d.ffn_up_exps.weight", {DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS}, MAY, NULL},
    {W_DOWN_EXPS, "blk.%d.ffn_down_exps.weight", {DIM_FF_EXP, DIM_EMBD, DIM_EXPERTS}, MUST,
      HF_LAYER MOE "output_linear.weight"},
    TENSORS_END,
};
/* clang-format on */

static void invert_logit_scale(struct facts *f, struct hparams *hp, double divisor)
{
    if (!(divisor > 0))
        fact_fail(f, ERR_FORMAT, "the logit divisor is %g", divisor);
    else
        hp->logit_scale = (float)(1 / divisor);
}

static void hparams_gguf(struct facts *f, struct hparams *hp)
{
    invert_logit_scale(f, hp, fact_real_or(f, "logit_scale", 1));
    hp->moe_gate = MOE_SOFTMAX_TOPK;
    hp->moe_norm_weights = false; /* they sum to 1 already */
}

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->embed_scale = (float)fact_real_or(f, "embedding_multiplier", 1);
    hp->residual_scale = (float)fact_real_or(f, "residual_multiplier", 1);
    hp->attn_scale = (float)fact_real_or(f, "attention_multiplier", 1);
    invert_logit_scale(f, hp, fact_real_or(f, "logits_scaling", 1));
    hparams_experts_hf(f, hp, "num_local_experts", hp->n_ff);
    hp->moe_gate = MOE_SOFTMAX_TOPK;
    hp->moe_norm_weights = false;
}

static const char *const dense_types[] = {"granite", NULL};
static const char *const expert_types[] = {"granitemoe", NULL};

#define GRANITE                                                                  \
    .norm = {.kind = NORM_RMS}, .rope = {.gguf = ROPE_PAIRS, .hf = ROPE_HALVES}, \
    .ffn = {.act = ACTIVATION_SILU, .gated = true}, .hparams_gguf = hparams_gguf, .hparams_hf = hparams_hf

const struct arch_desc arch_granite = {.name = "granite", .hf_types = dense_types, .tensors = dense, GRANITE};
const struct arch_desc arch_granitemoe = {
    .name = "granitemoe", .hf_types = expert_types, .tensors = experts, GRANITE};
