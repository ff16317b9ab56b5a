/* arch_starcoder2.c - StarCoder 2.
 *
 * Llama's attention with LayerNorm, biases everywhere, a plain feed-forward with
 * GELU, a sliding window in all layers and a tied head.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

/* clang-format off */
static const struct tensor_spec tensors[] = {
    {W_EMBD, "token_embd.weight", {DIM_EMBD, DIM_VOCAB}, MUST, "model.embed_tokens.weight"},
    ROWS_NORM_WB(W_HEAD_NORM, "output_norm", "model.norm"),
    {W_HEAD, "output.weight", {DIM_EMBD, DIM_VOCAB}, TIED_TO_EMBD, "lm_head.weight"},
    ROWS_NORM_WB(W_ATTN_NORM, "blk.%d.attn_norm", HF_LAYER "input_layernorm"),
    ROWS_ATTN,
    ROWS_ATTN_QKV_BIAS(MAY),
    ROWS_ATTN_OUT_BIAS(MAY),
    ROWS_NORM_WB(W_FFN_NORM, "blk.%d.ffn_norm", HF_LAYER "post_attention_layernorm"),
    ROWS_LINEAR_WB(W_UP, "blk.%d.ffn_up", DIM_EMBD, DIM_FF, HF_LAYER "mlp.c_fc"),
    ROWS_LINEAR_WB(W_DOWN, "blk.%d.ffn_down", DIM_FF, DIM_EMBD, HF_LAYER "mlp.c_proj"),
    TENSORS_END,
};
/* clang-format on */

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->norm_eps =
        (float)fact_real_or(f, "norm_epsilon", 1e-5); /* rms_norm_eps may be there too, and means nothing */
    hp->window = fact_int_or(f, "sliding_window", 0);
    hparams_window_all(hp);
}

static const char *const hf_types[] = {"starcoder2", NULL};

const struct arch_desc arch_starcoder2 = {
    .name = "starcoder2",
    .hf_types = hf_types,
    .norm = {.kind = NORM_LAYER},
    .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES},
    .ffn = {.act = ACTIVATION_GELU_TANH},
    .tensors = tensors,
    .hparams_hf = hparams_hf,
};
