/* arch_rows.h - rows of tensor tables that many families share word for word.
 *
 * Most families took Llama's names, in both file formats. A table says by these
 * what it has in common, and writes out only where it differs.
 */
#ifndef CORDEE_MODEL_ARCH_ROWS_H
#define CORDEE_MODEL_ARCH_ROWS_H

#include "model/desc.h"

#define HF_LAYER "model.layers.%d."

/* Embedding, final norm, head. plus_one: LAYOUT_PLUS_ONE for Gemma, else 0. */
#define ROWS_MODEL(plus_one)                                                                             \
    { W_EMBD, "token_embd.weight", { DIM_EMBD, DIM_VOCAB }, MUST, "model.embed_tokens.weight" },         \
    { W_HEAD_NORM, "output_norm.weight", { DIM_EMBD }, MUST, "model.norm.weight", .hf_layout = plus_one }, \
    { W_HEAD, "output.weight", { DIM_EMBD, DIM_VOCAB }, TIED_TO_EMBD, "lm_head.weight" }

/* Divisors of the rotation frequencies: Llama 3's in GGUF, longrope's in both. */
#define ROWS_ROPE_FACTORS                                                                                \
    { W_ROPE_FREQS, "rope_freqs.weight", { DIM_ROT_HALF }, MAY, NULL },                                  \
    { W_ROPE_SHORT, "rope_factors_short.weight", { DIM_ROT_HALF }, MAY, "config.json/short_factor" },    \
    { W_ROPE_LONG, "rope_factors_long.weight", { DIM_ROT_HALF }, MAY, "config.json/long_factor" }

#define ROWS_ATTN_NORM(plus_one)                                                                         \
    { W_ATTN_NORM, "blk.%d.attn_norm.weight", { DIM_EMBD }, MUST, HF_LAYER "input_layernorm.weight",     \
      .hf_layout = plus_one }

/* Q, K, V and output as four matrices. */
#define ROWS_ATTN                                                                                        \
    { W_Q, "blk.%d.attn_q.weight", { DIM_EMBD, DIM_Q }, MUST, HF_LAYER "self_attn.q_proj.weight" },      \
    { W_K, "blk.%d.attn_k.weight", { DIM_EMBD, DIM_K }, MUST, HF_LAYER "self_attn.k_proj.weight" },      \
    { W_V, "blk.%d.attn_v.weight", { DIM_EMBD, DIM_V }, MUST, HF_LAYER "self_attn.v_proj.weight" },      \
    { W_O, "blk.%d.attn_output.weight", { DIM_ATTN, DIM_EMBD }, MUST, HF_LAYER "self_attn.o_proj.weight" }

#define ROWS_ATTN_QKV_BIAS(need)                                                                         \
    { W_Q_B, "blk.%d.attn_q.bias", { DIM_Q }, need, HF_LAYER "self_attn.q_proj.bias" },                  \
    { W_K_B, "blk.%d.attn_k.bias", { DIM_K }, need, HF_LAYER "self_attn.k_proj.bias" },                  \
    { W_V_B, "blk.%d.attn_v.bias", { DIM_V }, need, HF_LAYER "self_attn.v_proj.bias" }

#define ROWS_ATTN_OUT_BIAS(need)                                                                         \
    { W_O_B, "blk.%d.attn_output.bias", { DIM_EMBD }, need, HF_LAYER "self_attn.o_proj.bias" }

/* One gain per head dimension, for all heads. */
#define ROWS_QK_NORM(plus_one)                                                                           \
    { W_Q_NORM, "blk.%d.attn_q_norm.weight", { DIM_HEAD }, MUST, HF_LAYER "self_attn.q_norm.weight",     \
      .hf_layout = plus_one },                                                                           \
    { W_K_NORM, "blk.%d.attn_k_norm.weight", { DIM_HEAD }, MUST, HF_LAYER "self_attn.k_norm.weight",     \
      .hf_layout = plus_one }

#define ROWS_FFN_NORM(plus_one)                                                                          \
    { W_FFN_NORM, "blk.%d.ffn_norm.weight", { DIM_EMBD }, MUST,                                          \
      HF_LAYER "post_attention_layernorm.weight", .hf_layout = plus_one }

