/* hf_codecs.c - see hf_codecs.h. */
#include "model/hf_codecs.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/f16.h"
#include "model/facts.h"

#define NAME_BYTES 512
#define MXFP4_BLOCK 32

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);

    return n >= t && strcmp(s + n - t, tail) == 0;
}

/* The tensor whose name has `tail` instead of `old` at its end. */
static struct file_tensor *sibling(const struct catalog *c, const char *name, const char *old,
                                   const char *tail)
{
    char other[NAME_BYTES];
    size_t stem = strlen(name) - strlen(old);

    if (stem + strlen(tail) >= sizeof other)
        return NULL;
    memcpy(other, name, stem);
    strcpy(other + stem, tail);
    return catalog_find(c, other);
}

static bool is_float(const struct file_tensor *t)
{
    return t->fmt == FMT_F32 || t->fmt == FMT_F16 || t->fmt == FMT_BF16;
}

/* ---- FP8 ------------------------------------------------------------------------------ */

/* Every scale has at most four significant bits and an ordinary exponent: then a
 * product with e4m3 is exact in bf16. */
static bool scales_are_short(const struct file_tensor *s)
{
    const size_t each = (size_t)fmt_traits[s->fmt].block_bytes;

    for (int64_t i = 0, n = file_tensor_elements(s); i < n; i++) {
        float x;
        fmt_dequant_row(s->fmt, &x, s->data + (size_t)i * each, 1);
        const float size = fabsf(x);
        if ((f32_bits(x) & 0xfffff) != 0 || !(size == 0 || (size > 0x1p-100f && size < 0x1p100f)))
            return false;
    }
    return true;
}

static err resolve_fp8(struct catalog *c, struct file_tensor *t, struct facts *config, struct why *why)
{
    const int64_t rows = t->n_dims >= 2 ? t->dims[t->n_dims - 2] : 1, cols = t->dims[t->n_dims - 1];
    const int64_t outer = file_tensor_rows(t) / rows;
    struct file_tensor *s = sibling(c, t->name, "", "_scale_inv");
    double block[2] = {0, 0};

    if (!s)
        s = sibling(c, t->name, "", "_scale");
    if (!s || !is_float(s))
        return why_set(why, ERR_UNSUPPORTED, "%s: tensor %s is FP8 without scales (%s_scale_inv or _scale)",
                       config->path, t->name, t->name);
    int64_t n = file_tensor_elements(s);
    if (n == outer) {
        block[0] = (double)rows;
        block[1] = (double)cols;
    } else if (n == outer * rows) {
        block[0] = 1;
        block[1] = (double)cols;
    } else if (fact_reals(config, "quantization_config.weight_block_size", block, 2) != 2) {
        block[0] = block[1] = 128;
    }
    if (!(block[0] >= 1 && block[0] <= 1 << 24 && block[1] >= 1 && block[1] <= 1 << 24))
        return why_set(why, ERR_FORMAT, "%s: weight_block_size is not possible", config->path);
    t->scale_rows = (int64_t)block[0];
    t->scale_cols = (int64_t)block[1];
    if (n !=
        outer * ((rows + t->scale_rows - 1) / t->scale_rows) * ((cols + t->scale_cols - 1) / t->scale_cols))
        return why_set(why, ERR_SHAPE,
                       "%s: tensor %s has %" PRId64 " scales; blocks of %" PRId64 " x %" PRId64
                       " do not make that",
                       config->path, t->name, n, t->scale_rows, t->scale_cols);
    t->codec = CODEC_FP8;
    t->scales = s;
    t->fmt = scales_are_short(s) ? FMT_BF16 : FMT_F32;
    t->row_bytes = fmt_row_bytes(t->fmt, cols);
    return ERR_OK;
}

/* ---- MXFP4 ----------------------------------------------------------------------------- */

static err resolve_mxfp4(struct catalog *c, struct file_tensor *t, const char *path, struct why *why)
{
    struct file_tensor *s = sibling(c, t->name, "_blocks", "_scales");
    const int n = t->n_dims;

    if (!s || strcmp(s->type_name, "U8") != 0 || n != 4 || s->n_dims != 3 || t->dims[3] != MXFP4_BLOCK / 2 ||
        memcmp(t->dims, s->dims, 3 * sizeof t->dims[0]) != 0 || t->dims[2] > INT64_MAX / MXFP4_BLOCK)
        return why_set(why, ERR_SHAPE, "%s: tensor %s: MXFP4 blocks without scales of the same shape", path,
                       t->name);
    t->codec = CODEC_MXFP4;
    t->scales = s;
    t->fmt = FMT_MXFP4;
    t->type_name = "MXFP4";
    t->n_dims = 3;
    t->dims[2] *= MXFP4_BLOCK;
    t->dims[3] = 1;
    t->row_bytes = fmt_row_bytes(FMT_MXFP4, t->dims[2]);
    return ERR_OK;
}

