/* arch_gpt2.c - GPT-2 and what is built like it.
 *
 * LayerNorm, biases, tanh GELU, learned absolute positions, a tied head. HF stores
 * its matrices as Conv1D, [in][out].
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define HF_H "transformer.h.%d."
#define ROWS_CONV1D_WB(role, gguf, cols, rows, hf)                                            \
    {role, gguf ".weight", {cols, rows}, MUST, hf ".weight", .hf_layout = LAYOUT_TRANSPOSED}, \
    {                                                                                         \
        role##_B, gguf ".bias", {rows}, MUST, hf ".bias"                                      \
    }

/* clang-format off */
static const struct tensor_spec tensors[] = {
    {W_EMBD, "token_embd.weight", {DIM_EMBD, DIM_VOCAB}, MUST, "transformer.wte.weight"},
    {W_POS_EMBD, "position_embd.weight", {DIM_EMBD, DIM_CTX}, MUST, "transformer.wpe.weight"},
    ROWS_NORM_WB(W_HEAD_NORM, "output_norm", "transformer.ln_f"),
    {W_HEAD, "output.weight", {DIM_EMBD, DIM_VOCAB}, TIED_TO_EMBD, "lm_head.weight"},
    ROWS_NORM_WB(W_ATTN_NORM, "blk.%d.attn_norm", HF_H "ln_1"),
    ROWS_CONV1D_WB(W_QKV, "blk.%d.attn_qkv", DIM_EMBD, DIM_QKV, HF_H "attn.c_attn"),
    ROWS_CONV1D_WB(W_O, "blk.%d.attn_output", DIM_ATTN, DIM_EMBD, HF_H "attn.c_proj"),
    ROWS_NORM_WB(W_FFN_NORM, "blk.%d.ffn_norm", HF_H "ln_2"),
    ROWS_CONV1D_WB(W_UP, "blk.%d.ffn_up", DIM_EMBD, DIM_FF, HF_H "mlp.c_fc"),
    ROWS_CONV1D_WB(W_DOWN, "blk.%d.ffn_down", DIM_FF, DIM_EMBD, HF_H "mlp.c_proj"),
    TENSORS_END,
};
/* clang-format on */

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->n_ff = fact_int_or(f, "n_inner", hp->n_ff);
    if (!fact_bool_or(f, "scale_attn_weights", true))
        hp->attn_scale = 1;
    if (fact_bool_or(f, "scale_attn_by_inverse_layer_idx", false))
        fact_fail(f, ERR_UNSUPPORTED, "scale_attn_by_inverse_layer_idx is not supported");
}

static const char *const hf_types[] = {"gpt2", NULL};
static const char *const ignore[] = {".attn.bias", ".attn.masked_bias", NULL};

const struct arch_desc arch_gpt2 = {
    .name = "gpt2",
    .hf_types = hf_types,
    .norm = {.kind = NORM_LAYER},
    .ffn = {.act = ACTIVATION_GELU_TANH},
    .pos_embd = true,
    .tensors = tensors,
    .ignore = ignore,
    .hparams_hf = hparams_hf,
};