#define ROWS_FFN_GATED(need)                                                                             \
    { W_GATE, "blk.%d.ffn_gate.weight", { DIM_EMBD, DIM_FF }, need, HF_LAYER "mlp.gate_proj.weight" },   \
    { W_UP, "blk.%d.ffn_up.weight", { DIM_EMBD, DIM_FF }, need, HF_LAYER "mlp.up_proj.weight" },         \
    { W_DOWN, "blk.%d.ffn_down.weight", { DIM_FF, DIM_EMBD }, need, HF_LAYER "mlp.down_proj.weight" }

/* Gemma 2 and 3, Olmo 2, GLM 4: a norm behind each half. */
#define ROWS_POST_NORMS(attn_hf, ffn_hf, plus_one)                                                       \
    { W_ATTN_POST_NORM, "blk.%d.post_attention_norm.weight", { DIM_EMBD }, MUST, HF_LAYER attn_hf,       \
      .hf_layout = plus_one },                                                                           \
    { W_FFN_POST_NORM, "blk.%d.post_ffw_norm.weight", { DIM_EMBD }, MUST, HF_LAYER ffn_hf,               \
      .hf_layout = plus_one }

/* Experts: stacked in GGUF, one tensor each in HF (and in the oldest GGUF files). */
#define ROW_EXPERTS(role, gguf_stem, cols, rows, hf_name)                                                \
    { role, "blk.%d." gguf_stem "_exps.weight", { cols, rows, DIM_EXPERTS }, MUST_EXPERTS,               \
      HF_LAYER hf_name, .hf_layout = LAYOUT_EACH },                                                      \
    { role, "blk.%d." gguf_stem ".%e.weight", { cols, rows, DIM_EXPERTS }, MUST_EXPERTS, NULL,           \
      .gguf_layout = LAYOUT_EACH }

#define ROWS_EXPERTS(hf_router, hf_gate, hf_up, hf_down)                                                 \
    { W_ROUTER, "blk.%d.ffn_gate_inp.weight", { DIM_EMBD, DIM_EXPERTS }, MUST_EXPERTS, HF_LAYER hf_router }, \
    ROW_EXPERTS(W_GATE_EXPS, "ffn_gate", DIM_EMBD, DIM_FF_EXP, hf_gate),                                 \
    ROW_EXPERTS(W_UP_EXPS, "ffn_up", DIM_EMBD, DIM_FF_EXP, hf_up),                                       \
    ROW_EXPERTS(W_DOWN_EXPS, "ffn_down", DIM_FF_EXP, DIM_EMBD, hf_down)

/* Qwen and DeepSeek call them so. */
#define ROWS_EXPERTS_MLP                                                                                 \
    ROWS_EXPERTS("mlp.gate.weight", "mlp.experts.%e.gate_proj.weight", "mlp.experts.%e.up_proj.weight",  \
                 "mlp.experts.%e.down_proj.weight")

#define ROWS_SHARED_EXPERT(need, hf_stem)                                                                \
    { W_GATE_SHEXP, "blk.%d.ffn_gate_shexp.weight", { DIM_EMBD, DIM_FF_SHARED }, need,                   \
      HF_LAYER hf_stem ".gate_proj.weight" },                                                            \
    { W_UP_SHEXP, "blk.%d.ffn_up_shexp.weight", { DIM_EMBD, DIM_FF_SHARED }, need,                       \
      HF_LAYER hf_stem ".up_proj.weight" },                                                              \
    { W_DOWN_SHEXP, "blk.%d.ffn_down_shexp.weight", { DIM_FF_SHARED, DIM_EMBD }, need,                   \
      HF_LAYER hf_stem ".down_proj.weight" }

/* A weight and a bias, as LayerNorm has them: hf is the name without its ending. */
#define ROWS_NORM_WB(role, gguf, hf)                                                                     \
    { role, gguf ".weight", { DIM_EMBD }, MUST, hf ".weight" },                                          \
    { role##_B, gguf ".bias", { DIM_EMBD }, MAY, hf ".bias" }

/* A matrix that may have a bias. */
#define ROWS_LINEAR_WB(role, gguf, cols, rows, hf)                                                       \
    { role, gguf ".weight", { cols, rows }, MUST, hf ".weight" },                                        \
    { role##_B, gguf ".bias", { rows }, MAY, hf ".bias" }

#endif
