/* arch_llama4.c - Llama 4, the text model.
 *
 * Three layers of four rotate (pairs) and attend within chunks of positions; the
 * fourth has no positions, sees everything, and scales its queries up with the
 * position. Rotating layers may normalise queries and keys without a gain, after
 * rotation. Some or all layers have experts: one is chosen, its sigmoid weight
 * multiplies the expert's *input*, and a shared expert is always added.
 *
 * GGUF files give neither the chunk nor the temperature: those of the published
 * models are taken.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define HF_FFN "feed_forward."

/* clang-format off */
static const struct tensor_spec tensors[] = {
    ROWS_MODEL(0),
    ROWS_ROPE_FACTORS,
    ROWS_ATTN_NORM(0),
    ROWS_ATTN,
    ROWS_FFN_NORM(0),
    {W_GATE, "blk.%d.ffn_gate.weight", {DIM_EMBD, DIM_FF}, MUST_DENSE, HF_LAYER HF_FFN "gate_proj.weight"},
    {W_UP, "blk.%d.ffn_up.weight", {DIM_EMBD, DIM_FF}, MUST_DENSE, HF_LAYER HF_FFN "up_proj.weight"},
    {W_DOWN, "blk.%d.ffn_down.weight", {DIM_FF, DIM_EMBD}, MUST_DENSE, HF_LAYER HF_FFN "down_proj.weight"},
    {W_ROUTER, "blk.%d.ffn_gate_inp.weight", {DIM_EMBD, DIM_EXPERTS}, MUST_EXPERTS, HF_LAYER HF_FFN "router.weight"},
    {W_GATE_UP_EXPS, NULL, {DIM_EMBD, DIM_FF_EXP2, DIM_EXPERTS}, MAY, HF_LAYER HF_FFN "experts.gate_up_proj",
      .hf_layout = LAYOUT_TRANSPOSED},
    {W_GATE_EXPS, "blk.%d.ffn_gate_exps.weight", {DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS}, MAY, NULL},
    {W_UP_EXPS, "blk.%d.ffn_up_exps.weight", {DIM_EMBD, DIM_FF_EXP, DIM_EXPERTS}, MAY, NULL},
    {W_DOWN_EXPS, "blk.%d.ffn_down_exps.weight", {DIM_FF_EXP, DIM_EMBD, DIM_EXPERTS}, MUST_EXPERTS,
      HF_LAYER HF_FFN "experts.down_proj", .hf_layout = LAYOUT_TRANSPOSED},
    ROWS_SHARED_EXPERT(MUST_EXPERTS, HF_FFN "shared_expert"),
    TENSORS_END,
};
/* clang-format on */

#define CHUNK 8192
#define TEMP_SCALE 0.1
#define TEMP_FLOOR 8192
#define NO_ROPE_PERIOD 4

static void experts(struct facts *f, struct hparams *hp, int step)
{
    hp->moe_gate = MOE_SIGMOID;
    hp->moe_norm_weights = false;
    hp->moe_weight_on_input = true;
    hp->n_expert_shared = 1;
    hp->n_ff_shared = hp->n_ff_expert;
    if (step < 1)
        fact_fail(f, ERR_FORMAT, "experts in every %d-th layer", step);
    for (int i = 0; !f->e && i < hp->n_layer; i++)
        hp->layer_dense[i] = (i + 1) % step != 0;
}

static void hparams_gguf(struct facts *f, struct hparams *hp)
{
    experts(f, hp, fact_int_or(f, "interleave_moe_layer_step", 1));
    hp->window = 0;
    hp->attn_chunk = fact_int_or(f, "attention.chunk_size", CHUNK);
    hp->attn_temp_scale = (float)fact_real_or(f, "attention.temperature_scale", TEMP_SCALE);
    hp->attn_temp_floor = fact_int_or(f, "attention.temperature_length", TEMP_FLOOR);
    for (int i = 0; i < hp->n_layer; i++) {
        hp->layer_no_rope[i] = (i + 1) % NO_ROPE_PERIOD == 0;
        hp->layer_window[i] = !hp->layer_no_rope[i];
    }
}

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    double rope[MAX_LAYERS];
    size_t n = fact_reals(f, "no_rope_layers", rope, MAX_LAYERS);

    hparams_experts_hf(f, hp, "num_local_experts", hp->n_ff);
    hp->n_ff = fact_int(f, "intermediate_size_mlp");
    experts(f, hp, fact_int_or(f, "interleave_moe_layer_step", 1));
    hp->attn_chunk = fact_int_or(f, "attention_chunk_size", CHUNK);
    if (fact_bool_or(f, "attn_temperature_tuning", true)) {
        hp->attn_temp_scale = (float)fact_real_or(f, "attn_scale", TEMP_SCALE);
        hp->attn_temp_floor = fact_int_or(f, "floor_scale", TEMP_FLOOR);
    }
    if (n && n != (size_t)hp->n_layer)
        fact_fail(f, ERR_FORMAT, "no_rope_layers has %zu entries for %d layers", n, hp->n_layer);
    for (int i = 0; !f->e && i < hp->n_layer; i++) {
        hp->layer_no_rope[i] = n ? rope[i] == 0 : (i + 1) % NO_ROPE_PERIOD == 0;
        hp->layer_window[i] = !hp->layer_no_rope[i];
    }
}

static const char *const hf_types[] = {"llama4_text", NULL};

#define LLAMA4                                                                                      \
    .name = "llama4", .hf_types = hf_types, .norm = {.kind = NORM_RMS},                             \
    .rope = {.gguf = ROPE_PAIRS, .hf = ROPE_PAIRS}, .ffn = {.act = ACTIVATION_SILU, .gated = true}, \
    .tensors = tensors, .hparams_gguf = hparams_gguf, .hparams_hf = hparams_hf

static const struct arch_desc normed = {LLAMA4, .attn = {.qk_norm = QK_NORM_L2, .qk_norm_after_rope = true}};

/* Scout normalises, Maverick does not; GGUF tells them apart by the number of experts. */
static const struct arch_desc *variant(struct facts *f)
{
    bool norm = f->gguf ? fact_int_or(f, "expert_count", 0) != 128 : fact_bool_or(f, "use_qk_norm", true);

    return norm ? &normed : NULL;
}

const struct arch_desc arch_llama4 = {LLAMA4, .variant = variant};
