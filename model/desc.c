/* desc.c - the registry of families, roles and symbolic dimensions.
 *
 * A family is one file arch_*.c and one line here.
 */
#include "model/desc.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* clang-format off: a family is a line */
#define FAMILIES(X)  \
    X(llama)         \
    X(falcon)        \
    X(mpt)           \
    X(granite)       \
    X(granitemoe)    \
    X(qwen2)         \
    X(qwen2moe)      \
    X(qwen3)         \
    X(qwen3moe)      \
    X(gemma)         \
    X(gemma2)        \
    X(gemma3)        \
    X(phi2)          \
    X(phi3)          \
    X(deepseek2)     \
    X(gpt_oss)       \
    X(olmo2)         \
    X(command_r)     \
    X(cohere2)       \
    X(glm4)          \
    X(starcoder2)    \
    X(stablelm)      \
    X(gpt_neox)      \
    X(gpt2)          \
    X(bloom)         \
    X(llama4)        \
    X(bert)
/* clang-format on */

#define DECLARE(name) extern const struct arch_desc arch_##name;
FAMILIES(DECLARE)
#undef DECLARE

static const struct arch_desc *const families[] = {
#define ENTRY(name) &arch_##name,
    FAMILIES(ENTRY)
#undef ENTRY
};
#define N_FAMILIES ((int)(sizeof families / sizeof families[0]))

int arch_count(void)
{
    return N_FAMILIES;
}

const struct arch_desc *arch_at(int i)
{
    return families[i];
}

const struct arch_desc *arch_find(const char *name)
{
    for (int i = 0; i < N_FAMILIES; i++)
        if (strcmp(families[i]->name, name) == 0)
            return families[i];
    return NULL;
}

const struct arch_desc *arch_find_hf(const char *model_type)
{
    for (int i = 0; i < N_FAMILIES; i++)
        for (const char *const *t = families[i]->hf_types; t && *t; t++)
            if (strcmp(*t, model_type) == 0)
                return families[i];
    return NULL;
}

static char names[512];

static void names_join(void)
{
    size_t at = 0;

    for (int i = 0; i < N_FAMILIES && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", families[i]->name);
}

const char *arch_names(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, names_join);
    return names;
}

/* ---- roles and dimensions ------------------------------------------------------ */

static const struct {
    const char *name;
    enum weight_kind kind;
} roles[W_COUNT] = {
#define ROLE_ROW(name, kind) [W_##name] = {#name, WEIGHT_##kind},
    WEIGHT_ROLES(ROLE_ROW)
#undef ROLE_ROW
};

enum weight_kind weight_kind(enum weight_role role)
{
    return roles[role].kind;
}

const char *weight_role_name(enum weight_role role)
{
    return roles[role].name;
}

bool weight_is_layer(enum weight_role role)
{
    return role >= W_ATTN_NORM; /* the list has the whole-model roles first */
}

int64_t dim_value(const struct hparams *hp, enum dim d)
{
    const int64_t q = (int64_t)hp->n_head * hp->head_dim_k, k = (int64_t)hp->n_head_kv * hp->head_dim_k,
                  v = (int64_t)hp->n_head_kv * hp->head_dim_v;

    switch (d) {
    case DIM_NONE:
        return 0;
    case DIM_EMBD:
        return hp->n_embd;
    case DIM_VOCAB:
        return hp->n_vocab;
    case DIM_CTX:
        return hp->n_ctx_train;
    case DIM_TYPES:
        return hp->n_token_types;
    case DIM_Q:
        return q;
    case DIM_K:
        return k;
    case DIM_V:
        return v;
    case DIM_ATTN:
        return (int64_t)hp->n_head * hp->head_dim_v;
    case DIM_QKV:
        return q + k + v;
    case DIM_MLA_Q:
        return (int64_t)hp->n_head * (hp->qk_nope + hp->qk_rope);
    case DIM_HEAD:
        return hp->head_dim_k;
    case DIM_N_HEAD:
        return hp->n_head;
    case DIM_N_HEAD_KV:
        return hp->n_head_kv;
    case DIM_ROT_HALF:
        return hp->n_rot / 2;
    case DIM_FF:
        return hp->n_ff;
    case DIM_FF2:
        return 2 * (int64_t)hp->n_ff;
    case DIM_EXPERTS:
        return hp->n_expert;
    case DIM_FF_EXP:
        return hp->n_ff_expert;
    case DIM_FF_EXP2:
        return 2 * (int64_t)hp->n_ff_expert;
    case DIM_FF_SHARED:
        return hp->n_ff_shared;
    case DIM_ONE:
        return 1;
    case DIM_Q_LORA:
        return hp->q_lora;
    case DIM_KV_LORA:
        return hp->kv_lora;
    case DIM_KV_A:
        return (int64_t)hp->kv_lora + hp->qk_rope;
    case DIM_KV_B:
        return (int64_t)hp->n_head * (hp->qk_nope + hp->head_dim_v);
    case DIM_NOPE:
        return hp->qk_nope;
    case DIM_MLA_V:
        return hp->head_dim_v;
    case DIM_COUNT:
        break;
    }
    return 0;
}
