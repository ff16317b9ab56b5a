/* desc.h - a model family as data.
 *
 * One const descriptor and one tensor table per family (arch_*.c), found through
 * the registry. forward.c asks the descriptor ("attn.qk_norm"), never the name.
 * The tensor table drives binding, strict shape errors, the byte count of every
 * layer for the planner, the choice of what a rank loads, the reader of Hugging
 * Face names, and the generator of tiny random models.
 */
#ifndef CORDEE_MODEL_DESC_H
#define CORDEE_MODEL_DESC_H

#include <stdbool.h>

#include "base/err.h"
#include "kernels/kernels.h"
#include "model/hparams.h"

/* What a tensor is for. MATRIX roles are multiplied with (packed), VECTOR roles
 * are added, scaled or normalised with (kept as f32).
 *
 * Fused roles hold their parts one after the other: QKV [Q | K | V] and GATE_UP
 * [gate | up] by rows. KV_B holds per head qk_nope rows for K, then head_dim_v for
 * V; a file has it or the two absorbed forms K_B_PROJ [n_head][kv_lora][qk_nope]
 * and V_B_PROJ [n_head][head_dim_v][kv_lora]. */
#define WEIGHT_ROLES(X)                                                             \
    /* whole model */                                                               \
    X(EMBD, MATRIX) X(EMBD_NORM, VECTOR) X(EMBD_NORM_B, VECTOR)                     \
    X(POS_EMBD, MATRIX) X(TYPE_EMBD, MATRIX)                                        \
    X(HEAD_NORM, VECTOR) X(HEAD_NORM_B, VECTOR) X(HEAD, MATRIX) X(HEAD_B, VECTOR)   \
    X(ROPE_FREQS, VECTOR) X(ROPE_SHORT, VECTOR) X(ROPE_LONG, VECTOR)                \
    /* attention, per layer */                                                      \
    X(ATTN_NORM, VECTOR) X(ATTN_NORM_B, VECTOR) X(ATTN_NORM2, VECTOR)               \
    X(ATTN_NORM2_B, VECTOR)                                                         \
    X(QKV, MATRIX) X(QKV_B, VECTOR)                                                 \
    X(Q, MATRIX) X(K, MATRIX) X(V, MATRIX) X(Q_B, VECTOR) X(K_B, VECTOR)            \
    X(V_B, VECTOR) X(Q_NORM, VECTOR) X(Q_NORM_B, VECTOR) X(K_NORM, VECTOR)          \
    X(K_NORM_B, VECTOR) X(O, MATRIX) X(O_B, VECTOR) X(SINKS, VECTOR)                \
    X(ATTN_POST_NORM, VECTOR) X(ATTN_POST_NORM_B, VECTOR)                           \
    /* latent attention */                                                          \
    X(Q_A, MATRIX) X(Q_A_NORM, VECTOR) X(Q_B_PROJ, MATRIX) X(KV_A, MATRIX)          \
    X(KV_A_NORM, VECTOR) X(KV_B, MATRIX) X(K_B_PROJ, MATRIX) X(V_B_PROJ, MATRIX)    \
    /* feed forward, per layer */                                                   \
    X(FFN_NORM, VECTOR) X(FFN_NORM_B, VECTOR) X(GATE, MATRIX) X(UP, MATRIX)         \
    X(GATE_UP, MATRIX) X(DOWN, MATRIX) X(GATE_B, VECTOR) X(UP_B, VECTOR)            \
    X(DOWN_B, VECTOR) X(FFN_POST_NORM, VECTOR) X(FFN_POST_NORM_B, VECTOR)           \
    /* experts, per layer: matrices stacked [n_expert][rows][cols] */               \
    X(ROUTER, MATRIX) X(ROUTER_B, VECTOR) X(ROUTER_BIAS, VECTOR)                    \
    X(GATE_EXPS, MATRIX) X(UP_EXPS, MATRIX) X(GATE_UP_EXPS, MATRIX)                 \
    X(DOWN_EXPS, MATRIX) X(GATE_EXPS_B, VECTOR) X(UP_EXPS_B, VECTOR)                \
    X(DOWN_EXPS_B, VECTOR)                                                          \
    X(GATE_SHEXP, MATRIX) X(UP_SHEXP, MATRIX) X(DOWN_SHEXP, MATRIX)                 \
    X(SHEXP_GATE, MATRIX)

enum weight_role {
#define ROLE_ENUM(name, kind) W_##name,
    WEIGHT_ROLES(ROLE_ENUM)
#undef ROLE_ENUM
    W_COUNT
};
enum weight_kind { WEIGHT_MATRIX, WEIGHT_VECTOR };
enum weight_kind weight_kind(enum weight_role role);
const char *weight_role_name(enum weight_role role);
bool weight_is_layer(enum weight_role role); /* false: one for the whole model */

