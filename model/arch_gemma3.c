/* arch_gemma3.c - Gemma 3, text.
 *
 * Gemma 2's block without the soft caps, with queries and keys RMS-normalised per
 * head. Five layers of six see a sliding window and rotate with a base of their
 * own (10,000, never scaled); the sixth sees all with the long-context base.
 */
#include <math.h>

#include "model/arch_rows.h"
#include "model/facts.h"

/* clang-format off */
static const struct tensor_spec tensors[] = {
    ROWS_MODEL(LAYOUT_PLUS_ONE),
    ROWS_ATTN_NORM(LAYOUT_PLUS_ONE),
    ROWS_ATTN,
    ROWS_QK_NORM(LAYOUT_PLUS_ONE),
    ROWS_POST_NORMS("post_attention_layernorm.weight", "post_feedforward_layernorm.weight", LAYOUT_PLUS_ONE),
    {W_FFN_NORM, "blk.%d.ffn_norm.weight", {DIM_EMBD}, MUST, HF_LAYER "pre_feedforward_layernorm.weight",
      .hf_layout = LAYOUT_PLUS_ONE},
    ROWS_FFN_GATED(MUST),
    TENSORS_END,
};
/* clang-format on */

#define LAYERS_27B 62

static void common(struct facts *f, struct hparams *hp, int period)
{
    hp->embed_scale = sqrtf((float)hp->n_embd);
    hparams_window_pattern(hp, period, 0);
    if (!(hp->window > 0))
        fact_fail(f, ERR_FORMAT, "the sliding window is %d", hp->window);
}

static void hparams_gguf(struct facts *f, struct hparams *hp)
{
    common(f, hp, 6);
    hp->rope_base_local = (float)fact_real_or(f, "rope.freq_base_swa", 10000);
    if (hp->n_layer ==
        LAYERS_27B) /* the file does not say; only the 27B model differs from the head's scale */
        hp->attn_scale = 1.0f / sqrtf((float)hp->n_embd / (float)hp->n_head);
}

static void hparams_hf(struct facts *f, struct hparams *hp)
{
    hp->n_head = fact_int_or(f, "num_attention_heads", 8); /* the 4B model's config leaves its heads out */
    hp->n_head_kv = fact_int_or(f, "num_key_value_heads", 4);
    hp->head_dim_k = hp->head_dim_v = hp->n_rot = fact_int_or(f, "head_dim", 256);
    hp->window = fact_int_or(f, "sliding_window", 4096);
    common(f, hp, fact_int_or(f, "sliding_window_pattern", 6));
    hparams_layer_types(f, hp);
    hp->rope_base_local = (float)fact_real_or(
        f, "rope_local_base_freq", fact_real_or(f, "rope_parameters.sliding_attention.rope_theta", 10000));
    hp->rope_base = (float)fact_real_or(
        f, "rope_theta", fact_real_or(f, "rope_parameters.full_attention.rope_theta", 1000000));
    hparams_query_scalar(f, hp, 256);
    hp->attn_softcap = (float)fact_real_or(f, "attn_logit_softcapping", 0);
    hp->logit_softcap = (float)fact_real_or(f, "final_logit_softcapping", 0);
}

static const char *const hf_types[] = {"gemma3_text", NULL};

const struct arch_desc arch_gemma3 = {
    .name = "gemma3",
    .hf_types = hf_types,
    .norm = {.kind = NORM_RMS},
    .rope = {.gguf = ROPE_HALVES, .hf = ROPE_HALVES},
    .attn = {.qk_norm = QK_NORM_HEAD},
    .ffn = {.act = ACTIVATION_GELU_TANH, .gated = true},
    .tensors = tensors,
    .hparams_gguf = hparams_gguf,
    .hparams_hf = hparams_hf,
};
