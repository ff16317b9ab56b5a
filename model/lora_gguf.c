/* lora_gguf.c - adapters in GGUF: general.type "adapter", adapter.type "lora".
 *
 * Tensors are "blk.N.x.weight.lora_a" and ".lora_b"; one adapter.lora.alpha holds
 * for all of them, and the rank is each tensor's own.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/facts.h"
#include "model/gguf.h"
#include "model/lora_reader.h"

struct lora_gguf {
    struct gguf *g;
    double alpha;
};

static void gguf_reader_close(void *ctx)
{
    struct lora_gguf *r = ctx;
    if (!r)
        return;
    gguf_close(r->g);
    free(r);
}

static err gguf_scale(void *ctx, const char *module, int rank, float *out, struct why *why)
{
    const struct lora_gguf *r = ctx;
    (void)module;
    (void)why;
    /* Old converters wrote no alpha; its absence means a factor of 1. */
    *out = r->alpha != 0 ? (float)(r->alpha / rank) : 1;
    return ERR_OK;
}

static err check_kind(struct facts *f, const char *family, struct why *why)
{
    err e = ERR_OK;
    if (!fact_is(f, ".general.type", "adapter"))
        FAIL(ERR_UNSUPPORTED, "%s: not an adapter (general.type is \"%.32s\")", f->path,
             fact_text_or(f, ".general.type", "model"));
    if (!fact_is(f, ".adapter.type", "lora"))
        FAIL(ERR_UNSUPPORTED, "%s: adapter.type is \"%.32s\"; only lora is supported", f->path,
             fact_text_or(f, ".adapter.type", ""));
    if (!fact_is(f, ".general.architecture", family))
        FAIL(ERR_UNSUPPORTED, "%s: made for family \"%.32s\", the model is of family %s", f->path,
             fact_text_or(f, ".general.architecture", ""), family);
    if (fact_has(f, ".adapter.alora.invocation_tokens"))
        FAIL(ERR_UNSUPPORTED, "%s: activated LoRA (adapter.alora.invocation_tokens) is not supported", f->path);
out:
    return e;
}

/* Takes g over, also when it fails. */
static err reader_open(struct gguf *g, const char *family, struct lora_reader *out, struct why *why)
{
    err e;
    struct facts f;
    struct lora_gguf *r = calloc(1, sizeof *r);

    if (!r) {
        e = why_set(why, ERR_NOMEM, "%s: no memory", gguf_path(g));
        gguf_close(g);
        return e;
    }
    r->g = g;
    facts_init_gguf(&f, r->g, family);
    TRY(check_kind(&f, family, why));
    r->alpha = fact_real_or(&f, ".adapter.lora.alpha", 0);
    TRY(facts_err(&f, why));
    *out = (struct lora_reader){.names = NAMES_GGUF,
                                .tensors = gguf_tensors(r->g),
                                .a_ending = ".lora_a",
                                .b_ending = ".lora_b",
                                .prefix = "",
                                .suffix = "",
                                .scale = gguf_scale,
                                .close = gguf_reader_close,
                                .ctx = r};
    r = NULL;
out:
    gguf_reader_close(r);
    return e;
}

err lora_gguf_open(const char *path, const char *family, struct lora_reader *out, struct why *why)
{
    struct gguf *g;
    err e = gguf_open(path, &g, why);
    return e ? e : reader_open(g, family, out, why);
}

err lora_gguf_open_memory(const void *data, size_t size, const char *label, const char *family,
                          struct lora_reader *out, struct why *why)
{
    struct gguf *g;
    err e = gguf_open_memory(data, size, label, &g, why);
    return e ? e : reader_open(g, family, out, why);
}
