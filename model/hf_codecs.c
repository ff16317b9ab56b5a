/* hf_codecs.c - see hf_codecs.h.
 *
 * A scheme is known by the names and types of a module's tensors, which say more than
 * quantization_config does and never less. The config is asked for what tensors do not
 * show: the version of a packing, the size of blocks, and transforms of activations,
 * without which the weights alone would be wrong.
 */
#include "model/hf_codecs.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/f16.h"
#include "model/codec.h"
#include "model/hf_ints.h"

#define NAME_BYTES 512
#define MXFP4_BLOCK 32

bool hf_ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);

    return n >= t && strcmp(s + n - t, tail) == 0;
}

struct file_tensor *hf_sibling(const struct hf_resolver *r, const struct file_tensor *t, const char *old,
                               const char *tail)
{
    char other[NAME_BYTES];
    size_t stem = strlen(t->name) - strlen(old);

    if (stem + strlen(tail) >= sizeof other)
        return NULL;
    memcpy(other, t->name, stem);
    strcpy(other + stem, tail);
    return catalog_find(r->c, other);
}

err hf_keep(struct hf_resolver *r, struct file_tensor *s, const struct file_tensor **out, struct why *why)
{
    struct file_tensor *copy = arena_alloc(r->arena, sizeof *copy);

    if (!copy)
        return why_set(why, ERR_NOMEM, "%s: no memory for scales", s->name);
    *copy = *s;
    r->used[s - r->c->t] = true;
    *out = copy;
    return ERR_OK;
}

bool hf_is_float(const struct file_tensor *t)
{
    return t->fmt == FMT_F32 || t->fmt == FMT_F16 || t->fmt == FMT_BF16;
}

/* ---- FP8 ------------------------------------------------------------------------------ */

/* Every scale has at most four significant bits and an ordinary exponent: then a
 * product with e4m3 is exact in bf16. */
static bool scales_are_short(const struct file_tensor *s)
{
    for (int64_t i = 0, n = file_tensor_elements(s); i < n; i++) {
        const float x = codec_scale_at(s, i), size = fabsf(x);
        if ((f32_bits(x) & 0xfffff) != 0 || !(size == 0 || (size > 0x1p-100f && size < 0x1p100f)))
            return false;
    }
    return true;
}

static bool all_bytes_zero(const struct file_tensor *t)
{
    for (uint64_t i = 0; i < t->bytes; i++)
        if (t->data[i])
            return false;
    return true;
}

/* Rows and columns of the block that shares one of n scales. */
static void fp8_block(const struct hf_resolver *r, const struct file_tensor *t, int64_t n, double block[2])
{
    const int64_t rows = t->n_dims >= 2 ? t->dims[t->n_dims - 2] : 1, cols = t->dims[t->n_dims - 1];
    const int64_t outer = file_tensor_rows(t) / rows;

    if (n == outer || n == outer * rows) {
        block[0] = n == outer ? (double)rows : 1;
        block[1] = (double)cols;
    } else if (fact_reals(r->config, "quantization_config.weight_block_size", block, 2) != 2 &&
               fact_reals(r->config, "quantization_config.config_groups.group_0.weights.block_structure",
                          block, 2) != 2) {
        block[0] = block[1] = 128;
    }
}

static err resolve_fp8(struct hf_resolver *r, struct file_tensor *t, struct why *why)
{
    err e;
    const int64_t rows = t->n_dims >= 2 ? t->dims[t->n_dims - 2] : 1, cols = t->dims[t->n_dims - 1];
    const int64_t outer = file_tensor_rows(t) / rows;
    struct file_tensor *s = hf_sibling(r, t, "", "_scale_inv"), *z = hf_sibling(r, t, "", "_zero_point");
    double block[2] = {0, 0};

    if (!s)
        s = hf_sibling(r, t, "", "_scale");
    if (!s || !hf_is_float(s))
        FAIL(ERR_UNSUPPORTED, "%s: tensor %s is FP8 without float scales (%s_scale_inv or _scale)",
             r->config->path, t->name, t->name);
    if (z && !all_bytes_zero(z))
        FAIL(ERR_UNSUPPORTED, "%s: tensor %s is FP8 with zero points", r->config->path, t->name);
    if (z)
        r->used[z - r->c->t] = true;
    int64_t n = file_tensor_elements(s);
    fp8_block(r, t, n, block);
    if (!(block[0] >= 1 && block[0] <= 1 << 24 && block[1] >= 1 && block[1] <= 1 << 24))
        FAIL(ERR_FORMAT, "%s: weight_block_size is not possible", r->config->path);
    t->scale_rows = (int64_t)block[0];
    t->scale_cols = (int64_t)block[1];
    if (n !=
        outer * ((rows + t->scale_rows - 1) / t->scale_rows) * ((cols + t->scale_cols - 1) / t->scale_cols))
        FAIL(ERR_SHAPE,
             "%s: tensor %s has %" PRId64 " scales; blocks of %" PRId64 " x %" PRId64 " do not make that",
             r->config->path, t->name, n, t->scale_rows, t->scale_cols);
    TRY(hf_keep(r, s, &t->scales, why));
    t->codec = CODEC_FP8;
    t->fmt = scales_are_short(s) ? FMT_BF16 : FMT_F32;
    t->row_bytes = fmt_row_bytes(t->fmt, cols);
out:
    return e;
}