/* ---- packed int4 --------------------------------------------------------------------------- */

/* Scales that Q4_0's f16 holds as they are. */
static bool scales_fit_f16(const struct file_tensor *s)
{
    const size_t each = (size_t)fmt_traits[s->fmt].block_bytes;

    for (int64_t i = 0, n = file_tensor_elements(s); i < n; i++) {
        float x;
        fmt_dequant_row(s->fmt, &x, s->data + (size_t)i * each, 1);
        if (f16_to_f32(f32_to_f16(x)) != x)
            return false;
    }
    return true;
}

static err resolve_packed(struct catalog *c, struct file_tensor *t, const char *path, struct why *why)
{
    struct file_tensor *s = sibling(c, t->name, "weight_packed", "weight_scale");
    const int64_t rows = t->dims[0], cols = t->dims[1] * 8;

    if (sibling(c, t->name, "weight_packed", "weight_zero_point"))
        return why_set(why, ERR_UNSUPPORTED,
                       "%s: tensor %s: asymmetric int4 has no block format without loss; symmetric is "
                       "supported",
                       path, t->name);
    if (strcmp(t->type_name, "I32") != 0 || t->n_dims != 2 || !s || !is_float(s) || s->n_dims != 2 ||
        s->dims[0] != rows || cols % s->dims[1] != 0 || cols / s->dims[1] % 32 != 0 || !scales_fit_f16(s))
        return why_set(why, ERR_UNSUPPORTED,
                       "%s: tensor %s: packed weights must be 4 bits, in groups of a multiple of 32, with "
                       "scales that fit f16",
                       path, t->name);
    t->codec = CODEC_PACKED;
    t->scales = s;
    t->scale_rows = 1;
    t->scale_cols = cols / s->dims[1];
    t->fmt = FMT_Q4_0;
    t->type_name = "packed int4";
    t->dims[1] = cols;
    t->row_bytes = fmt_row_bytes(FMT_Q4_0, cols);
    return ERR_OK;
}

/* ---- GPTQ ------------------------------------------------------------------------------- */

/* Zero points must all say "8": stored as 7 in the old layout, 8 in the new one. */
static bool zeros_are(const struct file_tensor *z, uint32_t word)
{
    for (uint64_t i = 0; i + 4 <= z->bytes; i += 4)
        if (memcmp(z->data + i, &word, 4) != 0)
            return false;
    return true;
}

/* g_idx must be i / group: no reordering of columns by activation. */
static bool groups_in_order(const struct file_tensor *g, int64_t group)
{
    for (int64_t i = 0; i < g->dims[0]; i++) {
        int32_t x;
        memcpy(&x, g->data + (size_t)i * 4, 4);
        if (x != i / group)
            return false;
    }
    return true;
}

static err resolve_gptq(struct catalog *c, struct file_tensor *t, struct facts *config, struct why *why)
{
    err e;
    struct file_tensor *s = sibling(c, t->name, "qweight", "scales"),
                       *z = sibling(c, t->name, "qweight", "qzeros"),
                       *g = sibling(c, t->name, "qweight", "g_idx");
    const int bits = fact_int_or(config, "quantization_config.bits", 4);
    const bool v2 =
        strcmp(fact_text_or(config, "quantization_config.checkpoint_format", "gptq"), "gptq_v2") == 0;
    const int64_t n_in = t->dims[0] * 8, n_out = t->dims[1];

    TRY(facts_err(config, why));
    if (bits != 4)
        FAIL(ERR_UNSUPPORTED, "%s: GPTQ with %d bits; 4 bits are supported", config->path, bits);
    if (!s || !z || strcmp(t->type_name, "I32") != 0 || t->n_dims != 2 || s->n_dims != 2 ||
        s->fmt != FMT_F16 || s->dims[1] != n_out || n_in % s->dims[0] != 0 || n_in / s->dims[0] % 32 != 0 ||
        strcmp(z->type_name, "I32") != 0)
        FAIL(ERR_UNSUPPORTED,
             "%s: tensor %s: GPTQ needs int32 weights, f16 scales and groups of a multiple of 32",
             config->path, t->name);
    if (!zeros_are(z, v2 ? 0x88888888u : 0x77777777u))
        FAIL(ERR_UNSUPPORTED,
             "%s: tensor %s: asymmetric GPTQ has no block format without loss; symmetric is supported",
             config->path, t->name);
    t->scale_rows = 1;
    t->scale_cols = n_in / s->dims[0];
    if (g && (strcmp(g->type_name, "I32") != 0 || g->n_dims != 1 || g->dims[0] != n_in ||
              !groups_in_order(g, t->scale_cols)))
        FAIL(ERR_UNSUPPORTED, "%s: tensor %s: GPTQ with reordered columns (desc_act) is not supported",
             config->path, t->name);
    t->codec = CODEC_GPTQ;
    t->scales = s;
    t->fmt = FMT_Q4_0;
    t->type_name = "GPTQ";
    t->dims[0] = n_out;
    t->dims[1] = n_in;
    t->row_bytes = fmt_row_bytes(FMT_Q4_0, n_in);
    e = ERR_OK;
out:
    return e;
}

