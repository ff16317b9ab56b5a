/* kv.c - sizes and memory of the KV pages. */
#include "model/kv.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/cpu.h"

err kv_shape(const struct arch_desc *desc, const struct hparams *hp, int n_layers, uint32_t n_pages,
             enum kv_type type, struct kv *out, struct why *why)
{
    struct kv kv = {.type = type, .n_pages = n_pages, .n_layers = n_layers};
    bool latent = desc->attn.latent;

    kv.n_heads = latent ? 1 : hp->n_head_kv;
    kv.dk = latent ? hp->kv_lora + hp->qk_rope : hp->head_dim_k;
    kv.dv = latent ? hp->kv_lora : hp->head_dim_v;
    if (type == KV_Q8_0 && latent) /* a q8_0 row's scales lie behind it: no view of its first entries */
        return why_set(why, ERR_UNSUPPORTED, "kv type q8_0 cannot hold latent attention; use f16 or bf16");
    if (type == KV_Q8_0 && (kv.dk % 32 != 0 || kv.dv % 32 != 0))
        return why_set(why, ERR_UNSUPPORTED,
                       "kv type q8_0 needs heads in multiples of 32 and this model has %d and %d; use f16",
                       kv.dk, kv.dv);
    if (kv.dk % 2 != 0)
        return why_set(why, ERR_UNSUPPORTED, "keys of %d columns: an odd number is not supported", kv.dk);
    kv.v_in_head = latent ? 0 : kv_k_bytes(type, kv.dk);
    kv.head_bytes = kv_k_bytes(type, kv.dk) + (latent ? 0 : kv_v_bytes(type, kv.dv));
    kv.head_bytes = (kv.head_bytes + 63) & ~(size_t)63;
    kv.layer_bytes = kv.head_bytes * (size_t)kv.n_heads;
    kv.page_bytes = kv.layer_bytes * (size_t)n_layers;
    *out = kv;
    return ERR_OK;
}

err kv_init(const struct arch_desc *desc, const struct hparams *hp, int n_layers, uint32_t n_pages,
            enum kv_type type, const struct kernels *k, struct kv *out, struct why *why)
{
    struct kv kv;
    err e = kv_shape(desc, hp, n_layers, n_pages, type, &kv, why);
    if (e != ERR_OK)
        return e;
    kv.put = k->kv_put[type];
    if (kv_bytes(&kv) > cpu_available_bytes() || !(kv.base = mem_alloc(kv_bytes(&kv) + 64, 1)))
        return why_set(
            why, ERR_NOMEM,
            "%u KV pages of %d layers need %.1f MiB and %.1f MiB are free; lower the context or the "
            "number of sequences",
            n_pages, n_layers, (double)kv_bytes(&kv) / 0x1p20, (double)cpu_available_bytes() / 0x1p20);
    *out = kv;
    return ERR_OK;
}

void kv_fini(struct kv *kv)
{
    free(kv->base);
    kv->base = NULL;
}
