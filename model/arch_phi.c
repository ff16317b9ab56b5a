/* arch_phi.c - Phi 2, and Phi 3 / 4.
 *
 * Phi 2 is a GPT-J style block: one LayerNorm feeds attention and feed-forward,
 * both are added; biases everywhere, part of each head is rotated.
 *
 * Phi 3 and 4 are Llama blocks with fused QKV and fused gate and up. Long-context
 * versions divide the rotation frequencies by one of two tables: the short one
 * until a sequence passes original_max_position_embeddings, then the long one.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

/* clang-format off */
static const struct tensor_spec second[] = {
    {W_EMBD, "token_embd.weight", {DIM_EMBD, DIM_VOCAB}, MUST, "model.embed_tokens.weight"},
    ROWS_NORM_WB(W_HEAD_NORM, "output_norm", "model.final_layernorm"),
    {W_HEAD, "output.weight", {DIM_EMBD, DIM_VOCAB}, TIED_TO_EMBD, "lm_head.weight"},
    {W_HEAD_B, "output.bias", {DIM_VOCAB}, MAY, "lm_head.bias"},
    ROWS_NORM_WB(W_ATTN_NORM, "blk.%d.attn_norm", HF_LAYER "input_layernorm"),
    {W_QKV, "blk.%d.attn_qkv.weight", {DIM_EMBD, DIM_QKV}, MAY, NULL},
    {W_QKV_B, "blk.%d.attn_qkv.bias", {DIM_QKV}, MAY, NULL},
    {W_Q, "blk.%d.attn_q.weight", {DIM_EMBD, DIM_Q}, MAY, HF_LAYER "self_attn.q_proj.weight"},
    {W_K, "blk.%d.attn_k.weight", {DIM_EMBD, DIM_K}, MAY, HF_LAYER "self_attn.k_proj.weight"},
    {W_V, "blk.%d.attn_v.weight", {DIM_EMBD, DIM_V}, MAY, HF_LAYER "self_attn.v_proj.weight"},
    ROWS_ATTN_QKV_BIAS(MAY),
    ROWS_LINEAR_WB(W_O, "blk.%d.attn_output", DIM_ATTN, DIM_EMBD, HF_LAYER "self_attn.dense"),
    ROWS_LINEAR_WB(W_UP, "blk.%d.ffn_up", DIM_EMBD, DIM_FF, HF_LAYER "mlp.fc1"),
    ROWS_LINEAR_WB(W_DOWN, "blk.%d.ffn_down", DIM_FF, DIM_EMBD, HF_LAYER "mlp.fc2"),
    TENSORS_END,
};

static const struct tensor_spec third[] = {
    ROWS_MODEL(0),
    ROWS_ROPE_FACTORS,
    ROWS_ATTN_NORM(0),
    {W_QKV, "blk.%d.attn_qkv.weight", {DIM_EMBD, DIM_QKV}, MUST, HF_LAYER "self_attn.qkv_proj.weight"},
    {W_O, "blk.%d.attn_output.weight", {DIM_ATTN, DIM_EMBD}, MUST, HF_LAYER "self_attn.o_proj.weight"},
    ROWS_FFN_NORM(0),
    {W_GATE_UP, "blk.%d.ffn_up.weight", {DIM_EMBD, DIM_FF2}, MUST, HF_LAYER "mlp.gate_up_proj.weight"},
    {W_DOWN, "blk.%d.ffn_down.weight", {DIM_FF, DIM_EMBD}, MUST, HF_LAYER "mlp.down_proj.weight"},
    TENSORS_END,
};
/* clang-format on */

static void second_hf(struct facts *f, struct hparams *hp)
{
    if (fact_bool_or(f, "qk_layernorm", false))
        fact_fail(f, ERR_UNSUPPORTED, "Phi with qk_layernorm is not supported");
    hp->norm_eps =
        (float)fact_real_or(f, "layer_norm_eps", 1e-5); /* some configs carry another family's key too */
}

static void third_gguf(struct facts *f, struct hparams *hp)
{
    /* longrope is told by its tables alone, and the factor is in the file */
    hp->longrope_short_mscale = hp->longrope_long_mscale =
        (float)fact_real_or(f, "rope.scaling.attn_factor", 0);
}

static void third_hf(struct facts *f, struct hparams *hp)
{
    hp->window = fact_int_or(f, "sliding_window", 0);
    hparams_window_all(hp);
}

static const char *const second_types[] = {"phi", NULL};
static const char *const third_types[] = {"phi3", NULL};

const struct arch_desc arch_phi2 = {
    .name = "phi2",
    .hf_types = second_types,
    .block = BLOCK_PARALLEL,
    .norm = {.kind = NORM_LAYER},
    .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES},
    .ffn = {.act = ACTIVATION_GELU_TANH},
    .tensors = second,
    .hparams_hf = second_hf,
};

const struct arch_desc arch_phi3 = {
    .name = "phi3",
    .hf_types = third_types,
    .norm = {.kind = NORM_RMS},
    .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES},
    .ffn = {.act = ACTIVATION_SILU, .gated = true},
    .tensors = third,
    .hparams_gguf = third_gguf,
    .hparams_hf = third_hf,
};
