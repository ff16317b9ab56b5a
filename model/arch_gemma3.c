/* arch_gemma3.c - Gemma 3, text.
 *
 * A Llama block with a norm on both sides of each half (before and after
 * attention, before and after the feed-forward), queries and keys RMS-normalised
 * per head, GELU for the gate, embeddings scaled by sqrt(n_embd) and a tied head.
 * Five layers of six see a sliding window and rotate with a base of their own
 * (10,000, never scaled); the sixth sees all with the long-context base.
 *
 * Norm gains are 1 + weight in HF files; GGUF files hold the sum.
 */
#include "model/desc.h"

#include <math.h>

#include "model/facts.h"

static const struct tensor_spec tensors[] = {
    { W_EMBD, "token_embd.weight", { DIM_EMBD, DIM_VOCAB }, MUST, "model.embed_tokens.weight" },
    { W_HEAD_NORM, "output_norm.weight", { DIM_EMBD }, MUST, "model.norm.weight", .hf_layout = LAYOUT_PLUS_ONE },
    { W_HEAD, "output.weight", { DIM_EMBD, DIM_VOCAB }, TIED_TO_EMBD, "lm_head.weight" },

    { W_ATTN_NORM, "blk.%d.attn_norm.weight", { DIM_EMBD }, MUST, "model.layers.%d.input_layernorm.weight",
      .hf_layout = LAYOUT_PLUS_ONE },
    { W_Q, "blk.%d.attn_q.weight", { DIM_EMBD, DIM_Q }, MUST, "model.layers.%d.self_attn.q_proj.weight" },
    { W_K, "blk.%d.attn_k.weight", { DIM_EMBD, DIM_K }, MUST, "model.layers.%d.self_attn.k_proj.weight" },
    { W_V, "blk.%d.attn_v.weight", { DIM_EMBD, DIM_V }, MUST, "model.layers.%d.self_attn.v_proj.weight" },
    { W_Q_NORM, "blk.%d.attn_q_norm.weight", { DIM_HEAD }, MUST, "model.layers.%d.self_attn.q_norm.weight",
      .hf_layout = LAYOUT_PLUS_ONE },
    { W_K_NORM, "blk.%d.attn_k_norm.weight", { DIM_HEAD }, MUST, "model.layers.%d.self_attn.k_norm.weight",
      .hf_layout = LAYOUT_PLUS_ONE },
    { W_O, "blk.%d.attn_output.weight", { DIM_ATTN, DIM_EMBD }, MUST, "model.layers.%d.self_attn.o_proj.weight" },
    { W_ATTN_POST_NORM, "blk.%d.post_attention_norm.weight", { DIM_EMBD }, MUST,
      "model.layers.%d.post_attention_layernorm.weight", .hf_layout = LAYOUT_PLUS_ONE },

    { W_FFN_NORM, "blk.%d.ffn_norm.weight", { DIM_EMBD }, MUST, "model.layers.%d.pre_feedforward_layernorm.weight",
      .hf_layout = LAYOUT_PLUS_ONE },
    { W_GATE, "blk.%d.ffn_gate.weight", { DIM_EMBD, DIM_FF }, MUST, "model.layers.%d.mlp.gate_proj.weight" },
    { W_UP, "blk.%d.ffn_up.weight", { DIM_EMBD, DIM_FF }, MUST, "model.layers.%d.mlp.up_proj.weight" },
    { W_DOWN, "blk.%d.ffn_down.weight", { DIM_FF, DIM_EMBD }, MUST, "model.layers.%d.mlp.down_proj.weight" },
    { W_FFN_POST_NORM, "blk.%d.post_ffw_norm.weight", { DIM_EMBD }, MUST,
      "model.layers.%d.post_feedforward_layernorm.weight", .hf_layout = LAYOUT_PLUS_ONE },
    TENSORS_END
};

#define WINDOW_PERIOD 6

static void common(struct facts *f, struct hparams *hp)
{
    hp->embed_scale = sqrtf((float)hp->n_embd);
    hparams_window_pattern(hp, WINDOW_PERIOD, 0);
    if (!(hp->window > 0))
        fact_fail(f, ERR_FORMAT, "the sliding window is %d", hp->window);
}

static void hparams_gguf(struct facts *f, struct hparams *hp)
{
    common(f, hp);
    hp->rope_base_local = (float)fact_real_or(f, "rope.freq_base_swa", 10000);
    if (hp->n_layer == 62) /* the 27B model alone scales by its embedding's share of a head */
        hp->attn_scale = 1.0f / sqrtf((float)hp->n_embd / (float)hp->n_head);
}

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->head_dim_k = hp->head_dim_v = hp->n_rot = fact_int_or(f, "head_dim", 256);
    hp->window = fact_int_or(f, "sliding_window", 4096);
    common(f, hp);
    hparams_layer_types(f, hp);
    hp->rope_base_local = (float)fact_real_or(
        f, "rope_local_base_freq", fact_real_or(f, "rope_parameters.sliding_attention.rope_theta", 10000));
    hp->rope_base = (float)fact_real_or(
        f, "rope_theta", fact_real_or(f, "rope_parameters.full_attention.rope_theta", 1000000));
    double scalar = fact_real_or(f, "query_pre_attn_scalar", 256);
    if (!(scalar > 0))
        fact_fail(f, ERR_FORMAT, "query_pre_attn_scalar is %g", scalar);
    hp->attn_scale = (float)(1 / sqrt(scalar));
    hp->attn_softcap = (float)fact_real_or(f, "attn_logit_softcapping", 0);
    hp->logit_softcap = (float)fact_real_or(f, "final_logit_softcapping", 0);
}

static const char *const hf_types[] = { "gemma3_text", NULL };

const struct arch_desc arch_gemma3 = {
    .name = "gemma3",
    .hf_types = hf_types,
    .block = BLOCK_SERIAL,
    .norm = { .kind = NORM_RMS },
    .rope = { .gguf = ROPE_HALVES, .hf = ROPE_HALVES },
    .attn = { .qk_norm = QK_NORM_HEAD },
    .ffn = { .act = ACTIVATION_GELU_TANH, .gated = true },
    .tensors = tensors,
    .hparams_gguf = hparams_gguf,
    .hparams_hf = hparams_hf,
};
