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
#include "model/arch_rows.h"
#include "model/facts.h"

#define MOE "block_sparse_moe."

/* clang-format off */
static const struct tensor_spec tensors[] = {
    ROWS_MODEL(0),
    ROWS_ROPE_FACTORS,
    ROWS_ATTN_NORM(0),
    ROWS_ATTN,
    ROWS_ATTN_QKV_BIAS(MAY),
    ROWS_ATTN_OUT_BIAS(MAY),
    ROWS_FFN_NORM(0),
    ROWS_FFN_GATED(MUST_DENSE),
    {W_GATE_B, "blk.%d.ffn_gate.bias", {DIM_FF}, MAY, HF_LAYER "mlp.gate_proj.bias"},
    {W_UP_B, "blk.%d.ffn_up.bias", {DIM_FF}, MAY, HF_LAYER "mlp.up_proj.bias"},
    {W_DOWN_B, "blk.%d.ffn_down.bias", {DIM_EMBD}, MAY, HF_LAYER "mlp.down_proj.bias"},
    ROWS_EXPERTS(MOE "gate.weight", MOE "experts.%e.w1.weight", MOE "experts.%e.w3.weight", MOE "experts.%e.w2.weight"),
    TENSORS_END,
};
/* clang-format on */

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->window = fact_int_or(f, "sliding_window", 0); /* Mistral 7B v0.1: in all layers */
    hparams_window_all(hp);
    hparams_experts_hf(f, hp, "num_local_experts", hp->n_ff);
}

static const char *const hf_types[] = {"llama", "mistral", "mixtral", NULL};
static const char *const ignore[] = {"rotary_emb.inv_freq", "attn_rot_embd", NULL};

const struct arch_desc arch_llama = {
    .name = "llama",
    .hf_types = hf_types,
    .norm = {.kind = NORM_RMS},
    .rope = {.gguf = ROPE_PAIRS, .hf = ROPE_HALVES},
    .ffn = {.act = ACTIVATION_SILU, .gated = true},
    .tensors = tensors,
    .ignore = ignore,
    .hparams_hf = hparams_hf,
};
