/* kv_page.c - scattering a row into a page.
 *
 * A row is converted 64 columns at a time into a few cache lines on the stack and
 * spread from there. Readers go over a page for every token that follows; a writer
 * comes once, so it is the writer who bears the strides.
 */
#include "kernels/kv_page.h"

#include <string.h>

enum { STEP = 64, QUADS = 32 / 4 };

static const struct {
    const char *name;
    int bytes; /* of an element, without scales */
} kv_traits[KV_TYPE_COUNT] = {{"f32", 4}, {"f16", 2}, {"bf16", 2}, {"q8_0", 1}};

const char *kv_type_name(enum kv_type t)
{
    return kv_traits[t].name;
}

size_t kv_row_bytes(enum kv_type t, int n)
{
    return t == KV_Q8_0 ? (size_t)n / 32 * KV_Q8_BLOCK : (size_t)n * (size_t)kv_traits[t].bytes;
}

size_t kv_k_bytes(enum kv_type t, int dk)
{
    return KV_PAGE * kv_row_bytes(t, dk);
}

size_t kv_v_bytes(enum kv_type t, int dv)
{
    return KV_PAGE * kv_row_bytes(t, kv_cols(dv));
}

/* One block of 32 columns to dst: its scale to number j, its bytes by fours. */
static void put_block(char *dst, const char *block, int j, bool key)
{
    char *codes = dst + KV_PAGE * 2;
    memcpy(dst + 2 * j, block, 2);
    if (key)
        for (int t = 0; t < QUADS; t++)
            memcpy(codes + (t * KV_PAGE + j) * 4, block + 2 + 4 * t, 4);
    else
        for (int c = 0; c < 32; c++)
            codes[(j / 4 * 32 + c) * 4 + j % 4] = block[2 + c];
}

static void put_blocks(kv_put_fn *put, char *dst, int j, const float *x, int n, bool key)
{
    char block[KV_Q8_BLOCK];
    for (int c = 0; c < n; c += 32, dst += KV_PAGE * KV_Q8_BLOCK) {
        put(block, x + c, 32);
        put_block(dst, block, j, key);
    }
}

void kv_page_put_k(enum kv_type t, kv_put_fn *put, void *k, int j, const float *x, int dk)
{
    char row[STEP * sizeof(float)];
    if (t == KV_Q8_0) {
        put_blocks(put, k, j, x, dk, true);
        return;
    }
    size_t pair = 2 * (size_t)kv_traits[t].bytes;
    char *to = (char *)k + (size_t)j * pair;
    for (int c = 0; c < dk; c += STEP) {
        int n = dk - c < STEP ? dk - c : STEP;
        put(row, x + c, n);
        if (pair == 4) /* the sizes are written out so that a copy is one move */
            for (int i = 0; i < n / 2; i++, to += KV_PAGE * 4)
                memcpy(to, row + 4 * i, 4);
        else
            for (int i = 0; i < n / 2; i++, to += KV_PAGE * 8)
                memcpy(to, row + 8 * i, 8);
    }
}

void kv_page_put_v(enum kv_type t, kv_put_fn *put, void *v, int j, const float *x, int dv)
{
    char row[STEP * sizeof(float)];
    if (t == KV_Q8_0) {
        put_blocks(put, v, j, x, dv, false);
        return;
    }
    size_t bytes = (size_t)kv_traits[t].bytes;
    for (int c = 0; c < dv; c += KV_STRIP) {
        int n = dv - c < KV_STRIP ? dv - c : KV_STRIP;
        char *to = (char *)v + kv_v_element(dv, j, c) * bytes;
        put(row, x + c, n);
        if (bytes == 2)
            for (int i = 0; i < n; i++, to += 4)
                memcpy(to, row + 2 * i, 2);
        else
            for (int i = 0; i < n; i++, to += 8)
                memcpy(to, row + 4 * i, 4);
    }
}