/* Symbolic dimensions, resolved by dim_value() from the hparams. */
enum dim {
    DIM_NONE, DIM_EMBD, DIM_VOCAB, DIM_CTX, DIM_TYPES,
    DIM_Q,      /* n_head * head_dim_k */
    DIM_K,      /* n_head_kv * head_dim_k */
    DIM_V,      /* n_head_kv * head_dim_v */
    DIM_ATTN,   /* n_head * head_dim_v: input of the output projection */
    DIM_QKV,    /* Q + K + V */
    DIM_MLA_Q,  /* n_head * (qk_nope + qk_rope) */
    DIM_HEAD,   /* head_dim_k */
    DIM_N_HEAD, DIM_N_HEAD_KV, DIM_ROT_HALF,
    DIM_FF, DIM_FF2, /* FF2: 2 * n_ff, gate and up fused */
    DIM_EXPERTS, DIM_FF_EXP, DIM_FF_EXP2, DIM_FF_SHARED, DIM_ONE,
    DIM_Q_LORA, DIM_KV_LORA, DIM_KV_A /* kv_lora + qk_rope */,
    DIM_KV_B /* n_head * (qk_nope + head_dim_v) */, DIM_NOPE, DIM_MLA_V,
    DIM_COUNT
};
int64_t dim_value(const struct hparams *hp, enum dim d);

enum need {
    MUST,         /* whole-model roles, and per-layer ones in every layer */
    MUST_DENSE,   /* in layers without experts */
    MUST_EXPERTS, /* in layers with experts */
    MAY,          /* absent in some models of the family (biases, ...) */
    TIED_TO_EMBD, /* W_HEAD: if absent, the embedding is used */
};

/* How the file's tensor becomes the role; 0: it is the role, and stays a view of
 * the file. One of PICK_* and any of the flags: copied into order by repack.c. */
enum layout {
    PICK_ALL,
    PICK_GROUPED,          /* QKV stored per KV head: its queries, then its K, then its V */
    PICK_EVEN, PICK_ODD,   /* interleaved (gate, up, gate, up ...) */
    PICK_MASK = 15,
    LAYOUT_TRANSPOSED = 16, /* the file has [in][out] (Conv1D); applies before the pick */
    LAYOUT_PLUS_ONE = 32,   /* the norm's gain is 1 + weight */
    LAYOUT_EACH = 64,       /* one tensor an index of the slowest dimension; "%e" in the name */
};

/* Several rows may name one role: the first whose tensor is in the file is
 * bound, `need` of the last row says what happens when none is. A row is for the
 * formats whose name it gives.
 * shape: of the role, in GGUF order, fastest first ({columns, rows, experts}). */
struct tensor_spec {
    enum weight_role role;
    const char *gguf; /* "blk.%d.attn_q.weight", or NULL */
    enum dim shape[3];
    enum need need;
    const char *hf; /* "model.layers.%d.self_attn.q_proj.weight", or NULL */
    unsigned gguf_layout, hf_layout; /* enum layout */
};
#define TENSORS_END { W_COUNT, NULL, { DIM_NONE }, MAY, NULL, 0, 0 }

enum norm_kind { NORM_RMS, NORM_LAYER };
enum qk_norm_kind {
    QK_NORM_NONE,
    QK_NORM_HEAD,      /* one gain [head_dim] for all heads */
    QK_NORM_PER_HEAD,  /* gains [n_head][head_dim] (Cohere, StableLM) */
    QK_NORM_FULL,      /* over the whole projection (OLMo 2) */
    QK_NORM_L2,        /* without weights, after RoPE (Llama 4) */
};
enum block_kind {
    BLOCK_SERIAL,   /* x += attn(norm(x)); x += ffn(norm2(x)) */
    BLOCK_PARALLEL, /* x += attn(norm(x)) + ffn(norm(x) or norm2(x)) */
    BLOCK_POST_NORM,/* BERT: x = norm(x + attn(x)); x = norm(x + ffn(x)) */
};

struct facts; /* model/facts.h: typed look-ups over GGUF metadata or config.json */

struct arch_desc {
    const char *name;              /* general.architecture in GGUF */
    const char *const *hf_types;   /* config.json model_type values, NULL-terminated */
    enum block_kind block;
    struct {
        enum norm_kind kind;
        bool post_only; /* OLMo 2: no norm before, only ATTN_POST_NORM / FFN_POST_NORM */
    } norm;
    struct {
        enum rope_kind gguf, hf; /* as the weights lie in each format; the one that
                                    applies is hparams.rope_kind */
    } rope;
    struct {
        enum qk_norm_kind qk_norm;
        bool qk_norm_after_rope;
        bool kq_alibi_scaled; /* Falcon: ALiBi is added before the 1/sqrt(d) scale */
        bool latent;          /* MLA: compressed KV, absorbed decode */
    } attn;
    struct {
        enum activation act;
        bool gated;
    } ffn;
    bool pos_embd;      /* learned absolute positions */
    int pos_offset;
    const struct tensor_spec *tensors; /* ends with role == W_COUNT */

    /* Parts of tensor names that mean nothing to the forward pass
     * ("rotary_emb.inv_freq"); any other tensor of the file that no role takes is
     * an error, for ignoring it would change the numbers. NULL-terminated or NULL. */
    const char *const *ignore;

    /* Members of a family that differ in structure by a flag of the file: the
     * descriptor that applies, or NULL for this one. NULL: there are none. */
    const struct arch_desc *(*variant)(struct facts *f);

    /* Fills the family's own hparams after the common ones (hparams.c), failures
     * by fact_fail(). NULL: nothing special, or this format is not supported. */
    void (*hparams_gguf)(struct facts *f, struct hparams *hp);
    void (*hparams_hf)(struct facts *f, struct hparams *hp);
};

/* By GGUF architecture / config.json model_type. NULL: unknown. */
const struct arch_desc *arch_find(const char *name);
const struct arch_desc *arch_find_hf(const char *model_type);
int arch_count(void);
const struct arch_desc *arch_at(int i);
/* "llama, gemma3, ..." for error messages; static storage. */
const char *arch_names(void);

#endif
