/* hf_ints.c - GPTQ, AWQ and compressed-tensors' integers: which block type holds them.
 *
 * w = scale * (q - zero). A block type of ours has one f16 scale for 32 columns and a
 * signed code, so nothing is lost if the scale is an f16 number, a group is a multiple
 * of 32 columns, and q - zero is a code: five bits (Q5_0) for 4-bit integers with zero
 * points, Q4_0 without and for 2 and 3 bits, Q8_0 for 8 bits whose differences fit.
 *
 * The number of bits is read from the shapes, which also serves checkpoints that give
 * modules bits of their own. Zero points tell symmetric from asymmetric, but only
 * where the config allows both: all experts of a layer must get one type.
 */
#include "model/hf_ints.h"

#include <inttypes.h>
#include <string.h>

#include "base/f16.h"
#include "model/codec.h"
#include "model/codec_ints.h"

#define BLOCK 32
#define WORD_BITS 32

static bool is_words(const struct file_tensor *t)
{
    return strcmp(t->type_name, "I32") == 0 && t->n_dims == 2;
}

static bool is_bytes(const struct file_tensor *t)
{
    return strcmp(t->type_name, "I8") == 0 && t->n_dims == 2;
}

/* Scales that the f16 of our blocks holds as they are. */
static bool scales_fit_f16(const struct file_tensor *s)
{
    if (s->fmt == FMT_F16)
        return true;
    for (int64_t i = 0, n = file_tensor_elements(s); i < n; i++) {
        const float x = codec_scale_at(s, i);
        if (f16_to_f32(f32_to_f16(x)) != x)
            return false;
    }
    return true;
}

/* g_idx must be i / group: no reordering of columns by activation. */
static bool groups_in_order(const struct file_tensor *g, int64_t cols, int64_t group)
{
    if (strcmp(g->type_name, "I32") != 0 || g->n_dims != 1 || g->dims[0] != cols)
        return false;
    for (int64_t i = 0; i < cols; i++) {
        int32_t x;
        memcpy(&x, g->data + (size_t)i * sizeof x, sizeof x);
        if (x != i / group)
            return false;
    }
    return true;
}

/* What is known of a tensor before its type is. */
struct found {
    int64_t rows, cols, groups;
    struct file_tensor *scales, *zeros, *g_idx; /* the last two or NULL */
    struct int_coding ints;
    bool symmetric; /* the checkpoint says that its zero points are all the middle */
    const char *scheme;
};

static bool is_supported(int64_t bits)
{
    return bits == 2 || bits == 3 || bits == 4 || bits == 8;
}

/* All zero points; *middle: they are all `coding.zero`. */
static err check_zeros(const struct hf_resolver *r, const struct file_tensor *t, int64_t groups, bool *middle,
                       struct why *why)
{
    const int limit = 1 << t->ints.bits;

    *middle = true;
    for (int64_t g = 0; t->zeros && g < groups; g++)
        for (int64_t row = 0; row < t->dims[0]; row++) {
            const int zero = codec_ints_zero(t, row, g);
            if (zero < 0 || zero > limit)
                return why_set(why, ERR_FORMAT, "%s: tensor %s: a zero point of %d for %d bits",
                               r->config->path, t->name, zero, t->ints.bits);
            if (zero == limit) /* 0 - 1 wrapped; some programs read 0 here, others 2^bits */
                return why_set(why, ERR_UNSUPPORTED,
                               "%s: tensor %s: a zero point of 0, which checkpoint_format \"gptq\" cannot "
                               "say (it stores one less); save the model as gptq_v2",
                               r->config->path, t->name);
            *middle = *middle && zero == t->ints.zero;
        }
    return ERR_OK;
}

static err choose_fmt(const struct hf_resolver *r, struct file_tensor *t, const struct found *x,
                      struct why *why)
{
    err e;
    bool middle;

    TRY(check_zeros(r, t, x->groups, &middle, why));
    if (t->ints.bits < 4)
        t->fmt = FMT_Q4_0;
    else if (t->ints.bits == 4)
        t->fmt = x->symmetric && middle ? FMT_Q4_0 : FMT_Q5_0;
    else
        t->fmt = FMT_Q8_0;
    if (t->fmt == FMT_Q8_0 && !middle && !codec_ints_between(t, -128, 127))
        FAIL(ERR_UNSUPPORTED,
             "%s: tensor %s: 8-bit integers with zero points reach over nine bits, which no block type "
             "holds; use a symmetric one or the model before quantisation",
             r->config->path, t->name);
out:
    return e;
}

