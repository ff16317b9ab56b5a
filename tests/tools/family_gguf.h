/* family_gguf.h - a tiny random model of any family, made from its descriptor.
 *
 * The tensor table has every name and shape, a few numbers of metadata give the
 * dimensions: so each family has a model on a machine that has none. Weights come
 * from a fixed generator, sized so that activations keep their scale.
 */
#ifndef CORDEE_TESTS_FAMILY_GGUF_H
#define CORDEE_TESTS_FAMILY_GGUF_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/desc.h"
#include "model/facts.h"
#include "tests/tools/gguf_writer.h"

enum { FAMILY_LAYERS = 4, FAMILY_EMBD = 32, FAMILY_VOCAB = 48, FAMILY_CONTEXT = 64, FAMILY_TENSORS = 1024 };

static inline void family_number(struct buf *b, uint64_t *n, const char *arch, const char *key, uint32_t v)
{
    char full[128];

    snprintf(full, sizeof full, "%s.%s", arch, key);
    put_value_u32(b, full, v);
    ++*n;
}

static inline bool family_has_role(const struct arch_desc *a, enum weight_role role)
{
    for (const struct tensor_spec *s = a->tensors; s->role != W_COUNT; s++)
        if (s->role == role)
            return true;
    return false;
}

/* Numbers that any family can be made of; each reads the keys it knows. */
static inline uint64_t family_metadata(struct buf *b, const struct arch_desc *a)
{
    uint64_t n = 1;
    char full[128];

    put_value_text(b, "general.architecture", a->name);
    family_number(b, &n, a->name, "block_count", FAMILY_LAYERS);
    family_number(b, &n, a->name, "embedding_length", FAMILY_EMBD);
    family_number(b, &n, a->name, "context_length", FAMILY_CONTEXT);
    family_number(b, &n, a->name, "feed_forward_length", 64);
    family_number(b, &n, a->name, "attention.head_count", 4);
    family_number(b, &n, a->name, "attention.key_length", 8);
    family_number(b, &n, a->name, "attention.value_length", 8);
    family_number(b, &n, a->name, "rope.dimension_count", a->attn.latent ? 4 : 8);
    family_number(b, &n, a->name, "attention.sliding_window", 16);
    if (family_has_role(a, W_ROUTER)) {
        family_number(b, &n, a->name, "expert_count", 4);
        family_number(b, &n, a->name, "expert_used_count", 2);
        family_number(b, &n, a->name, "expert_feed_forward_length", 24);
        family_number(b, &n, a->name, "expert_shared_count", 1);
        family_number(b, &n, a->name, "leading_dense_block_count", 1);
    }
    if (a->attn.latent) {
        family_number(b, &n, a->name, "attention.kv_lora_rank", 16);
        family_number(b, &n, a->name, "attention.q_lora_rank", 12);
    }
    snprintf(full, sizeof full, "%s.attention.max_alibi_bias", a->name);
    put_value_f32(b, full, 8);
    return n + 1;
}

/* The family's hyper-parameters for the metadata above. */
static inline err family_hparams(const struct arch_desc *a, struct hparams *hp, struct why *why)
{
    err e;
    struct buf meta, b;
    struct gguf *g = NULL;
    struct facts f;

    buf_init(&meta);
    uint64_t n = family_metadata(&meta, a);
    put_head(&b, 3, 0, n);
    buf_put(&b, meta.data, meta.len);
    TRY(gguf_open_memory(b.data, b.len, "numbers", &g, why));
    facts_init_gguf(&f, g, a->name);
    TRY(hparams_read(&f, a, FAMILY_VOCAB, hp, why));
out:
    gguf_close(g);
    buf_fini(&b);
    buf_fini(&meta);
    return e;
}

/* Optional tensors that exclude one another: the first of each choice is made. */
static inline bool family_writes(const struct tensor_spec *s)
{
    switch (s->role) {
    case W_ROPE_FREQS:
    case W_ROPE_SHORT:
    case W_ROPE_LONG:
    case W_KV_B:
        return false;
    case W_Q:
    case W_K:
    case W_V:
        return s->need != MAY;
    default:
        return s->gguf && !(s->gguf_layout & LAYOUT_EACH);
    }
}

