/* random_packed.h - packed matrices of random codes in any format. */
#ifndef CORDEE_TESTS_RANDOM_PACKED_H
#define CORDEE_TESTS_RANDOM_PACKED_H

#include "guard.h"

/* Random bytes of a format's blocks whose values are of a weight's size; the rows past n are zero. */
static struct packed random_packed(enum fmt f, int n, int k)
{
    struct packed w = {f, n, k, pack_group_bytes(f, k), NULL};
    size_t row = fmt_row_bytes(f, k), block = (size_t)fmt_traits[f].block_bytes;
    uint8_t *file = malloc((size_t)n * row);
    void *data = guarded((size_t)pack_groups(n) * w.group_bytes);
    float values[256], most;
    assert_non_null(file);
    for (size_t at = 0; at < (size_t)n * row; at += block)
        do {
            for (size_t i = 0; i < block; i++)
                file[at + i] = (uint8_t)(random_u32() >> 7);
            fmt_dequant_row(f, values, file + at, fmt_traits[f].block);
            most = 0;
            for (int i = 0; i < fmt_traits[f].block; i++)
                most = fabsf(values[i]) <= most ? most : fabsf(values[i]); /* NaN stays */
        } while (!(most > 1e-4f && most < 1));
    pack_rows(f, data, file, row, n, k, 0, pack_groups(n));
    free(file);
    w.data = data;
    return w;
}

static void packed_free(struct packed *w)
{
    guarded_free((void *)(uintptr_t)w->data, (size_t)pack_groups(w->n) * w->group_bytes);
}

#endif