static err become_ints(struct hf_resolver *r, struct file_tensor *t, const struct found *x, struct why *why)
{
    err e;
    const char *path = r->config->path;
    const int64_t group = x->groups > 0 ? x->cols / x->groups : 0;

    if (group < 1 || x->cols % x->groups != 0 || group % BLOCK != 0)
        FAIL(ERR_UNSUPPORTED,
             "%s: tensor %s: %s with %" PRId64 " columns in %" PRId64
             " groups; a block type needs groups of a multiple of %d",
             path, t->name, x->scheme, x->cols, x->groups, BLOCK);
    if (x->g_idx && !groups_in_order(x->g_idx, x->cols, group))
        FAIL(ERR_UNSUPPORTED,
             "%s: tensor %s: columns reordered by activation (desc_act, actorder=group): the columns of a "
             "block have different scales; use a checkpoint without",
             path, t->name);
    if (!scales_fit_f16(x->scales))
        FAIL(ERR_UNSUPPORTED,
             "%s: tensor %s has scales that are no f16 numbers, as those of every block type are; use the "
             "model before quantisation",
             path, t->name);
    t->codec = CODEC_INTS;
    t->type_name = x->scheme;
    t->dims[0] = x->rows;
    t->dims[1] = x->cols;
    t->ints = x->ints;
    t->ints.zero = (uint8_t)(1 << (x->ints.bits - 1));
    t->scale_rows = file_tensor_elements(x->scales) == 1 ? x->rows : 1;
    t->scale_cols = group;
    TRY(hf_keep(r, x->scales, &t->scales, why));
    if (x->zeros)
        TRY(hf_keep(r, x->zeros, &t->zeros, why));
    TRY(choose_fmt(r, t, x, why));
    t->row_bytes = fmt_row_bytes(t->fmt, x->cols);
    if (x->g_idx)
        r->used[x->g_idx - r->c->t] = true;
out:
    return e;
}

static err bad_parts(const struct hf_resolver *r, const struct file_tensor *t, const char *scheme,
                     struct why *why)
{
    char shape[96];

    file_tensor_shape(t, shape);
    return why_set(why, ERR_UNSUPPORTED,
                   "%s: tensor %s (%s %s) does not have the %s scales and zero points that %s has",
                   r->config->path, t->name, t->type_name, shape, "shapes of", scheme);
}

err hf_ints_gptq(struct hf_resolver *r, struct file_tensor *t, struct why *why)
{
    struct file_tensor *s = hf_sibling(r, t, "qweight", "scales"), *z = hf_sibling(r, t, "qweight", "qzeros");
    const char *form = fact_text_or(r->config, "quantization_config.checkpoint_format", "gptq");
    const bool v2 = strcmp(form, "gptq_v2") == 0;

    if (!v2 && strcmp(form, "gptq") != 0)
        return why_set(why, ERR_UNSUPPORTED,
                       "%s: GPTQ in checkpoint_format %.64s, made for one GPU kernel; gptq and gptq_v2 are "
                       "supported",
                       r->config->path, form);
    if (!s || !z || !is_words(t) || !is_words(z) || s->n_dims != 2 || !hf_is_float(s) ||
        z->dims[0] != s->dims[0] || t->dims[1] != s->dims[1])
        return bad_parts(r, t, "GPTQ", why);
    const int64_t bits = z->dims[1] * WORD_BITS / s->dims[1];
    if (!is_supported(bits) || s->dims[1] * bits != z->dims[1] * WORD_BITS ||
        t->dims[0] * WORD_BITS % bits != 0)
        return bad_parts(r, t, "GPTQ with 2, 3, 4 or 8 bits", why);
    struct found x = {.rows = s->dims[1],
                      .cols = t->dims[0] * WORD_BITS / bits,
                      .groups = s->dims[0],
                      .scales = s,
                      .zeros = z,
                      .g_idx = hf_sibling(r, t, "qweight", "g_idx"),
                      .ints = {.order = INTS_GPTQ, .bits = (uint8_t)bits, .zero_plus = v2 ? 0 : 1},
                      .symmetric = fact_bool_or(r->config, "quantization_config.sym", true),
                      .scheme = "GPTQ"};
    return become_ints(r, t, &x, why);
}

