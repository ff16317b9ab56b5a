/* weights_file.c - see weights_file.h. */
#include "model/weights_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "model/mapped.h"
#include "model/shards.h"

#define PIECE_BYTES ((size_t)64 << 20)

/* ---- writing --------------------------------------------------------------------------------- */

static struct packed_entry entry_of(const struct weight_item *x)
{
    struct packed_entry entry = {
        .layer = x->layer, .n = x->n, .k = x->k, .n_stack = x->n_stack, .bytes = x->bytes};
    snprintf(entry.role, sizeof entry.role, "%s", weight_role_name(x->as));
    snprintf(entry.fmt, sizeof entry.fmt, "%s", fmt_traits[x->fmt].name);
    return entry;
}

/* piece: room for PIECE_BYTES, or for one unit if that is more. */
static err write_item(struct filler *f, const struct weight_item *x, int i, char *piece,
                      struct packed_writer *w, struct why *why)
{
    err e;
    const size_t each = item_unit_bytes(x);
    const int units = item_units(x), at_once = each < PIECE_BYTES ? (int)(PIECE_BYTES / each) : 1;
    static const char zeros[64];
    TRY(filler_take(f, x, why));
    for (int u = 0; u < units; u += at_once) {
        const int n = units - u < at_once ? units - u : at_once;
        filler_fill(f, u, u + n, piece);
        TRY(packed_writer_put(w, i, piece, (size_t)n * each, why));
    }
    const size_t padding = (size_t)(x->bytes - (uint64_t)units * each);
    if (padding)
        TRY(packed_writer_put(w, i, zeros, padding, why));
out:
    return e;
}

err items_write(const struct weight_items *items, const struct source *src, struct weight_range range,
                const char *sample, const char *path, struct pool *pool, struct why *why)
{
    err e;
    struct packed_head head = {
        .first = range.first, .last = range.last, .embed = range.embed, .head = range.head};
    struct packed_entry *entries = calloc((size_t)items->n + 1, sizeof *entries);
    struct packed_writer *w = NULL;
    struct filler *f = NULL;
    size_t room = PIECE_BYTES;
    char *piece = NULL;

    memcpy(head.model, sample, sizeof head.model);
    for (int i = 0; entries && i < items->n; i++) {
        entries[i] = entry_of(&items->at[i]);
        if (item_unit_bytes(&items->at[i]) > room)
            room = item_unit_bytes(&items->at[i]);
    }
    piece = mem_alloc_raw(room, 1);
    if (!entries || !piece)
        FAIL(ERR_NOMEM, "%s: a buffer of %zu bytes", path, room);
    TRY(filler_open(items, src, pool, &f, why));
    TRY(packed_writer_open(path, &head, entries, items->n, &w, why));
    for (int i = 0; i < items->n; i++)
        TRY(write_item(f, &items->at[i], i, piece, w, why));
    TRY(packed_writer_finish(w, why));
out:
    packed_writer_close(w);
    filler_close(f);
    free(piece);
    free(entries);
    return e;
}

/* ---- mapping --------------------------------------------------------------------------------- */

void weight_maps_close(struct weight_maps *m)
{
    for (int i = 0; i < m->n; i++)
        packed_file_close(m->file[i]);
    free(m->file);
    *m = (struct weight_maps){0};
}

/* Whether a stage's file may hold something that the range wants. A range of nothing
 * still wants what all stages have (tables of RoPE). */
static bool stage_matters(const struct shard_stage *s, struct weight_range r, bool tied)
{
    const bool layers = s->first < r.last && r.first < s->last;
    const bool ends = (s->embed && (r.embed || (tied && r.head))) || (s->head && r.head);
    return layers || ends || (r.first == r.last && !r.embed && !r.head);
}

err stage_file_open(const char *dir, const char *sample, const struct shard_stage *s,
                    struct packed_file **out, struct why *why)
{
    err e;
    char *path;
    struct packed_file *f = NULL;
    if (asprintf(&path, "%s/%s", dir, s->file) < 0)
        return why_set(why, ERR_NOMEM, "%s: no memory", dir);
    TRY(packed_file_open(path, &f, why));
    const struct packed_head *h = packed_file_head(f);
    if (memcmp(h->model, sample, sizeof h->model) != 0 || h->first != s->first || h->last != s->last ||
        h->embed != s->embed || h->head != s->head)
        FAIL(ERR_FORMAT, "%s: of another model or of other layers than %s says", path, SHARDS_FILE);
    *out = f;
    f = NULL;
out:
    packed_file_close(f);
    free(path);
    return e;
}

