/* hf_ints.h - what the files that resolve quantised Hugging Face tensors share. */
#ifndef CORDEE_MODEL_HF_INTS_H
#define CORDEE_MODEL_HF_INTS_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/catalog.h"
#include "model/facts.h"

/* One hf_codecs_resolve(). The catalog is sorted and keeps its order and length meanwhile. */
struct hf_resolver {
    struct catalog *c;
    struct facts *config; /* config.json */
    struct arena *arena;
    bool *used; /* [c->n] scales and the like, which became part of another tensor */
};

bool hf_ends_with(const char *s, const char *tail);
/* The tensor whose name has `tail` where t's has `old` at its end; NULL: there is none. */
struct file_tensor *hf_sibling(const struct hf_resolver *r, const struct file_tensor *t, const char *old,
                               const char *tail);
/* A copy of s that may be pointed to, as the catalog is sorted again; s leaves the catalog. */
MUST_CHECK err hf_keep(struct hf_resolver *r, struct file_tensor *s, const struct file_tensor **out,
                       struct why *why);
bool hf_is_float(const struct file_tensor *t);

/* Turn a tensor and its siblings into one of CODEC_INTS, dims [rows][cols]; the name stays.
 * ERR_UNSUPPORTED names the tensor and what no block type can hold. */
MUST_CHECK err hf_ints_gptq(struct hf_resolver *r, struct file_tensor *t, struct why *why);   /* X.qweight */
MUST_CHECK err hf_ints_awq(struct hf_resolver *r, struct file_tensor *t, struct why *why);    /* X.qweight */
MUST_CHECK err hf_ints_packed(struct hf_resolver *r, struct file_tensor *t, struct why *why); /* X.weight_packed */
MUST_CHECK err hf_ints_bytes(struct hf_resolver *r, struct file_tensor *t, struct why *why);  /* X.weight, I8 */

#endif