err hf_ints_awq(struct hf_resolver *r, struct file_tensor *t, struct why *why)
{
    struct file_tensor *s = hf_sibling(r, t, "qweight", "scales"), *z = hf_sibling(r, t, "qweight", "qzeros");
    const char *version = fact_text_or(r->config, "quantization_config.version", "gemm");

    if (strcasecmp(version, "gemm") != 0)
        return why_set(why, ERR_UNSUPPORTED,
                       "%s: AWQ in version %.64s, packed for one GPU kernel; gemm is supported",
                       r->config->path, version);
    if (!s || !is_words(t) || s->n_dims != 2 || !hf_is_float(s) || t->dims[1] != s->dims[1] / 8 ||
        s->dims[1] % 8 != 0 ||
        (z && (!is_words(z) || z->dims[0] != s->dims[0] || z->dims[1] != t->dims[1])))
        return bad_parts(r, t, "AWQ with 4 bits", why);
    struct found x = {.rows = s->dims[1],
                      .cols = t->dims[0],
                      .groups = s->dims[0],
                      .scales = s,
                      .zeros = z,
                      .ints = {.order = INTS_AWQ, .bits = 4},
                      .symmetric = !fact_bool_or(r->config, "quantization_config.zero_point", true),
                      .scheme = "AWQ"};
    if (!z && !x.symmetric)
        return bad_parts(r, t, "AWQ with zero points", why);
    return become_ints(r, t, &x, why);
}

/* weight_shape's second number: the row before it was packed. 0: not said. */
static int64_t said_cols(const struct hf_resolver *r, const struct file_tensor *t)
{
    const struct file_tensor *shape = hf_sibling(r, t, "weight_packed", "weight_shape");
    int64_t wide[2];
    int32_t narrow[2];

    if (!shape || shape->n_dims != 1 || shape->dims[0] != 2)
        return 0;
    if (strcmp(shape->type_name, "I64") == 0) {
        memcpy(wide, shape->data, sizeof wide);
        return wide[1];
    }
    if (strcmp(shape->type_name, "I32") == 0) {
        memcpy(narrow, shape->data, sizeof narrow);
        return narrow[1];
    }
    return 0;
}

/* compressed-tensors: scales [rows][groups], or one of the whole tensor. */
static err find_groups(const struct file_tensor *s, struct found *x)
{
    if (!s || !hf_is_float(s))
        return ERR_UNSUPPORTED;
    x->groups = file_tensor_elements(s) == 1 ? 1 : s->n_dims == 2 ? s->dims[1] : 1;
    return file_tensor_elements(s) == 1 || s->dims[0] == x->rows ? ERR_OK : ERR_UNSUPPORTED;
}

err hf_ints_packed(struct hf_resolver *r, struct file_tensor *t, struct why *why)
{
    struct file_tensor *s = hf_sibling(r, t, "weight_packed", "weight_scale"),
                       *z = hf_sibling(r, t, "weight_packed", "weight_zero_point");
    struct found x = {.rows = t->dims[0],
                      .scales = s,
                      .zeros = z,
                      .g_idx = hf_sibling(r, t, "weight_packed", "weight_g_idx"),
                      .symmetric = !z,
                      .scheme = "packed int"};

    x.cols = said_cols(r, t);
    if (x.cols == 0)
        x.cols = t->dims[1] * 8;
    if (!is_words(t) || x.cols < 1 || t->dims[1] > x.cols || find_groups(s, &x))
        return bad_parts(r, t, "compressed-tensors", why);
    const int64_t bits = t->dims[1] * WORD_BITS / x.cols;
    const bool words = z && is_words(z) && z->dims[0] == (x.rows * bits + WORD_BITS - 1) / WORD_BITS;
    if (!is_supported(bits) || bits == 3 || x.cols * bits != t->dims[1] * WORD_BITS ||
        (z && ((!words && !(is_bytes(z) && z->dims[0] == x.rows)) || z->dims[1] != x.groups)))
        return bad_parts(r, t, "compressed-tensors with 2, 4 or 8 bits", why);
    x.ints = (struct int_coding){.order = INTS_ROWS, .bits = (uint8_t)bits, .zero_bytes = z && !words};
    return become_ints(r, t, &x, why);
}

err hf_ints_bytes(struct hf_resolver *r, struct file_tensor *t, struct why *why)
{
    struct file_tensor *s = hf_sibling(r, t, "", "_scale"), *z = hf_sibling(r, t, "", "_zero_point");
    struct found x = {.rows = t->dims[0],
                      .cols = t->dims[1],
                      .scales = s,
                      .zeros = z,
                      .ints = {.order = INTS_BYTES, .bits = 8, .zero_bytes = true},
                      .symmetric = !z,
                      .scheme = "int8"};

    if (t->n_dims != 2 || find_groups(s, &x) ||
        (z && (!is_bytes(z) || z->dims[0] != x.rows || z->dims[1] != x.groups)))
        return bad_parts(r, t, "compressed-tensors with 8 bits", why);
    return become_ints(r, t, &x, why);
}
