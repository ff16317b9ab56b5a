/* arch_stablelm.c - Stability AI StableLM 2 and 3B.
 *
 * A Llama block with LayerNorm, a quarter of each head rotated, sometimes biases
 * on Q, K and V. The 12B model computes both halves from one norm and normalises
 * queries and keys with a gain for every head.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define ROWS_STABLELM                                                                         \
    {W_EMBD, "token_embd.weight", {DIM_EMBD, DIM_VOCAB}, MUST, "model.embed_tokens.weight"},  \
        ROWS_NORM_WB(W_HEAD_NORM, "output_norm", "model.norm"),                               \
        {W_HEAD, "output.weight", {DIM_EMBD, DIM_VOCAB}, TIED_TO_EMBD, "lm_head.weight"},     \
        ROWS_NORM_WB(W_ATTN_NORM, "blk.%d.attn_norm", HF_LAYER "input_layernorm"), ROWS_ATTN, \
        ROWS_ATTN_QKV_BIAS(MAY), ROWS_FFN_GATED(MUST)

/* clang-format off */
static const struct tensor_spec serial[] = {
    ROWS_STABLELM,
    ROWS_NORM_WB(W_FFN_NORM, "blk.%d.ffn_norm", HF_LAYER "post_attention_layernorm"),
    TENSORS_END,
};

static const struct tensor_spec parallel_normed[] = {
    ROWS_STABLELM,
    {W_Q_NORM, "blk.%d.attn_q_norm.weight", {DIM_HEAD, DIM_N_HEAD}, MUST,
      HF_LAYER "self_attn.q_layernorm.norms.%e.weight", .hf_layout = LAYOUT_EACH},
    {W_K_NORM, "blk.%d.attn_k_norm.weight", {DIM_HEAD, DIM_N_HEAD_KV}, MUST,
      HF_LAYER "self_attn.k_layernorm.norms.%e.weight", .hf_layout = LAYOUT_EACH},
    TENSORS_END,
};
/* clang-format on */

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->norm_eps =
        (float)fact_real_or(f, "layer_norm_eps", 1e-5); /* rms_norm_eps may be there too, and means nothing */
    if (!fact_has(f, "partial_rotary_factor"))
        hp->n_rot = hp->head_dim_k / 4;
}

static const char *const hf_types[] = {"stablelm", "stablelm_epoch", NULL};

#define STABLELM                                                                                      \
    .name = "stablelm", .hf_types = hf_types, .norm = {.kind = NORM_LAYER},                           \
    .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES}, .ffn = {.act = ACTIVATION_SILU, .gated = true}, \
    .hparams_hf = hparams_hf

static const struct arch_desc twelve_b = {STABLELM, .block = BLOCK_PARALLEL, .tensors = parallel_normed,
                                          .attn = {.qk_norm = QK_NORM_PER_HEAD}};

static const struct arch_desc *variant(struct facts *f)
{
    bool parallel = fact_bool_or(f, "use_parallel_residual", false);

    if (!f->gguf && parallel != fact_bool_or(f, "qk_layernorm", false))
        fact_fail(f, ERR_UNSUPPORTED, "use_parallel_residual and qk_layernorm are supported only together");
    return parallel ? &twelve_b : NULL;
}

const struct arch_desc arch_stablelm = {STABLELM, .tensors = serial, .variant = variant};
