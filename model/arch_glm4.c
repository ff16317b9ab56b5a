/* arch_glm4.c - GLM 4 (0414).
 *
 * A Llama block with a norm behind each half too, fused gate and up, biases on Q,
 * K and V, and half of each head rotated in pairs.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

/* clang-format off */
static const struct tensor_spec tensors[] = {
    ROWS_MODEL(0),
    ROWS_ATTN_NORM(0),
    ROWS_ATTN,
    ROWS_ATTN_QKV_BIAS(MAY),
    ROWS_POST_NORMS("post_self_attn_layernorm.weight", "post_mlp_layernorm.weight", 0),
    ROWS_FFN_NORM(0),
    {W_GATE_UP, "blk.%d.ffn_up.weight", {DIM_EMBD, DIM_FF2}, MUST, HF_LAYER "mlp.gate_up_proj.weight"},
    {W_DOWN, "blk.%d.ffn_down.weight", {DIM_FF, DIM_EMBD}, MUST, HF_LAYER "mlp.down_proj.weight"},
    TENSORS_END,
};
/* clang-format on */

static const char *const hf_types[] = {"glm4", NULL};

const struct arch_desc arch_glm4 = {
    .name = "glm4",
    .hf_types = hf_types,
    .norm = {.kind = NORM_RMS},
    .rope = {.gguf = ROPE_PAIRS, .hf = ROPE_PAIRS},
    .ffn = {.act = ACTIVATION_SILU, .gated = true},
    .tensors = tensors,
};
