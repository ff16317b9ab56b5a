/* arch_olmo2.c - OLMo 2.
 *
 * Llama's parts in another order: nothing is normalised before attention and
 * feed-forward, their outputs are, before they are added. Queries and keys are
 * RMS-normalised over the whole projection, not per head.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

/* clang-format off */
static const struct tensor_spec tensors[] = {
    ROWS_MODEL(0),
    ROWS_ATTN,
    {W_Q_NORM, "blk.%d.attn_q_norm.weight", {DIM_Q}, MUST, HF_LAYER "self_attn.q_norm.weight"},
    {W_K_NORM, "blk.%d.attn_k_norm.weight", {DIM_K}, MUST, HF_LAYER "self_attn.k_norm.weight"},
    ROWS_POST_NORMS("post_attention_layernorm.weight", "post_feedforward_layernorm.weight", 0),
    ROWS_FFN_GATED(MUST),
    TENSORS_END,
};
/* clang-format on */

static const char *const hf_types[] = {"olmo2", NULL};

const struct arch_desc arch_olmo2 = {
    .name = "olmo2",
    .hf_types = hf_types,
    .norm = {.kind = NORM_RMS, .post_only = true},
    .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES},
    .attn = {.qk_norm = QK_NORM_FULL},
    .ffn = {.act = ACTIVATION_SILU, .gated = true},
    .tensors = tensors,
};
