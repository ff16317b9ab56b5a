/* bind.c - see bind.h. */
#include "model/bind.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf_types.h"

#define NAME_MAX_BYTES 256

struct binder {
    const struct catalog *c;
    enum name_style style;
    const struct arch_desc *arch;
    const struct hparams *hp;
    const char *what;
    struct arena *arena;
    bool *claimed; /* [c->n] */
};

/* Writes `pattern` with %d and %e replaced. */
static void name_fill(char out[NAME_MAX_BYTES], const char *pattern, int layer, int64_t each)
{
    size_t at = 0;

    for (const char *p = pattern; *p && at < NAME_MAX_BYTES - 24; p++) {
        if (p[0] == '%' && (p[1] == 'd' || p[1] == 'e')) {
            at += (size_t)snprintf(out + at, 24, "%" PRId64, p[1] == 'd' ? (int64_t)layer : each);
            p++;
        } else {
            out[at++] = *p;
        }
    }
    out[at] = 0;
}

/* Checkpoints differ in the wrapper's name before the first dot ("transformer.h.0..."
 * or "h.0...", "model.layers..." or "language_model.model.layers..."). */
static const struct file_tensor *find_hf(const struct catalog *c, const char *name)
{
    static const char *const wrappers[] = {"transformer.",    "model.",    "bert.",
                                           "language_model.", "gpt_neox.", "model.language_model."};
    char other[NAME_MAX_BYTES + 32];
    const struct file_tensor *t = catalog_find(c, name);

    for (size_t i = 0; !t && i < sizeof wrappers / sizeof wrappers[0]; i++) {
        size_t len = strlen(wrappers[i]);
        if (strncmp(name, wrappers[i], len) == 0)
            t = catalog_find(c, name + len);
        if (!t) {
            snprintf(other, sizeof other, "%s%s", wrappers[i], name);
            t = catalog_find(c, other);
        }
    }
    if (!t && strncmp(name, "model.", 6) == 0) {
        snprintf(other, sizeof other, "model.language_model.%s", name + 6);
        t = catalog_find(c, other);
    }
    return t;
}

static const struct file_tensor *find(const struct binder *b, const char *pattern, int layer, int64_t each)
{
    char name[NAME_MAX_BYTES];

    name_fill(name, pattern, layer, each);
    return b->style == NAMES_HF ? find_hf(b->c, name) : catalog_find(b->c, name);
}

static void claim(struct binder *b, const struct file_tensor *t)
{
    b->claimed[t - b->c->t] = true;
}

int64_t bind_vocab(const struct catalog *c, enum name_style style, const struct arch_desc *arch)
{
    const struct binder b = {.c = c, .style = style};

    for (const struct tensor_spec *s = arch->tensors; s->role != W_COUNT; s++) {
        const char *pattern = style == NAMES_HF ? s->hf : s->gguf;
        const struct file_tensor *t = s->role == W_EMBD && pattern ? find(&b, pattern, 0, 0) : NULL;
        if (t)
            return t->dims[0];
    }
    return 0;
}

/* ---- shapes ------------------------------------------------------------------------ */

int64_t layout_stored_rows(unsigned layout, int64_t role_rows)
{
    switch (layout & PICK_MASK) {
    case PICK_EVEN:
    case PICK_ODD:
        return 2 * role_rows;
    default:
        return role_rows;
    }
}

/* The shape that the stored tensor must have, slowest first. */
static int stored_shape(const struct bound *b, int64_t out[4])
{
    const bool vector = weight_kind(b->spec->role) == WEIGHT_VECTOR;
    int n = 0, skip = b->layout & LAYOUT_EACH ? 1 : 0;

    for (int i = skip; i < b->n_dims; i++)
        out[n++] = b->dims[i];
    int rows = vector || n < 2 ? n - 1 : n - 2;
    if (rows >= 0)
        out[rows] = layout_stored_rows(b->layout, out[rows]);
    if ((b->layout & LAYOUT_TRANSPOSED) && n >= 2) {
        int64_t t = out[n - 1];
        out[n - 1] = out[n - 2];
        out[n - 2] = t;
    }
    return n;
}

/* Dimensions of 1 in front say nothing: [1, 64] is [64]. */
static bool same_shape(const int64_t *a, int na, const int64_t *b, int nb)
{
    while (na > 1 && a[0] == 1)
        a++, na--;
    while (nb > 1 && b[0] == 1)
        b++, nb--;
    return na == nb && memcmp(a, b, (size_t)na * sizeof *a) == 0;
}

static err check_shape(const struct binder *b, const struct bound *d, const struct file_tensor *t,
                       struct why *why)
{
    struct file_tensor wanted = {0};
    char have[96], want[96];

