/* catalog.c - see catalog.h. */
#include "model/catalog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

err catalog_push(struct catalog *c, const struct file_tensor *t, struct why *why)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 64;
        struct file_tensor *grown = realloc(c->t, cap * sizeof *grown);
        if (!grown)
            return why_set(why, ERR_NOMEM, "list of %zu tensors", cap);
        c->t = grown;
        c->cap = cap;
    }
    c->t[c->n++] = *t;
    return ERR_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct file_tensor *)a)->name, ((const struct file_tensor *)b)->name);
}

err catalog_sort(struct catalog *c, struct why *why)
{
    if (c->n)
        qsort(c->t, c->n, sizeof *c->t, by_name);
    for (size_t i = 1; i < c->n; i++)
        if (strcmp(c->t[i - 1].name, c->t[i].name) == 0)
            return why_set(why, ERR_FORMAT, "tensor %s is there twice", c->t[i].name);
    return ERR_OK;
}

static int by_data(const void *a, const void *b)
{
    const uint8_t *x = ((const struct file_tensor *)a)->data, *y = ((const struct file_tensor *)b)->data;

    return x < y ? -1 : x > y;
}

err catalog_check(struct catalog *c, const char *path, struct why *why)
{
    if (c->n)
        qsort(c->t, c->n, sizeof *c->t, by_data);
    for (size_t i = 1; i < c->n; i++)
        if (c->t[i - 1].data + c->t[i - 1].bytes > c->t[i].data)
            return why_set(why, ERR_FORMAT, "%s: tensors %s and %s overlap", path, c->t[i - 1].name,
                           c->t[i].name);
    err e = catalog_sort(c, why);
    return e ? why_prefix(why, e, "%s", path) : ERR_OK;
}

struct file_tensor *catalog_find(const struct catalog *c, const char *name)
{
    struct file_tensor key = {.name = name};

    return c->n ? bsearch(&key, c->t, c->n, sizeof *c->t, by_name) : NULL;
}

void catalog_fini(struct catalog *c)
{
    free(c->t);
    *c = (struct catalog){0};
}

int64_t file_tensor_elements(const struct file_tensor *t)
{
    int64_t n = 1;

    for (int i = 0; i < t->n_dims; i++)
        n *= t->dims[i];
    return n;
}

int64_t file_tensor_rows(const struct file_tensor *t)
{
    int64_t n = 1;

    for (int i = 0; i < t->n_dims - 1; i++)
        n *= t->dims[i];
    return n;
}

void file_tensor_shape(const struct file_tensor *t, char text[96])
{
    int at = 0;

    for (int i = 0; i < t->n_dims; i++)
        at += snprintf(text + at, 96 - (size_t)at, "%s%" PRId64, i ? ", " : "[", t->dims[i]);
    snprintf(text + at, 96 - (size_t)at, "]");
}
