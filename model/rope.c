/* rope.c - frequency tables for every kind of rotary scaling.
 *
 * Plain: freq[i] = base^(-2i/n). linear divides by the factor. llama3 keeps fast
 * frequencies, divides slow ones and blends between two wavelengths. YaRN blends
 * between two dimension indices and scales cos and sin a little up. longrope has
 * a divisor per pair, one set for short and one for long sequences.
 */
#include "model/rope.h"

#include <math.h>
#include <stdlib.h>

#include "base/arena.h"

static const double pi = 3.14159265358979323846;

static void plain(struct rope_table *t, float base)
{
    t->mscale = 1;
    for (int i = 0; i < t->n_half; i++)
        t->freq[i] = 1.0f / powf(base, (float)(2 * i) / (float)(2 * t->n_half));
}

static void divide(struct rope_table *t, const float *by)
{
    for (int i = 0; i < t->n_half; i++)
        t->freq[i] /= by[i];
}

static void llama3(struct rope_table *t, const struct hparams *hp)
{
    float ctx = (float)hp->rope_ctx_orig;
    float low_wave = ctx / hp->rope_low_freq, high_wave = ctx / hp->rope_high_freq;
    for (int i = 0; i < t->n_half; i++) {
        float f = t->freq[i], wave = (float)(2 * pi) / f;
        if (wave > low_wave) {
            t->freq[i] = f / hp->rope_factor;
        } else if (wave >= high_wave) {
            float s = (ctx / wave - hp->rope_low_freq) / (hp->rope_high_freq - hp->rope_low_freq);
            t->freq[i] = (1 - s) * f / hp->rope_factor + s * f;
        }
    }
}

/* The (fractional) pair index that turns `turns` times within the context. */
static double yarn_index(const struct rope_table *t, double base, double ctx, double turns)
{
    return 2 * t->n_half * log(ctx / (turns * 2 * pi)) / (2 * log(base));
}

static float yarn_mscale(float factor, float mscale)
{
    return factor <= 1 ? 1 : 0.1f * mscale * logf(factor) + 1;
}

