/* arch_llama.c - Llama 2 and 3.x, and all that copied its block: Mistral, Mixtral,
 * Pleias, Yi, TinyLlama, SmolLM ...
 *
 * Pre-norm RMS, rotary positions over the whole head, grouped queries, SwiGLU.
 * Head dimension may differ from n_embd / n_head (Mistral Nemo, Llama 3.2). The
 * head may be the embedding again. Some checkpoints have biases. Mixtral replaces
 * the feed-forward by experts; their weights are the softmax over all experts,
 * renormalised over the chosen.
 *
 * Rotation: Meta's own weights rotate pairs (2i, 2i+1). Hugging Face stores Q and
 * K with rows permuted so that halves rotate; converters to GGUF undo that.
 * GGUF gives the Llama 3 scaling as divisors of the frequencies (rope_freqs), HF
 * as four numbers in the config.
 */
#include "model/desc.h"
#include "model/facts.h"

static const struct tensor_spec tensors[] = {
    { W_EMBD, "token_embd.weight", { DIM_EMBD, DIM_VOCAB }, MUST, "model.embed_tokens.weight" },
    { W_HEAD_NORM, "output_norm.weight", { DIM_EMBD }, MUST, "model.norm.weight" },
    { W_HEAD, "output.weight", { DIM_EMBD, DIM_VOCAB }, TIED_TO_EMBD, "lm_head.weight" },
    { W_ROPE_FREQS, "rope_freqs.weight", { DIM_ROT_HALF }, MAY, NULL },
    { W_ROPE_SHORT, "rope_factors_short.weight", { DIM_ROT_HALF }, MAY, NULL },
    { W_ROPE_LONG, "rope_factors_long.weight", { DIM_ROT_HALF }, MAY, NULL },

    { W_ATTN_NORM, "blk.%d.attn_norm.weight", { DIM_EMBD }, MUST, "model.layers.%d.input_layernorm.weight" },
    { W_Q, "blk.%d.attn_q.weight", { DIM_EMBD, DIM_Q }, MUST, "model.layers.%d.self_attn.q_proj.weight" },
    { W_K, "blk.%d.attn_k.weight", { DIM_EMBD, DIM_K }, MUST, "model.layers.%d.self_attn.k_proj.weight" },
    { W_V, "blk.%d.attn_v.weight", { DIM_EMBD, DIM_V }, MUST, "model.layers.%d.self_attn.v_proj.weight" },
    { W_O, "blk.%d.attn_output.weight", { DIM_ATTN, DIM_EMBD }, MUST, "model.layers.%d.self_attn.o_proj.weight" },
    { W_Q_B, "blk.%d.attn_q.bias", { DIM_Q }, MAY, "model.layers.%d.self_attn.q_proj.bias" },
    { W_K_B, "blk.%d.attn_k.bias", { DIM_K }, MAY, "model.layers.%d.self_attn.k_proj.bias" },
    { W_V_B, "blk.%d.attn_v.bias", { DIM_V }, MAY, "model.layers.%d.self_attn.v_proj.bias" },
    { W_O_B, "blk.%d.attn_output.bias", { DIM_EMBD }, MAY, "model.layers.%d.self_attn.o_proj.bias" },

    { W_FFN_NORM, "blk.%d.ffn_norm.weight", { DIM_EMBD }, MUST, "model.layers.%d.post_attention_layernorm.weight" },
    { W_GATE, "blk.%d.ffn_gate.weight", { DIM_EMBD, DIM_FF }, MUST_DENSE, "model.layers.%d.mlp.gate_proj.weight" },
    { W_UP, "blk.%d.ffn_up.weight", { DIM_EMBD, DIM_FF }, MUST_DENSE, "model.layers.%d.mlp.up_proj.weight" },
    { W_DOWN, "blk.%d.ffn_down.weight", { DIM_FF, DIM_EMBD }, MUST_DENSE, "model.layers.%d.mlp.down_proj.weight" },
    { W_GATE_B, "blk.%d.ffn_gate.bias", { DIM_FF }, MAY, "model.layers.%d.mlp.gate_proj.bias" },
    { W_UP_B, "blk.%d.ffn_up.bias", { DIM_FF }, MAY, "model.layers.%d.mlp.up_proj.bias" },
    { W_DOWN_B, "blk.%d.ffn_down.bias", { DIM_EMBD }, MAY, "model.layers.%d.mlp.down_proj.bias" },

    { W_ROUTER, "blk.%d.ffn_gate_inp.weight", { DIM_EMBD, DIM_EXPERTS }, MUST_EXPERTS,
      "model.layers.%d.block_sparse_moe.gate.weight" },
    { W_GATE_EXPS, "blk.%d.ffn_gate_exps.weight", { DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS }, MUST_EXPERTS,
      "model.layers.%d.block_sparse_moe.experts.%e.w1.weight", .hf_layout = LAYOUT_EACH },
    { W_GATE_EXPS, "blk.%d.ffn_gate.%e.weight", { DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS }, MUST_EXPERTS, NULL,
      .gguf_layout = LAYOUT_EACH },
    { W_UP_EXPS, "blk.%d.ffn_up_exps.weight", { DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS }, MUST_EXPERTS,
      "model.layers.%d.block_sparse_moe.experts.%e.w3.weight", .hf_layout = LAYOUT_EACH },
    { W_UP_EXPS, "blk.%d.ffn_up.%e.weight", { DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS }, MUST_EXPERTS, NULL,
      .gguf_layout = LAYOUT_EACH },
    { W_DOWN_EXPS, "blk.%d.ffn_down_exps.weight", { DIM_FF_EXP, DIM_EMBD, DIM_EXPERTS }, MUST_EXPERTS,
      "model.layers.%d.block_sparse_moe.experts.%e.w2.weight", .hf_layout = LAYOUT_EACH },
    { W_DOWN_EXPS, "blk.%d.ffn_down.%e.weight", { DIM_FF_EXP, DIM_EMBD, DIM_EXPERTS }, MUST_EXPERTS, NULL,
      .gguf_layout = LAYOUT_EACH },
    TENSORS_END
};

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->window = fact_int_or(f, "sliding_window", 0); /* Mistral 7B v0.1: in all layers */
    hparams_window_all(hp);
    hp->n_expert = fact_int_or(f, "num_local_experts", 0);
    if (hp->n_expert) {
        hp->n_expert_used = fact_int(f, "num_experts_per_tok");
        hp->n_ff_expert = hp->n_ff;
        hparams_dense_lead(hp, 0);
    }
}

static const char *const hf_types[] = { "llama", "mistral", "mixtral", NULL };
static const char *const ignore[] = { "rotary_emb.inv_freq", NULL };

const struct arch_desc arch_llama = {
    .name = "llama",
    .hf_types = hf_types,
    .block = BLOCK_SERIAL,
    .norm = { .kind = NORM_RMS },
    .rope = { .gguf = ROPE_PAIRS, .hf = ROPE_HALVES },
    .ffn = { .act = ACTIVATION_SILU, .gated = true },
    .tensors = tensors,
    .ignore = ignore,
    .hparams_hf = hparams_hf,
};
