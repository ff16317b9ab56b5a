/* arch_bloom.c - BLOOM and BLOOMZ.
 *
 * ALiBi for positions, LayerNorm with biases also behind the embedding, tanh GELU,
 * a tied head. HF interleaves Q, K and V per head.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define HF_H "transformer.h.%d."

/* clang-format off */
static const struct tensor_spec tensors[] = {
    {W_EMBD, "token_embd.weight", {DIM_EMBD, DIM_VOCAB}, MUST, "transformer.word_embeddings.weight"},
    ROWS_NORM_WB(W_EMBD_NORM, "token_embd_norm", "transformer.word_embeddings_layernorm"),
    ROWS_NORM_WB(W_HEAD_NORM, "output_norm", "transformer.ln_f"),
    {W_HEAD, "output.weight", {DIM_EMBD, DIM_VOCAB}, TIED_TO_EMBD, "lm_head.weight"},
    ROWS_NORM_WB(W_ATTN_NORM, "blk.%d.attn_norm", HF_H "input_layernorm"),
    {W_QKV, "blk.%d.attn_qkv.weight", {DIM_EMBD, DIM_QKV}, MUST, HF_H "self_attention.query_key_value.weight",
      .hf_layout = PICK_GROUPED},
    {W_QKV_B, "blk.%d.attn_qkv.bias", {DIM_QKV}, MAY, HF_H "self_attention.query_key_value.bias",
      .hf_layout = PICK_GROUPED},
    ROWS_LINEAR_WB(W_O, "blk.%d.attn_output", DIM_ATTN, DIM_EMBD, HF_H "self_attention.dense"),
    ROWS_NORM_WB(W_FFN_NORM, "blk.%d.ffn_norm", HF_H "post_attention_layernorm"),
    ROWS_LINEAR_WB(W_UP, "blk.%d.ffn_up", DIM_EMBD, DIM_FF, HF_H "mlp.dense_h_to_4h"),
    ROWS_LINEAR_WB(W_DOWN, "blk.%d.ffn_down", DIM_FF, DIM_EMBD, HF_H "mlp.dense_4h_to_h"),
    TENSORS_END,
};
/* clang-format on */

static void common(struct facts *f, struct hparams *hp)
{
    hp->alibi_max_bias = 8;
    if (fact_bool_or(f, "apply_residual_connection_post_layernorm", false))
        fact_fail(f, ERR_UNSUPPORTED, "apply_residual_connection_post_layernorm is not supported");
}

static const char *const hf_types[] = {"bloom", NULL};

const struct arch_desc arch_bloom = {
    .name = "bloom",
    .hf_types = hf_types,
    .norm = {.kind = NORM_LAYER},
    .ffn = {.act = ACTIVATION_GELU_TANH},
    .tensors = tensors,
    .hparams_gguf = common,
    .hparams_hf = common,
};