    wanted.n_dims = stored_shape(d, wanted.dims);
    if (same_shape(wanted.dims, wanted.n_dims, t->dims, t->n_dims))
        return ERR_OK;
    file_tensor_shape(t, have);
    file_tensor_shape(&wanted, want);
    return why_set(why, ERR_SHAPE, "%s: tensor %s is %s; family %s wants %s here", b->what, t->name, have,
                   b->arch->name, want);
}

/* ---- one role ------------------------------------------------------------------------ */

/* Types that can be taken apart below the row. */
static bool is_plain(enum fmt f)
{
    return f == FMT_F32 || f == FMT_F16 || f == FMT_BF16;
}

static enum fmt bound_fmt(const struct bound *d)
{
    const enum fmt f = d->t->fmt;

    if (f == FMT_COUNT)
        return FMT_COUNT;
    if (d->layout & LAYOUT_PLUS_ONE)
        return FMT_F32;
    return (d->layout & LAYOUT_TRANSPOSED) && !is_plain(f) ? FMT_F32 : f;
}

static err bind_each(struct binder *b, struct bound *d, const char *pattern, int layer, struct why *why)
{
    const int64_t n = d->dims[0];

    d->each = arena_array(b->arena, (size_t)n, sizeof *d->each);
    if (!d->each)
        return why_set(why, ERR_NOMEM, "%s: list of %" PRId64 " experts", b->what, n);
    for (int64_t i = 0; i < n; i++) {
        char name[NAME_MAX_BYTES];
        const struct file_tensor *t = find(b, pattern, layer, i);
        if (!t) {
            name_fill(name, pattern, layer, i);
            return why_set(why, ERR_SHAPE, "%s: tensor %s is missing", b->what, name);
        }
        if (t->fmt != d->t->fmt)
            return why_set(why, ERR_UNSUPPORTED, "%s: tensors %s and %s have different types (%s, %s)",
                           b->what, d->t->name, t->name, d->t->type_name, t->type_name);
        err e = check_shape(b, d, t, why);
        if (e)
            return e;
        claim(b, t);
        d->each[i] = t;
    }
    return ERR_OK;
}

/* Binds one row of the table if the file has its tensor; *found says so. */
static err bind_row(struct binder *b, const struct tensor_spec *spec, int layer, struct bound *out,
                    bool *found, struct why *why)
{
    err e;
    const char *pattern = b->style == NAMES_HF ? spec->hf : spec->gguf;
    struct bound d = {.spec = spec, .layout = b->style == NAMES_HF ? spec->hf_layout : spec->gguf_layout};

    *found = false;
    if (!pattern)
        return ERR_OK;
    d.t = find(b, pattern, layer, 0);
    if (!d.t)
        return ERR_OK;
    for (int i = 2; i >= 0; i--)
        if (spec->shape[i] != DIM_NONE)
            d.dims[d.n_dims++] = dim_value(b->hp, spec->shape[i]);
    for (int i = 0; i < d.n_dims; i++)
        if (d.dims[i] < 1)
            FAIL(ERR_SHAPE,
                 "%s: tensor %s is in the file, but the model's hyper-parameters leave no room for it",
                 b->what, d.t->name);
    if (d.layout & LAYOUT_EACH)
        TRY(bind_each(b, &d, pattern, layer, why));
    TRY(check_shape(b, &d, d.t, why));
    d.fmt = bound_fmt(&d);
    d.row_bytes = d.fmt == FMT_COUNT ? 0 : fmt_row_bytes(d.fmt, d.dims[d.n_dims - 1]);
    if (d.fmt != FMT_COUNT && d.row_bytes == 0)
        FAIL(ERR_UNSUPPORTED, "%s: tensor %s: rows of %" PRId64 " are not whole blocks of %s", b->what,
             d.t->name, d.dims[d.n_dims - 1], fmt_traits[d.fmt].name);
    bool vector = weight_kind(spec->role) == WEIGHT_VECTOR;
    if ((d.t->codec != CODEC_PLAIN && (vector || d.fmt != d.t->fmt)) ||
        (vector && d.layout && !is_plain(d.t->fmt)))
        FAIL(ERR_UNSUPPORTED, "%s: tensor %s cannot be brought into order from its type %s", b->what,
             d.t->name, d.t->type_name);
    claim(b, d.t);
    *found = true;
    *out = d;
    e = ERR_OK;
out:
    return e;
}

static err missing(const struct binder *b, const struct tensor_spec *spec, int layer, struct why *why)
{
    const char *pattern = b->style == NAMES_HF ? spec->hf : spec->gguf;
    char name[NAME_MAX_BYTES];

    if (!pattern)
        return why_set(why, ERR_UNSUPPORTED, "%s: family %s has no names for this file format", b->what,
                       b->arch->name);
    name_fill(name, pattern, layer, 0);
    return why_set(why, ERR_SHAPE, "%s: tensor %s is missing (family %s)", b->what, name, b->arch->name);
}

