/* hparams.h - the numbers of one model, in one vocabulary for every file format. */
#ifndef CORDEE_MODEL_HPARAMS_H
#define CORDEE_MODEL_HPARAMS_H

#include <stdbool.h>
#include <stdint.h>

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
    float rope_attn_factor; /* cos and sin are multiplied by it (YaRN, longrope); 1 = none. Final: the
                               mscale rules of each family are already in it and in attn_scale */
    bool yarn_truncate;
    const float *rope_short, *rope_long; /* [n_rot/2] longrope factors, owned by the source; NULL otherwise */
    float longrope_short_mscale, longrope_long_mscale;
    float alibi_max_bias; /* > 0: ALiBi (8) */

    /* attention */
    float attn_scale;     /* 0: 1/sqrt(head_dim_k) */
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
    int n_token_types; /* BERT; 0: none */
};

#endif
