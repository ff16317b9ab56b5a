/* arch_gpt_neox.c - GPT-NeoX 20B, Pythia.
 *
 * LayerNorm, biases, exact GELU, a quarter of each head rotated. Attention and
 * feed-forward start from the same input through norms of their own and both are
 * added (a few models are serial). HF interleaves Q, K and V per head.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define HF_L "gpt_neox.layers.%d."

/* clang-format off */
static const struct tensor_spec tensors[] = {
    {W_EMBD, "token_embd.weight", {DIM_EMBD, DIM_VOCAB}, MUST, "gpt_neox.embed_in.weight"},
    ROWS_NORM_WB(W_HEAD_NORM, "output_norm", "gpt_neox.final_layer_norm"),
    {W_HEAD, "output.weight", {DIM_EMBD, DIM_VOCAB}, TIED_TO_EMBD, "embed_out.weight"},
    ROWS_NORM_WB(W_ATTN_NORM, "blk.%d.attn_norm", HF_L "input_layernorm"),
    {W_QKV, "blk.%d.attn_qkv.weight", {DIM_EMBD, DIM_QKV}, MUST, HF_L "attention.query_key_value.weight",
      .hf_layout = PICK_GROUPED},
    {W_QKV_B, "blk.%d.attn_qkv.bias", {DIM_QKV}, MAY, HF_L "attention.query_key_value.bias",
      .hf_layout = PICK_GROUPED},
    ROWS_LINEAR_WB(W_O, "blk.%d.attn_output", DIM_ATTN, DIM_EMBD, HF_L "attention.dense"),
    ROWS_NORM_WB(W_FFN_NORM, "blk.%d.ffn_norm", HF_L "post_attention_layernorm"),
    ROWS_LINEAR_WB(W_UP, "blk.%d.ffn_up", DIM_EMBD, DIM_FF, HF_L "mlp.dense_h_to_4h"),
    ROWS_LINEAR_WB(W_DOWN, "blk.%d.ffn_down", DIM_FF, DIM_EMBD, HF_L "mlp.dense_4h_to_h"),
    TENSORS_END,
};
/* clang-format on */

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    if (!fact_has(f, "rotary_pct") && !fact_has(f, "rope_parameters.partial_rotary_factor"))
        hp->n_rot = hp->head_dim_k / 4;
}

static const char *const hf_types[] = {"gpt_neox", NULL};
static const char *const ignore[] = {"rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias",
                                     NULL};

#define NEOX                                                                               \
    .name = "gptneox", .hf_types = hf_types, .norm = {.kind = NORM_LAYER},                 \
    .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES}, .ffn = {.act = ACTIVATION_GELU_ERF}, \
    .tensors = tensors, .ignore = ignore, .hparams_hf = hparams_hf

static const struct arch_desc serial = {NEOX, .block = BLOCK_SERIAL};

static const struct arch_desc *variant(struct facts *f)
{
    return fact_bool_or(f, "use_parallel_residual", true) ? NULL : &serial;
}

const struct arch_desc arch_gpt_neox = {NEOX, .block = BLOCK_PARALLEL, .variant = variant};
