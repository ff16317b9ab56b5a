/* arch_bert.c - BERT and its kin, as encoders for embeddings.
 *
 * Every token sees every other. Token, position and type embeddings are added and
 * normalised; each half's output is added to its input and the sum is normalised.
 * There is no head: the result is the last hidden state, pooled by whoever asks.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define HF_L "encoder.layer.%d."

/* clang-format off */
static const struct tensor_spec tensors[] = {
    {W_EMBD, "token_embd.weight", {DIM_EMBD, DIM_VOCAB}, MUST, "embeddings.word_embeddings.weight"},
    {W_POS_EMBD, "position_embd.weight", {DIM_EMBD, DIM_CTX}, MUST, "embeddings.position_embeddings.weight"},
    {W_TYPE_EMBD, "token_types.weight", {DIM_EMBD, DIM_TYPES}, MAY, "embeddings.token_type_embeddings.weight"},
    ROWS_NORM_WB(W_EMBD_NORM, "token_embd_norm", "embeddings.LayerNorm"),
    {W_Q, "blk.%d.attn_q.weight", {DIM_EMBD, DIM_Q}, MUST, HF_L "attention.self.query.weight"},
    {W_K, "blk.%d.attn_k.weight", {DIM_EMBD, DIM_K}, MUST, HF_L "attention.self.key.weight"},
    {W_V, "blk.%d.attn_v.weight", {DIM_EMBD, DIM_V}, MUST, HF_L "attention.self.value.weight"},
    {W_Q_B, "blk.%d.attn_q.bias", {DIM_Q}, MUST, HF_L "attention.self.query.bias"},
    {W_K_B, "blk.%d.attn_k.bias", {DIM_K}, MUST, HF_L "attention.self.key.bias"},
    {W_V_B, "blk.%d.attn_v.bias", {DIM_V}, MUST, HF_L "attention.self.value.bias"},
    ROWS_LINEAR_WB(W_O, "blk.%d.attn_output", DIM_ATTN, DIM_EMBD, HF_L "attention.output.dense"),
    ROWS_NORM_WB(W_ATTN_POST_NORM, "blk.%d.attn_output_norm", HF_L "attention.output.LayerNorm"),
    ROWS_LINEAR_WB(W_UP, "blk.%d.ffn_up", DIM_EMBD, DIM_FF, HF_L "intermediate.dense"),
    ROWS_LINEAR_WB(W_DOWN, "blk.%d.ffn_down", DIM_FF, DIM_EMBD, HF_L "output.dense"),
    ROWS_NORM_WB(W_FFN_POST_NORM, "blk.%d.layer_output_norm", HF_L "output.LayerNorm"),
    TENSORS_END,
};
/* clang-format on */

static void hparams_gguf(struct facts *f, struct hparams *hp)
{
    const int pooling = fact_int_or(f, "pooling_type", 1); /* the format's numbers; 0: not said */
    if (pooling > 2)
        fact_fail(f, ERR_UNSUPPORTED, "pooling_type %d: embeddings are pooled by mean (1) or first token (2)", pooling);
    hp->causal = false;
    hp->pool_first = pooling == 2;
    hp->n_token_types = fact_int_or(f, ".tokenizer.ggml.token_type_count", 2);
}

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->causal = false;
    hp->pool_first = fact_bool_or(f, "pooling_mode_cls_token", false);
    if (fact_bool_or(f, "pooling_mode_max_tokens", false) || fact_bool_or(f, "pooling_mode_lasttoken", false))
        fact_fail(f, ERR_UNSUPPORTED, "1_Pooling: embeddings are pooled by mean or first token");
    hp->n_token_types = fact_int_or(f, "type_vocab_size", 2);
    if (!fact_is(f, "position_embedding_type", "absolute") && fact_has(f, "position_embedding_type"))
        fact_fail(f, ERR_UNSUPPORTED, "only absolute positions are supported");
}

static const char *const hf_types[] = {"bert", NULL};
static const char *const ignore[] = {"pooler.", "position_ids", "cls.", NULL};

const struct arch_desc arch_bert = {
    .name = "bert",
    .hf_types = hf_types,
    .block = BLOCK_POST_NORM,
    .norm = {.kind = NORM_LAYER},
    .ffn = {.act = ACTIVATION_GELU_ERF},
    .pos_embd = true,
    .tensors = tensors,
    .ignore = ignore,
    .hparams_gguf = hparams_gguf,
    .hparams_hf = hparams_hf,
};
