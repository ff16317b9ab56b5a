/* test_format.c - file formats against golden values; packing there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/format.h"
#include "kernels/pack.h"

enum { ROWS = 6, COLS = 512 };

/* Reads "DIR/NAME.SUFFIX" whole; NULL if there is none. */
static void *slurp(const char *dir, const char *name, const char *suffix, size_t want_bytes)
{
    char path[600], upper[32];
    size_t n = strlen(name);
    for (size_t i = 0; i <= n; i++)
        upper[i] = (char)(name[i] >= 'a' && name[i] <= 'z' ? name[i] - 32 : name[i]);
    snprintf(path, sizeof path, "%s/golden/dequant/%s.%s", dir, upper, suffix);
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    void *data = malloc(want_bytes);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, want_bytes, file), want_bytes);
    fclose(file);
    return data;
}

/* The golden blocks of a format, or skip()s the test when they are not at hand. */
static const char *conformance_dir(void)
{
    const char *dir = getenv("CORDEE_CONFORMANCE");
    if (!dir)
        skip();
    return dir;
}

static void golden_values_are_bit_exact(void **state)
{
    (void)state;
    const char *dir = conformance_dir();
    int seen = 0;
    for (int f = 1; f < FMT_COUNT; f++) { /* F32 is a copy */
        size_t row = fmt_row_bytes((enum fmt)f, COLS);
        char *blocks = slurp(dir, fmt_traits[f].name, "blocks.bin", ROWS * row);
        float *want = slurp(dir, fmt_traits[f].name, "f32.bin", ROWS * COLS * sizeof *want);
        assert_non_null(blocks);
        assert_non_null(want);
        float got[COLS];
        for (int r = 0; r < ROWS; r++) {
            fmt_dequant_row((enum fmt)f, got, blocks + (size_t)r * row, COLS);
            for (int i = 0; i < COLS; i++)
                if (memcmp(&got[i], &want[r * COLS + i], sizeof *got) != 0)
                    fail_msg("%s row %d column %d: %a, not %a", fmt_traits[f].name, r, i, (double)got[i],
                             (double)want[r * COLS + i]);
        }
        free(blocks);
        free(want);
        seen++;
    }
    assert_int_equal(seen, FMT_COUNT - 1);
}

/* Any bytes are a block; only infinite and NaN factors are kept out, as their
 * payload need not survive. */
static void fill_blocks(enum fmt f, uint8_t *dst, size_t bytes)
{
    static uint32_t seed = 12345;
    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        dst[i] = (uint8_t)(seed >> 24);
        if (f != FMT_Q8_0 && (dst[i] & 0x7c) == 0x7c)
            dst[i] &= 0xbf;
        if (f == FMT_Q8_0 && i % 34 == 1)
            dst[i] &= 0xbf;
    }
}

static void packed_rows_equal_file_rows(void **state)
{
    (void)state;
    static const int shapes[][2] = {{1, 256}, {16, 512}, {17, 256}, {40, 768}, {18, 320}};
    for (int f = 0; f < FMT_COUNT; f++)
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            int n = shapes[s][0], k = shapes[s][1];
            if (k % fmt_traits[f].block)
                continue;
            size_t row = fmt_row_bytes((enum fmt)f, k), group = pack_group_bytes((enum fmt)f, k);
            uint8_t *file = malloc((size_t)n * row);
            void *data = aligned_alloc(64, (size_t)pack_groups(n) * group);
            float *want = malloc((size_t)k * sizeof *want), *got = malloc((size_t)k * sizeof *got);
            assert_true(file && data && want && got);
            fill_blocks((enum fmt)f, file, (size_t)n * row);
            pack_rows((enum fmt)f, data, file, row, n, k, 0, pack_groups(n));
            struct packed w = {(enum fmt)f, n, k, group, data};
            for (int r = 0; r < pack_groups(n) * PACK_ROWS; r++) {
                packed_dequant_row(&w, r, got);
                if (r < n)
                    fmt_dequant_row((enum fmt)f, want, file + (size_t)r * row, k);
                for (int i = 0; i < k; i++)
                    if (r < n ? memcmp(&got[i], &want[i], sizeof *got) != 0 : got[i] != 0)
                        fail_msg("%s %dx%d row %d column %d: %a", fmt_traits[f].name, n, k, r, i, (double)got[i]);
            }
            free(file);
            free(data);
            free(want);
            free(got);
        }
}

static void groups_can_be_packed_apart(void **state)
{
    (void)state;
    int n = 40, k = 256;
    for (int f = 0; f < FMT_COUNT; f++) {
        size_t row = fmt_row_bytes((enum fmt)f, k), bytes = 3 * pack_group_bytes((enum fmt)f, k);
        uint8_t *file = malloc((size_t)n * row);
        char *whole = aligned_alloc(64, bytes), *parts = aligned_alloc(64, bytes);
        assert_true(file && whole && parts);
        fill_blocks((enum fmt)f, file, (size_t)n * row);
        pack_rows((enum fmt)f, whole, file, row, n, k, 0, 3);
        pack_rows((enum fmt)f, parts, file, row, n, k, 2, 3);
        pack_rows((enum fmt)f, parts, file, row, n, k, 0, 2);
        assert_memory_equal(whole, parts, bytes);
        free(file);
        free(whole);
        free(parts);
    }
}

/* What packing may add, in percent. Indices of codebooks become codes: the only types that grow much. */
static size_t growth_percent(enum fmt f)
{
    switch (f) {
    case FMT_IQ1_S:
        return 52;
    case FMT_IQ1_M:
        return 108;
    case FMT_IQ2_XXS:
        return 64;
    case FMT_IQ2_XS:
        return 57;
    case FMT_IQ2_S:
        return 42;
    case FMT_IQ3_XXS:
        return 43;
    case FMT_IQ3_S:
        return 28;
    case FMT_TQ1_0: /* base 3 becomes base 4 */
        return 26;
    default:
        return 6;
    }
}

static void sizes_stay_close_to_the_file(void **state)
{
    (void)state;
    for (int f = 0; f < FMT_COUNT; f++) {
        size_t file = 16 * fmt_row_bytes((enum fmt)f, 4096), group = pack_group_bytes((enum fmt)f, 4096);
        assert_true(group % 64 == 0);
        assert_true(group >= file - 63 && group <= file + file * growth_percent((enum fmt)f) / 100);
        assert_int_equal(fmt_row_bytes((enum fmt)f, 4096 + 1), fmt_traits[f].block == 1 ? 4097 * fmt_traits[f].block_bytes : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_values_are_bit_exact),
        cmocka_unit_test(packed_rows_equal_file_rows),
        cmocka_unit_test(groups_can_be_packed_apart),
        cmocka_unit_test(sizes_stay_close_to_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
