/* arch_qwen3.c - Qwen 3, dense and with experts.
 *
 * A Llama block with one difference that matters: queries and keys are
 * RMS-normalised per head before rotation, with one gain vector of length
 * head_dim shared by all heads. head_dim is given by the file and is not
 * n_embd / n_head. The router's weights are renormalised over the chosen.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define ROWS_QWEN3                                                                                 \
    ROWS_MODEL(0), ROWS_ATTN_NORM(0), ROWS_ATTN, ROWS_ATTN_QKV_BIAS(MAY), ROWS_ATTN_OUT_BIAS(MAY), \
        ROWS_QK_NORM(0), ROWS_FFN_NORM(0)

/* clang-format off */
static const struct tensor_spec dense[] = {
    ROWS_QWEN3,
    ROWS_FFN_GATED(MUST),
    TENSORS_END,
};

static const struct tensor_spec experts[] = {
    ROWS_QWEN3,
    ROWS_FFN_GATED(MUST_DENSE),
    ROWS_EXPERTS_MLP,
    TENSORS_END,
};
/* clang-format on */

static void experts_hf(struct facts *f, struct hparams *hp)
{
    hparams_window_qwen(f, hp);
    hparams_experts_hf(f, hp, "num_experts", fact_int(f, "moe_intermediate_size"));
    hp->moe_norm_weights = fact_bool_or(f, "norm_topk_prob", false);
    hparams_sparse_step(f, hp);
}

static const char *const dense_types[] = {"qwen3", NULL};
static const char *const expert_types[] = {"qwen3_moe", NULL};

#define QWEN3                                                                     \
    .norm = {.kind = NORM_RMS}, .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES}, \
    .attn = {.qk_norm = QK_NORM_HEAD}, .ffn = {.act = ACTIVATION_SILU, .gated = true}

const struct arch_desc arch_qwen3 = {
    .name = "qwen3", .hf_types = dense_types, .tensors = dense, .hparams_hf = hparams_window_qwen, QWEN3};
const struct arch_desc arch_qwen3moe = {
    .name = "qwen3moe", .hf_types = expert_types, .tensors = experts, .hparams_hf = experts_hf, QWEN3};