/* "qweight" and "weight_packed" -> "weight", when no look-up needs the old order any more. */
static err rename_packed(struct file_tensor *t, struct arena *names, struct why *why)
{
    const char *tail = t->codec == CODEC_GPTQ ? "qweight" : "weight_packed";
    const size_t stem = strlen(t->name) - strlen(tail);
    char *name = arena_alloc(names, stem + sizeof "weight");

    if (!name)
        return why_set(why, ERR_NOMEM, "names of tensors");
    memcpy(name, t->name, stem);
    memcpy(name + stem, "weight", sizeof "weight");
    t->name = name;
    return ERR_OK;
}

/* ---- all of them -------------------------------------------------------------------------- */

/* What the schemes leave behind besides weights and the scales they use. */
static bool is_residue(const char *name)
{
    static const char *const tails[] = {".qzeros",  ".g_idx",   ".input_scale",
                                        ".k_scale", ".v_scale", ".weight_shape"};

    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (ends_with(name, tails[i]))
            return true;
    return false;
}

/* Pointers into the catalog do not survive sorting: scales are found again by name. */
static err sort_again(struct catalog *c, struct arena *names, struct why *why)
{
    err e;
    const char **scale = arena_array(names, c->n + 1, sizeof *scale);
    size_t kept = 0;

    if (!scale)
        return why_set(why, ERR_NOMEM, "names of %zu scales", c->n);
    for (size_t i = 0; i < c->n; i++)
        scale[i] = c->t[i].scales ? c->t[i].scales->name : NULL;
    for (size_t i = 0; i < c->n; i++) {
        if (is_residue(c->t[i].name))
            continue;
        c->t[kept] = c->t[i];
        c->t[kept].scales = (const void *)scale[i]; /* a name for the moment */
        kept++;
    }
    c->n = kept;
    TRY(catalog_sort(c, why));
    for (size_t i = 0; i < c->n; i++)
        if (c->t[i].scales)
            c->t[i].scales = catalog_find(c, (const char *)(const void *)c->t[i].scales);
out:
    return e;
}

err hf_codecs_resolve(struct catalog *c, struct facts *config, struct arena *names, struct why *why)
{
    err e;
    char method[64];

    snprintf(method, sizeof method, "%s", fact_text_or(config, "quantization_config.quant_method", ""));
    TRY(facts_err(config, why));
    const bool gptq = strcmp(method, "gptq") == 0;
    if (method[0] && !gptq && strcmp(method, "fp8") != 0 && strcmp(method, "mxfp4") != 0 &&
        strcmp(method, "compressed-tensors") != 0)
        FAIL(ERR_UNSUPPORTED,
             "%s: quant_method %s is not supported; supported: fp8, mxfp4, gptq and "
             "compressed-tensors (symmetric int4, float)",
             config->path, method);
    for (size_t i = 0; i < c->n; i++) {
        struct file_tensor *t = &c->t[i];
        if (strcmp(t->type_name, "F8_E4M3") == 0)
            TRY(resolve_fp8(c, t, config, why));
        else if (strcmp(t->type_name, "U8") == 0 && ends_with(t->name, "_blocks"))
            TRY(resolve_mxfp4(c, t, config->path, why));
        else if (ends_with(t->name, ".weight_packed"))
            TRY(resolve_packed(c, t, config->path, why));
    }
    for (size_t i = 0; gptq && i < c->n; i++)
        if (ends_with(c->t[i].name, ".qweight"))
            TRY(resolve_gptq(c, &c->t[i], config, why));
    for (size_t i = 0; i < c->n; i++)
        if (c->t[i].codec == CODEC_GPTQ || c->t[i].codec == CODEC_PACKED)
            TRY(rename_packed(&c->t[i], names, why));
    TRY(sort_again(c, names, why));
out:
    return e;
}