static void yarn(struct rope_table *t, const struct hparams *hp)
{
    double fast = hp->yarn_beta_fast > 0 ? hp->yarn_beta_fast : 32;
    double slow = hp->yarn_beta_slow > 0 ? hp->yarn_beta_slow : 1;
    double low = yarn_index(t, hp->rope_base, hp->rope_ctx_orig, fast);
    double high = yarn_index(t, hp->rope_base, hp->rope_ctx_orig, slow);
    if (hp->yarn_truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = low > 0 ? low : 0;
    high = high < 2 * t->n_half - 1 ? high : 2 * t->n_half - 1;
    if (low == high)
        high += 0.001;
    for (int i = 0; i < t->n_half; i++) {
        float ramp = (float)(((double)i - low) / (high - low));
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        t->freq[i] = t->freq[i] / hp->rope_factor * ramp + t->freq[i] * (1 - ramp);
    }
    if (hp->yarn_attn_factor > 0)
        t->mscale = hp->yarn_attn_factor;
    else if (hp->yarn_mscale > 0 && hp->yarn_mscale_all_dim > 0)
        t->mscale = yarn_mscale(hp->rope_factor, hp->yarn_mscale) /
                    yarn_mscale(hp->rope_factor, hp->yarn_mscale_all_dim);
    else
        t->mscale = yarn_mscale(hp->rope_factor, 1);
}

/* What longrope multiplies cos and sin with when the model does not say. */
static float longrope_mscale(const struct hparams *hp)
{
    float factor = hp->rope_factor > 1 ? hp->rope_factor : (float)hp->n_ctx_train / (float)hp->rope_ctx_orig;
    return factor <= 1 ? 1 : sqrtf(1 + logf(factor) / logf((float)hp->rope_ctx_orig));
}

static err longrope(struct rope *r, const struct hparams *hp, const float *brief, const float *extended,
                    struct why *why)
{
    if (!brief || !extended)
        return why_set(why, ERR_SHAPE, "longrope scaling without its short and long factors");
    plain(&r->table[ROPE_LONG], hp->rope_base);
    divide(&r->table[ROPE_GLOBAL], brief);
    divide(&r->table[ROPE_LONG], extended);
    float both = longrope_mscale(hp);
    r->table[ROPE_GLOBAL].mscale = hp->longrope_short_mscale > 0 ? hp->longrope_short_mscale : both;
    r->table[ROPE_LONG].mscale = hp->longrope_long_mscale > 0 ? hp->longrope_long_mscale : both;
    r->long_from = hp->rope_ctx_orig;
    return ERR_OK;
}

static err scale_global(struct rope *r, const struct hparams *hp, const float *factors,
                        const float *file_short, const float *file_long, struct why *why)
{
    struct rope_table *t = &r->table[ROPE_GLOBAL];
    bool needs_ctx = hp->rope_scaling == ROPE_SCALING_YARN || hp->rope_scaling == ROPE_SCALING_LONGROPE ||
                     (hp->rope_scaling == ROPE_SCALING_LLAMA3 && !factors);
    if (needs_ctx && hp->rope_ctx_orig < 1)
        return why_set(why, ERR_FORMAT, "rope scaling needs the original context length");
    switch (hp->rope_scaling) {
    case ROPE_SCALING_LINEAR:
        for (int i = 0; i < t->n_half; i++)
            t->freq[i] /= hp->rope_factor;
        return ERR_OK;
    case ROPE_SCALING_LLAMA3:
        if (!factors)
            llama3(t, hp);
        break;
    case ROPE_SCALING_YARN:
        yarn(t, hp);
        return ERR_OK;
    case ROPE_SCALING_LONGROPE:
        return longrope(r, hp, hp->rope_short ? hp->rope_short : file_short,
                        hp->rope_long ? hp->rope_long : file_long, why);
    case ROPE_SCALING_DYNAMIC:
        return why_set(why, ERR_UNSUPPORTED,
                       "dynamic rope scaling changes keys already stored; not supported");
    case ROPE_SCALING_NONE:
        break;
    }
    if (factors)
        divide(t, factors);
    return ERR_OK;
}

err rope_init(struct rope *r, const struct arch_desc *desc, const struct hparams *hp, const float *factors,
              const float *file_short, const float *file_long, struct why *why)
{
    err e;
    struct rope made = {0};
    int n_half = (desc->attn.latent ? hp->qk_rope : hp->n_rot) / 2;

    *r = made;
    if (hp->rope_kind == ROPE_NONE || n_half == 0)
        return ERR_OK;
    made.block = mem_alloc((size_t)n_half * ROPE_TABLES, sizeof(float));
    if (!made.block)
        FAIL(ERR_NOMEM, "rope tables of %d pairs", n_half);
    for (int t = 0; t < ROPE_TABLES; t++) {
        made.table[t].freq = made.block + (size_t)t * (size_t)n_half;
        made.table[t].n_half = n_half;
    }
    plain(&made.table[ROPE_GLOBAL], hp->rope_base);
    TRY(scale_global(&made, hp, factors, file_short, file_long, why));
    if (hp->rope_base_local > 0)
        plain(&made.table[ROPE_LOCAL], hp->rope_base_local);
    else
        made.table[ROPE_LOCAL].n_half = 0;
    if (!made.long_from)
        made.table[ROPE_LONG].n_half = 0;
    *r = made;
    made.block = NULL;
    e = ERR_OK;
out:
    free(made.block);
    return e;
}

void rope_fini(struct rope *r)
{
    free(r->block);
    *r = (struct rope){0};
}

void rope_angles(const struct rope_table *t, int pos, float *cs)
{
    for (int i = 0; i < t->n_half; i++) {
        double angle = (float)pos * t->freq[i];
        cs[2 * i] = (float)cos(angle) * t->mscale;
        cs[2 * i + 1] = (float)sin(angle) * t->mscale;
    }
}
