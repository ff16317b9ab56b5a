/* arch_mpt.c - MosaicML MPT.
 *
 * LayerNorm without biases, fused QKV whose values may be clipped, ALiBi for
 * positions, exact GELU, a tied head. Head counts that are no power of two use
 * ALiBi's second series of slopes.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define HF_B "transformer.blocks.%d."

/* clang-format off */
static const struct tensor_spec tensors[] = {
    {W_EMBD, "token_embd.weight", {DIM_EMBD, DIM_VOCAB}, MUST, "transformer.wte.weight"},
    ROWS_NORM_WB(W_HEAD_NORM, "output_norm", "transformer.norm_f"),
    {W_HEAD, "output.weight", {DIM_EMBD, DIM_VOCAB}, TIED_TO_EMBD, "lm_head.weight"},

    ROWS_NORM_WB(W_ATTN_NORM, "blk.%d.attn_norm", HF_B "norm_1"),
    {W_QKV, "blk.%d.attn_qkv.weight", {DIM_EMBD, DIM_QKV}, MUST, HF_B "attn.Wqkv.weight"},
    {W_QKV_B, "blk.%d.attn_qkv.bias", {DIM_QKV}, MAY, HF_B "attn.Wqkv.bias"},
    ROWS_LINEAR_WB(W_O, "blk.%d.attn_output", DIM_ATTN, DIM_EMBD, HF_B "attn.out_proj"),
    ROWS_NORM_WB(W_FFN_NORM, "blk.%d.ffn_norm", HF_B "norm_2"),
    ROWS_LINEAR_WB(W_UP, "blk.%d.ffn_up", DIM_EMBD, DIM_FF, HF_B "ffn.up_proj"),
    ROWS_LINEAR_WB(W_DOWN, "blk.%d.ffn_down", DIM_FF, DIM_EMBD, HF_B "ffn.down_proj"),
    TENSORS_END,
};
/* clang-format on */

static void refuse_without_alibi(struct facts *f, const struct hparams *hp)
{
    if (!(hp->alibi_max_bias > 0))
        fact_fail(f, ERR_UNSUPPORTED, "MPT without ALiBi is not supported");
}

static void hparams_gguf(struct facts *f, struct hparams *hp)
{
    refuse_without_alibi(f, hp);
}

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    int ratio = fact_int_or(f, "expansion_ratio", 4);

    if (ratio < 1 || ratio > 64)
        fact_fail(f, ERR_FORMAT, "expansion_ratio is %d", ratio);
    else
        hp->n_ff = hp->n_embd > 0 && hp->n_embd < 1 << 24 ? hp->n_embd * ratio : 0;
    hp->n_head_kv = fact_int_or(f, "attn_config.kv_n_heads", hp->n_head);
    hp->attn_clip_qkv = (float)fact_real_or(f, "attn_config.clip_qkv", 0);
    hp->attn_scale = (float)fact_real_or(f, "attn_config.softmax_scale", 0);
    if (fact_bool_or(f, "attn_config.alibi", false))
        hp->alibi_max_bias = (float)fact_real_or(f, "attn_config.alibi_bias_max", 8);
    if (fact_bool_or(f, "attn_config.qk_ln", false) || fact_bool_or(f, "attn_config.prefix_lm", false))
        fact_fail(f, ERR_UNSUPPORTED, "MPT with qk_ln or prefix_lm is not supported");
    refuse_without_alibi(f, hp);
}

static const char *const hf_types[] = {"mpt", NULL};

const struct arch_desc arch_mpt = {
    .name = "mpt",
    .hf_types = hf_types,
    .norm = {.kind = NORM_LAYER},
    .ffn = {.act = ACTIVATION_GELU_ERF},
    .tensors = tensors,
    .hparams_gguf = hparams_gguf,
    .hparams_hf = hparams_hf,
};
