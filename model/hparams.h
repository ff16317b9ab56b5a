/* hparams.h - the numbers of one model, in one vocabulary for every file format. */
#ifndef CORDEE_MODEL_HPARAMS_H
#define CORDEE_MODEL_HPARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define MAX_LAYERS 512

enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_LLAMA3,   /* three frequency bands; GGUF stores it as rope_freqs factors */
    ROPE_SCALING_YARN,
    ROPE_SCALING_LONGROPE, /* short / long factor tables */
    ROPE_SCALING_DYNAMIC,  /* NTK by length */
};

/* Which entries of a head turn together: (i, i + n_rot/2), or (2i, 2i + 1). The
 * same family may need either, as GGUF files of some families hold permuted Q/K. */
enum rope_kind { ROPE_NONE, ROPE_HALVES, ROPE_PAIRS };

enum moe_gate { MOE_SOFTMAX, MOE_SIGMOID, MOE_SOFTMAX_TOPK /* softmax over the chosen only */ };

struct hparams {
    int n_layer, n_embd, n_vocab;
    int n_ctx_train;
    int n_head, n_head_kv;
    int head_dim_k, head_dim_v; /* of a query/key head, of a value head */
    int n_ff;
    float norm_eps;

    /* positions */
    enum rope_kind rope_kind; /* as these weights need it: decided per file format */
    int n_rot; /* rotated entries of a head */
    float rope_base, rope_base_local; /* local: sliding-window layers (Gemma 3), 0 = same */
    enum rope_scaling rope_scaling;
    float rope_factor, rope_low_freq, rope_high_freq; /* llama3: factor, low/high_freq_factor */
    int rope_ctx_orig;
    float yarn_beta_fast, yarn_beta_slow;
    float yarn_attn_factor; /* multiplies cos and sin; 0: by the rule, from the mscales or the factor */
    float yarn_mscale, yarn_mscale_all_dim;
    bool yarn_truncate;
    const float *rope_short, *rope_long; /* [n_rot/2] longrope divisors, owned by the source; NULL otherwise.
                                            long ones apply once a sequence passes rope_ctx_orig */
    float longrope_short_mscale, longrope_long_mscale; /* multiply cos and sin; 0: by the rule */
    float alibi_max_bias; /* > 0: ALiBi (8) */

    /* attention */
    float attn_scale;     /* multiplies q.k; never 0 */
    float attn_softcap, logit_softcap; /* 0: none */
    float attn_clip_qkv;  /* 0: none (MPT) */
    int window;           /* 0: none */
    int attn_chunk;       /* Llama 4: chunk length of chunked layers, 0: none */
    uint8_t layer_window[MAX_LAYERS]; /* 1: this layer uses `window` (or attn_chunk) and rope_base_local */
    uint8_t layer_no_rope[MAX_LAYERS];
    float attn_temp_scale; /* Llama 4 temperature tuning on no-rope layers; 0: none */
    int attn_temp_floor;

    /* multipliers (Granite, Cohere, Gemma, MiniCPM); 1 = none */
    float embed_scale, residual_scale, logit_scale;

    /* mixture of experts; n_expert 0: dense */
    int n_expert, n_expert_used, n_ff_expert;
    int n_expert_shared, n_ff_shared;
    int n_dense_lead;     /* first layers without experts */
    uint8_t layer_dense[MAX_LAYERS]; /* 1: no experts in this layer */
    int n_expert_groups, n_expert_groups_used;
    enum moe_gate moe_gate;
    bool moe_norm_weights;
    bool moe_group_by_sum2;   /* group score: sum of its two best (V3), else its best */
    bool moe_weight_on_input; /* Llama 4 */
    float moe_weight_scale;   /* 1 = none */

    /* multi-head latent attention (DeepSeek); kv_lora 0: none */
    int q_lora, kv_lora, qk_nope, qk_rope;

    bool causal;       /* false: encoder (BERT) */
    bool pool_first;   /* an encoder's embedding is its first row's, else the mean of all */
    int n_token_types; /* BERT; 0: none */
};

struct arch_desc;
struct facts;

/* Reads the numbers of a model whose family is known: what all families share,
 * then the family's own, then checks every bound that sizes, loops and divisions
 * rely on. n_vocab: rows of the embedding, 0 if the file has none.
 * ERR_FORMAT / ERR_UNSUPPORTED name the key. */
MUST_CHECK err hparams_read(struct facts *f, const struct arch_desc *arch, int n_vocab,
                            struct hparams *out, struct why *why);

/* For the families' own readers (arch_*.c). */

/* Layers whose index i has i % period != period - 1 use the window (period 6: five
 * of six), `first` shifts the pattern: (i + first) % period. */
void hparams_window_pattern(struct hparams *hp, int period, int first);
/* HF's layer_types ("sliding_attention", "full_attention"), if the config has them. */
void hparams_layer_types(struct facts *f, struct hparams *hp);
/* HF: the number of experts behind `key` (absent: dense), how many a token uses, their length. */
void hparams_experts_hf(struct facts *f, struct hparams *hp, const char *key, int n_ff_expert);
/* HF, Qwen: decoder_sparse_step and mlp_only_layers say which layers are dense. */
void hparams_sparse_step(struct facts *f, struct hparams *hp);
/* HF, Qwen: use_sliding_window from layer max_window_layers on. */
void hparams_window_qwen(struct facts *f, struct hparams *hp);
/* HF, Gemma: q.k is divided by sqrt(query_pre_attn_scalar). */
void hparams_query_scalar(struct facts *f, struct hparams *hp, double otherwise);
/* Every layer uses the window if there is one. */
void hparams_window_all(struct hparams *hp);
/* The first n layers are dense, the others have experts. */
void hparams_dense_lead(struct hparams *hp, int n);
/* HF's rope_scaling / rope_parameters object and GGUF's rope.scaling.* keys, without longrope tables. */
void hparams_rope_scaling(struct facts *f, struct hparams *hp);
/* 0.1 * mscale * ln(factor) + 1, the YaRN rule; 1 for factor <= 1. */
float hparams_yarn_mscale(float factor, float mscale);

#endif
