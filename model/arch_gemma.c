/* arch_gemma.c - Gemma 1 and 2.
 *
 * A Llama block with GELU for the gate, embeddings scaled by sqrt(n_embd), a tied
 * head, and norm gains of 1 + weight (GGUF files hold the sum). Gemma 2 adds norms
 * behind each half, soft caps on attention scores and logits, a sliding window in
 * every other layer, and a scale of q.k that is not the head's.
 */
#include <math.h>

#include "model/arch_rows.h"
#include "model/facts.h"

/* clang-format off */
static const struct tensor_spec first[] = {
    ROWS_MODEL(LAYOUT_PLUS_ONE),
    ROWS_ATTN_NORM(LAYOUT_PLUS_ONE),
    ROWS_ATTN,
    ROWS_FFN_NORM(LAYOUT_PLUS_ONE),
    ROWS_FFN_GATED(MUST),
    TENSORS_END,
};

static const struct tensor_spec second[] = {
    ROWS_MODEL(LAYOUT_PLUS_ONE),
    ROWS_ATTN_NORM(LAYOUT_PLUS_ONE),
    ROWS_ATTN,
    ROWS_POST_NORMS("post_attention_layernorm.weight", "post_feedforward_layernorm.weight", LAYOUT_PLUS_ONE),
    {W_FFN_NORM, "blk.%d.ffn_norm.weight", {DIM_EMBD}, MUST, HF_LAYER "pre_feedforward_layernorm.weight",
      .hf_layout = LAYOUT_PLUS_ONE},
    ROWS_FFN_GATED(MUST),
    TENSORS_END,
};
/* clang-format on */

#define LAYERS_27B 46

static void scale_embedding(struct facts *f, struct hparams *hp)
{
    (void)f;
    hp->embed_scale = sqrtf((float)hp->n_embd);
}

static void second_gguf(struct facts *f, struct hparams *hp)
{
    scale_embedding(f, hp);
    hparams_window_pattern(hp, 2, 0);
    if (hp->n_layer ==
        LAYERS_27B) /* the file does not say; only the 27B model differs from the head's scale */
        hp->attn_scale = 1.0f / sqrtf((float)hp->n_embd / (float)hp->n_head);
}

static void second_hf(struct facts *f, struct hparams *hp)
{
    scale_embedding(f, hp);
    hp->window = fact_int_or(f, "sliding_window", 4096);
    hparams_window_pattern(hp, 2, 0);
    hparams_layer_types(f, hp);
    hparams_query_scalar(f, hp, 256);
    hp->attn_softcap = (float)fact_real_or(f, "attn_logit_softcapping", 0);
    hp->logit_softcap = (float)fact_real_or(f, "final_logit_softcapping", 0);
}

static const char *const first_types[] = {"gemma", NULL};
static const char *const second_types[] = {"gemma2", NULL};

#define GEMMA                                                                     \
    .norm = {.kind = NORM_RMS}, .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES}, \
    .ffn = {.act = ACTIVATION_GELU_TANH, .gated = true}

const struct arch_desc arch_gemma = {.name = "gemma",
                                     .hf_types = first_types,
                                     .tensors = first,
                                     .hparams_gguf = scale_embedding,
                                     .hparams_hf = scale_embedding,
                                     GEMMA};
const struct arch_desc arch_gemma2 = {.name = "gemma2",
                                      .hf_types = second_types,
                                      .tensors = second,
                                      .hparams_gguf = second_gguf,
                                      .hparams_hf = second_hf,
                                      GEMMA};
