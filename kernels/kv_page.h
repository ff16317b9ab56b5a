/* kv_page.h - writing one position into a KV page (layouts: kernels.h, attention). */
#ifndef CORDEE_KERNELS_KV_PAGE_H
#define CORDEE_KERNELS_KV_PAGE_H

#include "kernels/kernels.h"

/* Bytes of the K and the V part of a page for one head. */
size_t kv_k_bytes(enum kv_type t, int dk);
size_t kv_v_bytes(enum kv_type t, int dv);

/* Writes the key or value row x of position j (counted from the page's start) in the type
 * that `put` converts to. Other positions keep their bytes, so rows of one page may be
 * written by several threads. */
void kv_page_put_k(enum kv_type t, kv_put_fn *put, void *k, int j, const float *x, int dk);
void kv_page_put_v(enum kv_type t, kv_put_fn *put, void *v, int j, const float *x, int dv);

#endif
