/* weight_item.c - see weight_item.h. */
#include "model/weight_item.h"

#include <stdlib.h>

#include "base/arena.h"

enum { UNITS_AT_ONCE = 16 };

struct filler {
    const struct source *src;
    struct pool *pool;
    const struct weight_item *item;
    struct tensor_view view; /* of the item */
    float *scratch;          /* [threads][scratch_each] */
    size_t scratch_each;
    int first; /* the unit that goes to `to` */
    char *to;
};

int item_units(const struct weight_item *x)
{
    return x->kind == ITEM_VECTOR || x->kind == ITEM_TRANSPOSE ? x->n_stack : x->n_stack * pack_groups(x->n);
}

size_t item_unit_bytes(const struct weight_item *x)
{
    if (x->kind == ITEM_VECTOR)
        return (size_t)x->k * sizeof(float);
    size_t group = pack_group_bytes(x->fmt, x->k);
    return x->kind == ITEM_TRANSPOSE ? group * (size_t)pack_groups(x->n) : group;
}

/* f32 values a worker needs while it converts one unit. */
static size_t item_scratch(const struct weight_item *x)
{
    if (x->kind == ITEM_WIDEN)
        return (size_t)PACK_ROWS * (size_t)x->k;
    if (x->kind == ITEM_TRANSPOSE)
        return (size_t)x->n * (size_t)(x->k + 1);
    return 0;
}

err filler_open(const struct weight_items *items, const struct source *src, struct pool *pool,
                struct filler **out, struct why *why)
{
    err e;
    struct filler *f = calloc(1, sizeof *f);
    if (!f)
        FAIL(ERR_NOMEM, "conversion buffers");
    f->src = src;
    f->pool = pool;
    for (int i = 0; i < items->n; i++)
        if (item_scratch(&items->at[i]) > f->scratch_each)
            f->scratch_each = item_scratch(&items->at[i]);
    f->scratch_each = (f->scratch_each + 15) & ~(size_t)15;
    f->scratch = mem_alloc(f->scratch_each * (size_t)pool_threads(pool) + 1, sizeof(float));
    if (!f->scratch)
        FAIL(ERR_NOMEM, "conversion buffers of %zu floats a thread", f->scratch_each);
    *out = f;
    f = NULL;
    e = ERR_OK;
out:
    filler_close(f);
    return e;
}

void filler_close(struct filler *f)
{
    if (!f)
        return;
    tensor_view_fini(&f->view);
    free(f->scratch);
    free(f);
}

err filler_take(struct filler *f, const struct weight_item *x, struct why *why)
{
    tensor_view_fini(&f->view);
    f->view = (struct tensor_view){.data = NULL};
    f->item = x;
    return source_tensor(f->src, x->role, x->layer, &f->view, why);
}

static void fill_transposed(const struct weight_item *x, char *dst, const char *src, float *tmp)
{
    float *row = tmp, *t = tmp + x->n; /* t [n][k] */
    for (int j = 0; j < x->k; j++) {
        fmt_dequant_row(x->src_fmt, row, src + (size_t)j * x->row_bytes, x->n);
        for (int i = 0; i < x->n; i++)
            t[(size_t)i * (size_t)x->k + (size_t)j] = row[i];
    }
    pack_rows(x->fmt, dst, t, (size_t)x->k * sizeof(float), x->n, x->k, 0, pack_groups(x->n));
}

/* Rows of one group, widened to f32 on the way. */
static void fill_widened(const struct weight_item *x, char *dst, const char *src, int rows, float *tmp)
{
    for (int r = 0; r < rows; r++)
        fmt_dequant_row(x->src_fmt, tmp + (size_t)r * (size_t)x->k, src + (size_t)r * x->row_bytes, x->k);
    pack_rows(x->fmt, dst, tmp, (size_t)x->k * sizeof(float), rows, x->k, 0, 1);
}

static void fill_unit(const struct filler *f, int unit, char *dst, float *tmp)
{
    const struct weight_item *x = f->item;
    const char *src = f->view.data;
    if (x->kind == ITEM_VECTOR) {
        fmt_dequant_row(x->src_fmt, (float *)(void *)dst, src + (size_t)unit * x->row_bytes, x->k);
        return;
    }
    if (x->kind == ITEM_TRANSPOSE) {
        fill_transposed(x, dst, src + (size_t)unit * x->src_stack_bytes, tmp);
        return;
    }
    int groups = pack_groups(x->n), g = unit % groups, left = x->n - g * PACK_ROWS;
    int rows = left < PACK_ROWS ? left : PACK_ROWS;
    src += x->src_first + (size_t)(unit / groups) * x->src_stack_bytes + (size_t)g * PACK_ROWS * x->row_bytes;
    if (x->kind == ITEM_WIDEN)
        fill_widened(x, dst, src, rows, tmp);
    else
        pack_rows(x->fmt, dst, src, x->row_bytes, rows, x->k, 0, 1);
}

static void fill_task(void *ctx, int first, int last, int worker)
{
    const struct filler *f = ctx;
    size_t each = item_unit_bytes(f->item);
    for (int u = first; u < last; u++)
        fill_unit(f, f->first + u, f->to + (size_t)u * each, f->scratch + (size_t)worker * f->scratch_each);
}

void filler_fill(struct filler *f, int first, int last, char *to)
{
    f->first = first;
    f->to = to;
    pool_run(f->pool, last - first, f->item->kind == ITEM_TRANSPOSE ? 1 : UNITS_AT_ONCE, fill_task, f);
}