/* ---- FP4 -------------------------------------------------------------------------------- */

/* blocks [..., 16] and scales [...] become [..., 32 * blocks]; compressed-tensors has the
 * blocks of a row in one dimension. */
static err resolve_mxfp4(struct hf_resolver *r, struct file_tensor *t, const char *old, const char *tail,
                         struct why *why)
{
    err e;
    struct file_tensor *s = hf_sibling(r, t, old, tail);
    const int last = s ? s->n_dims - 1 : 0;

    if (!s || strcmp(s->type_name, "U8") != 0 || s->bytes * (MXFP4_BLOCK / 2) != t->bytes ||
        memcmp(t->dims, s->dims, (size_t)last * sizeof t->dims[0]) != 0 ||
        s->dims[last] > INT64_MAX / MXFP4_BLOCK)
        FAIL(ERR_SHAPE, "%s: tensor %s: MXFP4 blocks without scales of the same shape", r->config->path,
             t->name);
    t->codec = CODEC_MXFP4;
    t->fmt = FMT_MXFP4;
    t->type_name = "MXFP4";
    t->n_dims = s->n_dims;
    memcpy(t->dims, s->dims, sizeof t->dims);
    t->dims[last] *= MXFP4_BLOCK;
    t->row_bytes = fmt_row_bytes(FMT_MXFP4, t->dims[last]);
    TRY(hf_keep(r, s, &t->scales, why));
out:
    return e;
}

static err refuse_nvfp4(const struct hf_resolver *r, const struct file_tensor *t, struct why *why)
{
    return why_set(why, ERR_UNSUPPORTED,
                   "%s: tensor %s is NVFP4: values times a block's scale times the tensor's f32 scale, for "
                   "which no block type has a place; use the model before quantisation, or a GGUF of it",
                   r->config->path, t->name);
}

static err resolve_packed(struct hf_resolver *r, struct file_tensor *t, struct why *why)
{
    if (strcmp(t->type_name, "U8") != 0)
        return hf_ints_packed(r, t, why);
    const struct file_tensor *s = hf_sibling(r, t, "weight_packed", "weight_scale");
    if (s && strcmp(s->type_name, "F8_E4M3") == 0)
        return refuse_nvfp4(r, t, why);
    return resolve_mxfp4(r, t, "weight_packed", "weight_scale", why);
}

/* ---- methods ------------------------------------------------------------------------------ */

static const char *const supported =
    "fp8, fbgemm_fp8, mxfp4, gptq, awq, compressed-tensors (int, fp8, mxfp4) and modelopt (fp8)";

/* Methods that no block type can follow, and why. */
static const struct {
    const char *method, *reason;
} refused[] = {
    {"bitsandbytes", "NF4, FP4 and LLM.int8 are codes with scales of their own in f32"},
    {"hqq", "its zero points are no integers"},
    {"aqlm", "its weights are sums of codebook vectors"},
    {"vptq", "its weights are codebook vectors"},
    {"higgs", "its weights are codebook vectors of a rotated matrix"},
    {"quip", "its weights are codebook vectors of a rotated matrix"},
    {"spqr", "it keeps outliers beside the groups"},
    {"exl2", "its layout is one GPU kernel's"},
    {"exl3", "its weights are a trellis of a rotated matrix"},
    {"auto-round", "its packing differs between versions; export it as auto_gptq or auto_awq"},
};

static err check_method(struct facts *config, const char *method, struct why *why)
{
    static const char *const known[] = {"",     "fp8", "fbgemm_fp8",         "mxfp4",
                                        "gptq", "awq", "compressed-tensors", "modelopt"};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(method, known[i]) == 0)
            return ERR_OK;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (strcmp(method, refused[i].method) == 0)
            return why_set(why, ERR_UNSUPPORTED,
                           "%s: quant_method %s has no block type of the same values: %s; use the model "
                           "before quantisation, or a GGUF of it (supported: %s)",
                           config->path, method, refused[i].reason, supported);
    return why_set(why, ERR_UNSUPPORTED,
                   "%s: quant_method %s is not supported; supported: %s; or use the model before "
                   "quantisation, or a GGUF of it",
                   config->path, method, supported);
}

