/* arch_qwen2.c - Qwen 2 and 2.5, dense and with experts.
 *
 * A Llama block with biases on Q, K and V. The expert model adds to the chosen
 * experts a shared one whose output is scaled by a sigmoid of its own gate; the
 * router's weights are not renormalised.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define ROWS_QWEN2 ROWS_MODEL(0), ROWS_ATTN_NORM(0), ROWS_ATTN, ROWS_ATTN_QKV_BIAS(MUST), ROWS_FFN_NORM(0)

/* clang-format off */
static const struct tensor_spec dense[] = {
    ROWS_QWEN2,
    ROWS_FFN_GATED(MUST),
    TENSORS_END,
};

static const struct tensor_spec experts[] = {
    ROWS_QWEN2,
    ROWS_FFN_GATED(MUST_DENSE),
    ROWS_EXPERTS_MLP,
    ROWS_SHARED_EXPERT(MUST_EXPERTS, "mlp.shared_expert"),
    {W_SHEXP_GATE, "blk.%d.ffn_gate_inp_shexp.weight", {DIM_EMBD, DIM_ONE}, MUST_EXPERTS,
      HF_LAYER "mlp.shared_expert_gate.weight"},
    TENSORS_END,
};
/* clang-format on */

static void dense_hf(struct facts *f, struct hparams *hp)
{
    hparams_window_qwen(f, hp);
}

static void experts_gguf(struct facts *f, struct hparams *hp)
{
    hp->moe_norm_weights = fact_bool_or(f, "expert_weights_norm", false);
    if (hp->n_ff_shared == 0)
        hp->n_ff_shared = hp->n_ff;
    hp->n_expert_shared = 1;
}

static void experts_hf(struct facts *f, struct hparams *hp)
{
    hparams_window_qwen(f, hp);
    hparams_experts_hf(f, hp, "num_experts", fact_int(f, "moe_intermediate_size"));
    hp->moe_norm_weights = fact_bool_or(f, "norm_topk_prob", false);
    hp->n_ff_shared = fact_int(f, "shared_expert_intermediate_size");
    hp->n_expert_shared = 1;
    hparams_sparse_step(f, hp);
}

static const char *const dense_types[] = {"qwen2", NULL};
static const char *const expert_types[] = {"qwen2_moe", NULL};

#define QWEN2                                                                     \
    .norm = {.kind = NORM_RMS}, .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES}, \
    .ffn = {.act = ACTIVATION_SILU, .gated = true}

const struct arch_desc arch_qwen2 = {
    .name = "qwen2", .hf_types = dense_types, .tensors = dense, .hparams_hf = dense_hf, QWEN2};
const struct arch_desc arch_qwen2moe = {.name = "qwen2moe",
                                        .hf_types = expert_types,
                                        .tensors = experts,
                                        .hparams_gguf = experts_gguf,
                                        .hparams_hf = experts_hf,
                                        QWEN2};
