/* kv.h - the keys and values of a stage's layers, in pages.
 *
 * One block holds n_pages pages; a page holds KV_PAGE positions of every layer
 * of the stage: [page][layer][kv head]{ K, V } in the KV type, laid out as attention
 * reads them (kernels.h). Which sequence owns which page is rank 0's business.
 *
 * Latent attention keeps [KV_PAGE][dk]: one row per position and layer instead of heads: the
 * compressed vector followed by the rotated key part. It is the key (dk =
 * kv_lora + qk_rope) of a single head shared by all queries, and its first
 * kv_lora entries are the value: V is a view into K.
 */
#ifndef CORDEE_MODEL_KV_H
#define CORDEE_MODEL_KV_H

#include <stdint.h>

#include "base/err.h"
#include "kernels/kernels.h"
#include "kernels/kv_page.h"
#include "model/desc.h"
#include "model/hparams.h"

struct kv {
    enum kv_type type;
    uint32_t n_pages;
    int n_layers, n_heads; /* heads per layer: KV heads, or 1 when latent */
    int dk, dv;
    size_t v_in_head; /* from a head's K to its V; 0 when latent */
    size_t head_bytes, layer_bytes, page_bytes;
    kv_put_fn *put;
    char *base; /* owned; NULL: shape only */
};

/* Shape only. ERR_UNSUPPORTED: the type cannot hold rows of these sizes. */
MUST_CHECK err kv_shape(const struct arch_desc *desc, const struct hparams *hp, int n_layers,
                        uint32_t n_pages, enum kv_type type, struct kv *out, struct why *why);
static inline uint64_t kv_bytes(const struct kv *kv)
{
    return (uint64_t)kv->n_pages * kv->page_bytes;
}

/* Shape and memory; kv_fini() frees. ERR_NOMEM with both numbers. */
MUST_CHECK err kv_init(const struct arch_desc *desc, const struct hparams *hp, int n_layers, uint32_t n_pages,
                       enum kv_type type, const struct kernels *k, struct kv *out, struct why *why);
void kv_fini(struct kv *kv); /* fine on a zeroed one */

/* Byte offset of a head inside a page. layer counts from the stage's first. */
static inline size_t kv_head_offset(const struct kv *kv, int layer, int head)
{
    return (size_t)layer * kv->layer_bytes + (size_t)head * kv->head_bytes;
}

/* Writes position pos of one head. v is ignored when latent. */
static inline void kv_put(const struct kv *kv, uint32_t page, int layer, int head, int pos, const float *k,
                          const float *v)
{
    char *at = kv->base + (size_t)page * kv->page_bytes + kv_head_offset(kv, layer, head);
    int row = pos % KV_PAGE;
    if (kv->v_in_head == 0) {
        kv->put(at + (size_t)row * kv_row_bytes(kv->type, kv->dk), k, kv->dk);
        return;
    }
    kv_page_put_k(kv->type, kv->put, at, row, k, kv->dk);
    kv_page_put_v(kv->type, kv->put, at + kv->v_in_head, row, v, kv->dv);
}

#endif