/* Opens what is here of what matters; what is not is missed when an item is looked for. */
static err open_files(const struct shards *d, struct weight_range range, bool tied, struct weight_maps *maps,
                      struct why *why)
{
    maps->file = calloc((size_t)d->n_stages, sizeof(struct packed_file *));
    if (!maps->file)
        return why_set(why, ERR_NOMEM, "%s: a list of files", d->path);
    for (int i = 0; i < d->n_stages; i++) {
        if (!stage_matters(&d->stages[i], range, tied))
            continue;
        err e = stage_file_open(d->path, d->weights, &d->stages[i], &maps->file[maps->n], why);
        if (e && e != ERR_NOTFOUND)
            return e;
        maps->n += e == ERR_OK;
    }
    return ERR_OK;
}

static const struct packed_weight *find_in(const struct weight_maps *maps, enum weight_role role, int layer)
{
    for (int i = 0; i < maps->n; i++) {
        const struct packed_weight *w = packed_file_find(maps->file[i], role, layer);
        if (w)
            return w;
    }
    return NULL;
}

static bool stage_holds(const struct shard_stage *s, const struct weight_item *x, struct weight_range range)
{
    if (weight_is_layer(x->as))
        return s->first <= x->layer && x->layer < s->last;
    switch (x->as) {
    case W_HEAD_NORM:
    case W_HEAD_NORM_B:
    case W_HEAD:
    case W_HEAD_B:
        return s->head;
    case W_ROPE_FREQS: /* these are in all of them */
    case W_ROPE_SHORT:
    case W_ROPE_LONG:
        return stage_matters(s, range, false);
    default:
        return s->embed;
    }
}

static const struct packed_file *file_of(const struct weight_maps *maps, const struct packed_weight *w)
{
    int i = 0;
    while (packed_file_find(maps->file[i], w->role, w->layer) != w)
        i++;
    return maps->file[i];
}

/* Which file should be here. */
static err missing(const struct shards *d, const struct weight_item *x, struct weight_range range,
                   struct why *why)
{
    char what[64];
    snprintf(what, sizeof what, weight_is_layer(x->as) ? "%s of layer %d" : "%s", weight_role_name(x->as),
             x->layer);
    for (int i = 0; i < d->n_stages; i++)
        if (stage_holds(&d->stages[i], x, range))
            return why_set(why, ERR_NOTFOUND,
                           "%s: %s is in %s, which is not on this node: copy it here, or give each "
                           "rank the stage that its node has",
                           d->path, what, d->stages[i].file);
    return why_set(why, ERR_NOTFOUND, "%s: there is no %s", d->path, what);
}

err items_map(const struct weight_items *items, const struct source *src, struct weight_range range,
              bool tied, struct pool *pool, struct weight_maps *maps, const void **at, struct why *why)
{
    err e;
    const struct shards *d = source_shards(src);
    const struct packed_weight **found = calloc((size_t)items->n + 1, sizeof *found);
    if (!found)
        FAIL(ERR_NOMEM, "%s: a list of %d weights", d->path, items->n);
    TRY(open_files(d, range, tied, maps, why));
    for (int i = 0; i < items->n; i++) {
        const struct weight_item *x = &items->at[i];
        const struct packed_weight *w = find_in(maps, x->as, x->layer);
        if (!w && x->as == W_HEAD && tied)
            w = find_in(maps, W_EMBD, 0);
        if (!w) {
            e = missing(d, x, range, why);
            goto out;
        }
        if (w->fmt != x->fmt || w->n != x->n || w->k != x->k || w->n_stack != x->n_stack)
            FAIL(ERR_FORMAT, "%s: %s of layer %d has another shape in its file than in %s", d->path,
                 weight_role_name(x->as), x->layer, SHARDS_FILE);
        mapped_will_need(w->data, w->bytes);
        found[i] = w;
        at[i] = w->data;
    }
    const int bad = packed_weights_damaged(found, items->n, pool);
    if (bad >= 0)
        FAIL(ERR_FORMAT, "%s: %s of layer %d is damaged (checksum): copy or write it again",
             packed_file_path(file_of(maps, found[bad])), weight_role_name(items->at[bad].as),
             items->at[bad].layer);
    e = ERR_OK;
out:
    free(found);
    return e;
}
