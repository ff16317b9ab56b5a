/* arch_falcon.c - Falcon: 7B (one KV head), 40B and 180B (groups), RW (ALiBi).
 *
 * LayerNorm, no gate, exact GELU, fused QKV. 7B, 40B and 180B compute attention
 * and feed-forward from the same input and add both; 7B norms it once, the others
 * have one norm for each half. RW is serial, with biases, and has ALiBi instead of
 * rotation - added before the scaling by 1/sqrt(head_dim), so it is scaled too.
 *
 * HF stores QKV per group: the queries of a KV head, its key, its value; 7B's
 * single group makes that plain [Q | K | V], RW's groups are single heads. The
 * converter to GGUF puts them in order.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define HF_H "transformer.h.%d."

/* clang-format off */
static const struct tensor_spec tensors[] = {
    {W_EMBD, "token_embd.weight", {DIM_EMBD, DIM_VOCAB}, MUST, "transformer.word_embeddings.weight"},
    ROWS_NORM_WB(W_HEAD_NORM, "output_norm", "transformer.ln_f"),
    {W_HEAD, "output.weight", {DIM_EMBD, DIM_VOCAB}, TIED_TO_EMBD, "lm_head.weight"},

    {W_ATTN_NORM, "blk.%d.attn_norm.weight", {DIM_EMBD}, MUST, HF_H "input_layernorm.weight"},
    {W_ATTN_NORM, NULL, {DIM_EMBD}, MUST, HF_H "ln_mlp.weight"},
    {W_ATTN_NORM_B, "blk.%d.attn_norm.bias", {DIM_EMBD}, MUST, HF_H "input_layernorm.bias"},
    {W_ATTN_NORM_B, NULL, {DIM_EMBD}, MUST, HF_H "ln_mlp.bias"},
    {W_ATTN_NORM2, "blk.%d.attn_norm_2.weight", {DIM_EMBD}, MAY, HF_H "ln_attn.weight"},
    {W_ATTN_NORM2_B, "blk.%d.attn_norm_2.bias", {DIM_EMBD}, MAY, HF_H "ln_attn.bias"},
    {W_QKV, "blk.%d.attn_qkv.weight", {DIM_EMBD, DIM_QKV}, MUST, HF_H "self_attention.query_key_value.weight",
      .hf_layout = PICK_GROUPED},
    {W_QKV_B, NULL, {DIM_QKV}, MAY, HF_H "self_attention.query_key_value.bias", .hf_layout = PICK_GROUPED},
    ROWS_LINEAR_WB(W_O, "blk.%d.attn_output", DIM_ATTN, DIM_EMBD, HF_H "self_attention.dense"),

    {W_FFN_NORM, NULL, {DIM_EMBD}, MAY, HF_H "post_attention_layernorm.weight"},
    {W_FFN_NORM_B, NULL, {DIM_EMBD}, MAY, HF_H "post_attention_layernorm.bias"},
    ROWS_LINEAR_WB(W_UP, "blk.%d.ffn_up", DIM_EMBD, DIM_FF, HF_H "mlp.dense_h_to_4h"),
    ROWS_LINEAR_WB(W_DOWN, "blk.%d.ffn_down", DIM_FF, DIM_EMBD, HF_H "mlp.dense_4h_to_h"),
    TENSORS_END,
};
/* clang-format on */

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    if (fact_bool_or(f, "new_decoder_architecture", false))
        hp->n_head_kv = fact_int_or(f, "num_kv_heads", hp->n_head);
    else if (fact_bool_or(f, "multi_query", true))
        hp->n_head_kv = 1;
    hp->n_ff = fact_int_or(f, "ffn_hidden_size", hp->n_ff);
    if (fact_bool_or(f, "alibi", false)) {
        hp->rope_kind = ROPE_NONE;
        hp->alibi_max_bias = 8;
    }
}

static const char *const hf_types[] = {"falcon", "RefinedWeb", "RefinedWebModel", NULL};

#define FALCON                                                                           \
    .name = "falcon", .hf_types = hf_types, .norm = {.kind = NORM_LAYER},                \
    .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES}, .attn = {.kq_alibi_scaled = true}, \
    .ffn = {.act = ACTIVATION_GELU_ERF}, .tensors = tensors, .hparams_hf = hparams_hf

static const struct arch_desc serial = {FALCON, .block = BLOCK_SERIAL};

static const struct arch_desc *variant(struct facts *f)
{
    bool parallel = f->gguf || fact_bool_or(f, "new_decoder_architecture", false) ||
                    fact_bool_or(f, "parallel_attn", true);

    return parallel ? NULL : &serial;
}

const struct arch_desc arch_falcon = {FALCON, .block = BLOCK_PARALLEL, .variant = variant};
