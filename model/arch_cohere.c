/* arch_cohere.c - Cohere Command R and R+, and Cohere 2 (Command R7B, A).
 *
 * One LayerNorm without bias feeds attention and a gated feed-forward, both are
 * added; pairs are rotated; the head is the embedding and its logits are scaled.
 * R+ normalises queries and keys with a gain of their own for every head.
 *
 * Cohere 2: three layers of four see a window and rotate; the fourth sees
 * everything and has no positions at all.
 */
#include "model/arch_rows.h"
#include "model/facts.h"

#define ROWS_COHERE ROWS_MODEL(0), ROWS_ATTN_NORM(0), ROWS_ATTN, ROWS_FFN_GATED(MUST)

static const struct tensor_spec plain[] = {ROWS_COHERE, TENSORS_END};

/* clang-format off */
static const struct tensor_spec normed[] = {
    ROWS_COHERE,
    {W_Q_NORM, "blk.%d.attn_q_norm.weight", {DIM_HEAD, DIM_N_HEAD}, MUST, HF_LAYER "self_attn.q_norm.weight"},
    {W_K_NORM, "blk.%d.attn_k_norm.weight", {DIM_HEAD, DIM_N_HEAD_KV}, MUST, HF_LAYER "self_attn.k_norm.weight"},
    TENSORS_END,
};
/* clang-format on */

static void first_hf(struct facts *f, struct hparams *hp)
{
    hp->norm_eps =
        (float)fact_real_or(f, "layer_norm_eps", 1e-5); /* rms_norm_eps may be there too, and means nothing */
    hp->logit_scale = (float)fact_real_or(f, "logit_scale", 0.0625);
}

static void no_rope_without_window(struct hparams *hp)
{
    hparams_window_pattern(hp, 4, 0);
    for (int i = 0; i < hp->n_layer && i < MAX_LAYERS; i++)
        hp->layer_no_rope[i] = !hp->layer_window[i];
}

static void second_gguf(struct facts *f, struct hparams *hp)
{
    (void)f;
    no_rope_without_window(hp);
}

static void second_hf(struct facts *f, struct hparams *hp)
{
    first_hf(f, hp);
    hp->window = fact_int_or(f, "sliding_window", 4096);
    no_rope_without_window(hp);
    hparams_layer_types(f, hp);
    for (int i = 0; i < hp->n_layer && i < MAX_LAYERS; i++)
        hp->layer_no_rope[i] = !hp->layer_window[i];
}

static const char *const first_types[] = {"cohere", NULL};
static const char *const second_types[] = {"cohere2", NULL};

#define COHERE                                                                                             \
    .block = BLOCK_PARALLEL, .norm = {.kind = NORM_LAYER}, .rope = {.gguf = ROPE_PAIRS, .hf = ROPE_PAIRS}, \
    .ffn = {.act = ACTIVATION_SILU, .gated = true}
#define COMMAND_R .name = "command-r", .hf_types = first_types, .hparams_hf = first_hf, COHERE

static const struct arch_desc with_qk_norm = {COMMAND_R, .tensors = normed,
                                              .attn = {.qk_norm = QK_NORM_PER_HEAD}};

/* GGUF does not say; converters give it to the models of 64 layers (R+) only. */
static const struct arch_desc *variant(struct facts *f)
{
    bool normed_qk = f->gguf ? fact_int_or(f, "block_count", 0) == 64 : fact_bool_or(f, "use_qk_norm", false);

    return normed_qk ? &with_qk_norm : NULL;
}

const struct arch_desc arch_command_r = {COMMAND_R, .tensors = plain, .variant = variant};
const struct arch_desc arch_cohere2 = {.name = "cohere2",
                                       .hf_types = second_types,
                                       .tensors = plain,
                                       .hparams_gguf = second_gguf,
                                       .hparams_hf = second_hf,
                                       COHERE};