static bool is_needed(const struct binder *b, enum need need, int layer)
{
    switch (need) {
    case MUST:
        return true;
    case MUST_DENSE:
        return b->hp->layer_dense[layer];
    case MUST_EXPERTS:
        return !b->hp->layer_dense[layer];
    case MAY:
    case TIED_TO_EMBD:
        break;
    }
    return false;
}

/* Roles of the other kind of layer are not even looked for. */
static bool is_possible(const struct binder *b, enum need need, int layer)
{
    return !(need == MUST_DENSE && !b->hp->layer_dense[layer]) &&
           !(need == MUST_EXPERTS && b->hp->layer_dense[layer]);
}

/* Rows of the table for layer `layer`, or for the whole model if it is -1. */
static err bind_level(struct binder *b, int layer, struct bound *slots, struct why *why)
{
    err e = ERR_OK;
    const struct tensor_spec *unmet = NULL; /* needed, and no row of this role was found yet */

    for (const struct tensor_spec *s = b->arch->tensors; s->role != W_COUNT; s++) {
        bool found;
        if (weight_is_layer(s->role) != (layer >= 0) || (layer >= 0 && !is_possible(b, s->need, layer)))
            continue;
        if (unmet && unmet->role != s->role)
            return missing(b, unmet, layer, why);
        if (slots[s->role].spec)
            continue;
        TRY(bind_row(b, s, layer, &slots[s->role], &found, why));
        if (!found && s->need == TIED_TO_EMBD && slots[W_EMBD].spec)
            slots[s->role] = slots[W_EMBD];
        if (found)
            unmet = NULL;
        else if (!unmet && layer >= 0 ? is_needed(b, s->need, layer) : s->need == MUST)
            unmet = s;
    }
    if (unmet)
        return missing(b, unmet, layer, why);
out:
    return e;
}

/* ---- nothing may be left over ----------------------------------------------------------- */

/* Layers past the model's own (multi-token prediction) are not part of it. */
static bool is_later_layer(const struct binder *b, const char *name)
{
    const char *const prefix = b->style == NAMES_HF ? "model.layers." : "blk.";
    size_t len = strlen(prefix);

    return strncmp(name, prefix, len) == 0 && strtol(name + len, NULL, 10) >= b->hp->n_layer;
}

/* Towers of multimodal checkpoints that the text model does not meet. */
static bool is_other_tower(const char *name)
{
    static const char *const towers[] = {"vision_tower.", "vision_model.", "multi_modal_projector.",
                                         "visual.",       "audio_tower.",  "embed_vision.",
                                         "embed_audio."};

    for (size_t i = 0; i < sizeof towers / sizeof towers[0]; i++)
        if (strstr(name, towers[i]))
            return true;
    return false;
}

/* Some quantisers write a bias of zeros for modules that have none. */
static bool is_empty_bias(const struct file_tensor *t)
{
    size_t len = strlen(t->name);

    if (len < 5 || strcmp(t->name + len - 5, ".bias") != 0 || t->n_dims != 1 || !is_plain(t->fmt))
        return false;
    for (uint64_t i = 0; t->data && i < t->bytes; i++) /* shards: it was looked at when they were made */
        if (t->data[i])
            return false;
    return true;
}

static err check_leftovers(const struct binder *b, struct why *why)
{
    for (size_t i = 0; i < b->c->n; i++) {
        const char *name = b->c->t[i].name;
        bool known =
            b->claimed[i] || is_later_layer(b, name) || (b->style == NAMES_HF && is_other_tower(name));
        for (const char *const *p = b->arch->ignore; !known && p && *p; p++)
            known = strstr(name, *p) != NULL;
        known = known || is_empty_bias(&b->c->t[i]);
        if (!known)
            return why_set(why, ERR_UNSUPPORTED,
                           "%s: tensor %s means nothing to family %s; running without it would be wrong",
                           b->what, name, b->arch->name);
    }
    return ERR_OK;
}

err bind_tensors(const struct catalog *c, enum name_style style, const struct arch_desc *arch,
                 const struct hparams *hp, const char *what, struct arena *arena, struct binding *out,
                 struct why *why)
{
    err e;
    struct binding made = {0};
    struct binder b = {.c = c, .style = style, .arch = arch, .hp = hp, .what = what, .arena = arena};

    made.layers = arena_array(arena, (size_t)hp->n_layer * W_COUNT, sizeof *made.layers);
    b.claimed = calloc(c->n + 1, sizeof *b.claimed);
    if (!made.layers || !b.claimed)
        FAIL(ERR_NOMEM, "%s: table of %d layers", what, hp->n_layer);
    TRY(bind_level(&b, -1, made.model, why));
    for (int i = 0; i < hp->n_layer; i++)
        TRY(bind_level(&b, i, &made.layers[(size_t)i * W_COUNT], why));
    TRY(check_leftovers(&b, why));
    *out = made;
out:
    free(b.claimed);
    return e;
}