/* Rotations that must be applied to activations when the model runs. */
static err check_transforms(const struct facts *config, struct why *why)
{
    static const char *const keys[] = {"quantization_config.transform_config.config_groups",
                                       "quantization_config.rotation_config"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (fact_has(config, keys[i]))
            return why_set(why, ERR_UNSUPPORTED,
                           "%s: %s: weights are stored rotated, activations would have to be; use a model "
                           "without",
                           config->path, keys[i]);
    return ERR_OK;
}

/* ---- all of them -------------------------------------------------------------------------- */

/* "qweight" and "weight_packed" -> "weight", when no look-up needs the old order any more. */
static err rename_packed(struct file_tensor *t, struct arena *names, struct why *why)
{
    const char *tail = hf_ends_with(t->name, "qweight") ? "qweight" : "weight_packed";
    const size_t stem = strlen(t->name) - strlen(tail);
    char *name = arena_alloc(names, stem + sizeof "weight");

    if (!name)
        return why_set(why, ERR_NOMEM, "names of tensors");
    memcpy(name, t->name, stem);
    memcpy(name + stem, "weight", sizeof "weight");
    t->name = name;
    return ERR_OK;
}

/* What the schemes leave behind that weights do without: scales of activations and of KV. */
static bool is_residue(const char *name)
{
    static const char *const tails[] = {".input_scale",        ".input_zero_point", ".output_scale",
                                        ".input_global_scale", ".weight_shape",     ".k_scale",
                                        ".v_scale",            ".q_scale"};

    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (hf_ends_with(name, tails[i]))
            return true;
    return false;
}

static err sort_again(struct hf_resolver *r, struct why *why)
{
    struct catalog *c = r->c;
    size_t kept = 0;

    for (size_t i = 0; i < c->n; i++)
        if (!r->used[i] && !is_residue(c->t[i].name))
            c->t[kept++] = c->t[i];
    c->n = kept;
    return catalog_sort(c, why);
}

static err resolve_one(struct hf_resolver *r, struct file_tensor *t, const char *method, struct why *why)
{
    if (hf_ends_with(t->name, ".qweight")) {
        if (strcmp(method, "gptq") == 0)
            return hf_ints_gptq(r, t, why);
        if (strcmp(method, "awq") == 0)
            return hf_ints_awq(r, t, why);
        return why_set(why, ERR_UNSUPPORTED,
                       "%s: tensor %s is packed, but quantization_config does not say how (gptq, awq)",
                       r->config->path, t->name);
    }
    if (hf_ends_with(t->name, ".weight_packed"))
        return resolve_packed(r, t, why);
    if (strcmp(t->type_name, "F8_E4M3") == 0 && !r->used[t - r->c->t])
        return resolve_fp8(r, t, why);
    if (strcmp(t->type_name, "U8") == 0 && hf_ends_with(t->name, "_blocks") && t->n_dims == 4 &&
        t->dims[3] == MXFP4_BLOCK / 2)
        return resolve_mxfp4(r, t, "_blocks", "_scales", why);
    if (strcmp(t->type_name, "U8") == 0 && hf_sibling(r, t, "", "_scale_2"))
        return refuse_nvfp4(r, t, why);
    if (strcmp(t->type_name, "I8") == 0 && hf_ends_with(t->name, ".weight"))
        return hf_ints_bytes(r, t, why);
    return ERR_OK;
}

err hf_codecs_resolve(struct catalog *c, struct facts *config, struct arena *arena, struct why *why)
{
    err e;
    struct hf_resolver r = {.c = c, .config = config, .arena = arena};
    char method[64];

    snprintf(method, sizeof method, "%s", fact_text_or(config, "quantization_config.quant_method", ""));
    TRY(facts_err(config, why));
    TRY(check_method(config, method, why));
    TRY(check_transforms(config, why));
    r.used = arena_array(arena, c->n + 1, sizeof *r.used);
    if (!r.used)
        FAIL(ERR_NOMEM, "list of %zu tensors", c->n);
    for (size_t i = 0; i < c->n; i++)
        TRY(resolve_one(&r, &c->t[i], method, why));
    TRY(facts_err(config, why));
    for (size_t i = 0; i < c->n; i++)
        if (hf_ends_with(c->t[i].name, ".qweight") || hf_ends_with(c->t[i].name, ".weight_packed"))
            TRY(rename_packed(&c->t[i], arena, why));
    TRY(sort_again(&r, why));
out:
    return e;
}