struct family_tensor {
    char name[64];
    enum weight_role role;
    uint64_t dims[4]; /* fastest first */
    int n_dims;
};

/* Names and shapes of all tensors, at most FAMILY_TENSORS. */
static inline size_t family_tensors(const struct arch_desc *a, const struct hparams *hp, struct family_tensor *out)
{
    size_t n = 0;

    for (const struct tensor_spec *s = a->tensors; s->role != W_COUNT; s++)
        for (int layer = 0; layer < (weight_is_layer(s->role) ? hp->n_layer : 1); layer++) {
            bool dense = hp->layer_dense[layer], room = true;
            struct family_tensor w = {.role = s->role};
            if (!family_writes(s) || (s->need == MUST_DENSE && !dense) || (s->need == MUST_EXPERTS && dense))
                continue;
            for (int i = 0; i < 3 && s->shape[i] != DIM_NONE; i++) {
                w.dims[w.n_dims++] = (uint64_t)dim_value(hp, s->shape[i]);
                room = room && w.dims[i] > 0;
            }
            const char *at = strstr(s->gguf, "%d");
            if (at)
                snprintf(w.name, sizeof w.name, "%.*s%d%s", (int)(at - s->gguf), s->gguf, layer, at + 2);
            else
                snprintf(w.name, sizeof w.name, "%s", s->gguf);
            for (size_t k = 0; k < n; k++) /* several roles may name one tensor */
                room = room && strcmp(out[k].name, w.name) != 0;
            if (room && n < FAMILY_TENSORS)
                out[n++] = w;
        }
    return n;
}

/* Uniform in (-1, 1), the same everywhere. */
static inline float family_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1;
}

static inline bool family_is_gain(enum weight_role role)
{
    const char *name = weight_role_name(role);
    size_t len = strlen(name);

    return strstr(name, "NORM") && !(len > 2 && strcmp(name + len - 2, "_B") == 0);
}

static inline void family_fill(struct buf *b, const struct family_tensor *t, uint32_t *seed)
{
    const bool gain = family_is_gain(t->role);
    uint64_t n = 1;

    for (int i = 0; i < t->n_dims; i++)
        n *= t->dims[i];
    float size = weight_kind(t->role) == WEIGHT_VECTOR ? 0.1f : sqrtf(3.0f / (float)t->dims[0]);
    for (uint64_t i = 0; i < n; i++) {
        float x = family_random(seed) * size + (gain ? 1 : 0);
        buf_put(b, &x, sizeof x);
    }
    put_pad(b, 32);
}

/* The whole file; release with buf_fini(). Vocabulary FAMILY_VOCAB, no tokenizer. */
static inline struct buf family_gguf(const struct arch_desc *a, const struct hparams *hp)
{
    struct family_tensor *w = calloc(FAMILY_TENSORS, sizeof *w);
    struct buf meta, b;
    size_t n = w ? family_tensors(a, hp, w) : 0;
    uint64_t offset = 0;
    uint32_t seed = 1;

    buf_init(&meta);
    uint64_t n_values = family_metadata(&meta, a);
    put_head(&b, 3, n, n_values);
    buf_put(&b, meta.data, meta.len);
    for (size_t i = 0; i < n; i++) {
        uint64_t elements = 1;
        put_text(&b, w[i].name);
        put_u32(&b, (uint32_t)w[i].n_dims);
        for (int k = 0; k < w[i].n_dims; k++) {
            put_u64(&b, w[i].dims[k]);
            elements *= w[i].dims[k];
        }
        put_u32(&b, 0);
        put_u64(&b, offset);
        offset += (elements * 4 + 31) / 32 * 32;
    }
    put_pad(&b, 32);
    for (size_t i = 0; i < n; i++)
        family_fill(&b, &w[i], &seed);
    buf_fini(&meta);
    free(w);
    return b;
}

#endif
