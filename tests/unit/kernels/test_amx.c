/* test_amx.c - the kernels of AMX, with their tiles in plain C (kernels/x86/tiles.h).
 *
 * test_mul.c compares them with the truth and checks the numeric contract, as it does
 * for every kernel; test_amx_trapped.c runs the real instructions. Here is what only AMX
 * promises: the tile operations are those of the architecture manual; generated rows
 * have VNNI's bits, whatever their number; a prompt's weights are exactly the rounded
 * ones; panels, copies and places change nothing.
 */
#include "guard.h"
#include "random_packed.h"

#include "base/f16.h"
#include "kernels/act.h"
#include "kernels/x86/tiles_emulated.h"
#include "tests/tools/emulated_tiles.h"

/* The table with emulated tiles, or the test is skipped. */
static void open_tables(struct kernels *amx, struct kernels *without)
{
    kernels_init(without, cpu_isa() & ~(unsigned)ISA_AMX, PREC_FAST);
    *amx = *without;
    if (!emulate_tiles(amx))
        skip();
}

/* ---- tile operations ---- */

static uint32_t pair(float even, float odd)
{
    return (uint32_t)f32_to_bf16(odd) << 16 | f32_to_bf16(even);
}

static struct tile_file whole_tiles(void)
{
    static struct tile_file f;
    struct tile_config c = {0};
    for (int t = 0; t < TILE_COUNT; t++)
        tile_shape(&c, t, TILE_ROWS, TILE_ROW_BYTES);
    emulate_configure(&f, &c);
    return f;
}

static float sum_at(const struct tile_file *f, int t, int m, int n)
{
    float x;
    memcpy(&x, f->tile[t][m] + 4 * n, sizeof x);
    return x;
}

/* The sums of even and odd elements are kept apart, and both start at zero. */
static void bf16_sums_are_ordered_as_in_the_manual(void **state)
{
    struct tile_file f = whole_tiles();
    uint32_t a[16][16] = {{0}}, b[16][16] = {{0}};
    float c[16][16] = {{0}};
    (void)state;
    a[2][0] = pair(0x1p24f, 1), b[0][3] = pair(1, 1); /* even: 2^24 + 1 would be lost, ... */
    a[2][1] = pair(1, 1), b[1][3] = pair(1, 1);
    a[2][2] = pair(-0x1p24f, 1), b[2][3] = pair(1, 1); /* ... and is; odd: 3 */
    c[2][3] = 0x1p24f;                                 /* 2^24 + (0 + 3), rounded to even */
    emulate_load(&f, 0, c, 64);
    emulate_load(&f, 1, a, 64);
    emulate_load(&f, 2, b, 64);
    emulate_dot_bf16(&f, 0, 1, 2);
    assert_true(sum_at(&f, 0, 2, 3) == 0x1p24f + 4);
    assert_true(sum_at(&f, 0, 2, 2) == 0 && sum_at(&f, 0, 3, 3) == 0);
}

static void bf16_denormals_are_zero(void **state)
{
    struct tile_file f = whole_tiles();
    uint32_t a[16][16] = {{0}}, b[16][16] = {{0}};
    (void)state;
    a[0][0] = pair(0x1p-130f, 0), b[0][0] = pair(0x1p100f, 0); /* a denormal operand */
    a[1][0] = pair(0x1p-100f, 0), b[0][1] = pair(0x1p-40f, 0); /* a denormal result */
    a[2][0] = pair(0x1p-63f, 0), b[0][2] = pair(0x1p-63f, 0);  /* the smallest that counts */
    emulate_zero(&f, 0);
    emulate_load(&f, 1, a, 64);
    emulate_load(&f, 2, b, 64);
    emulate_dot_bf16(&f, 0, 1, 2);
    assert_true(sum_at(&f, 0, 0, 0) == 0 && sum_at(&f, 0, 1, 1) == 0);
    assert_true(sum_at(&f, 0, 2, 2) == 0x1p-126f);
}

static void int8_sums_are_exact(void **state)
{
    struct tile_file f = whole_tiles();
    int8_t a[16][64], b[16][64];
    int32_t got[16][16];
    (void)state;
    memset(a, 0x80, sizeof a);
    memset(b, 0x80, sizeof b);
    for (int b_unsigned = 0; b_unsigned < 2; b_unsigned++) {
        emulate_zero(&f, 0);
        emulate_load(&f, 1, a, 64);
        emulate_load(&f, 2, b, 64);
        emulate_dot_s8(&f, 0, 1, 2, b_unsigned);
        emulate_store(&f, 0, got, 64);
        for (int i = 0; i < 16 * 16; i++)
            assert_int_equal(got[i / 16][i % 16], b_unsigned ? -64 * 128 * 128 : 64 * 128 * 128);
    }
}

/* ---- products ---- */

enum { N = 9 * PACK_ROWS - 5, MAX_M = 80 };

/* y[m][n] = the product, groups cut into runs of g_step. */
static void multiply(const struct kernels *k, enum role role, const struct packed *w, const char *a, int m, int g_step, float *y)
{
    const struct mul *mul = &k->mul[w->fmt][role];
    char *scratch = guarded(mul->scratch_bytes);
    memset(y, 0xff, (size_t)m * (size_t)w->n * sizeof *y);
    for (int g = 0; g < pack_groups(w->n); g += g_step)
        mul->fn(y, (size_t)w->n, w, a, m, g, g + g_step < pack_groups(w->n) ? g + g_step : pack_groups(w->n), scratch);
    guarded_free(scratch, mul->scratch_bytes);
}

static char *prepared(const struct kernels *k, enum act act, int m, int cols)
{
    float *x = guarded((size_t)m * (size_t)cols * sizeof *x);
    char *a = guarded((size_t)m * act_row_bytes(act, cols));
    random_floats(x, (size_t)m * (size_t)cols);
    k->prepare[act](a, x, (size_t)cols, m, cols);
    guarded_free(x, (size_t)m * (size_t)cols * sizeof *x);
    return a;
}

static void same_bits(const struct packed *w, const float *got, const float *want, int m, const char *what)
{
    for (int i = 0; i < m * w->n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s k %d, %d rows, %s: row %d output %d is %.9g, not %.9g", fmt_traits[w->fmt].name, w->k, m, what,
                     i / w->n, i % w->n, (double)got[i], (double)want[i]);
}

static void generated_rows_have_the_bits_of_vnni(void **state)
{
    static const int counts[] = {1, 4, 5, 8, 15, 16, 17, 33, 64, 67}, widths[] = {32, 96, 256, 288, 768};
    static float got[MAX_M * N], want[MAX_M * N];
    struct kernels amx, vnni;
    (void)state;
    open_tables(&amx, &vnni);
    for (int f = 0; f < FMT_COUNT; f++)
        for (size_t s = 0; s < sizeof widths / sizeof widths[0]; s++) {
            if (fmt_traits[f].block == 1 || widths[s] % fmt_traits[f].block != 0)
                continue;
            assert_true(amx.mul[f][ROLE_GEN].fn != vnni.mul[f][ROLE_GEN].fn);
            int n = s % 2 ? 2 * PACK_ROWS - 3 : PACK_ROWS; /* what matters is rows and columns */
            struct packed w = random_packed((enum fmt)f, n, widths[s]);
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
                char *a = prepared(&amx, ACT_Q8, counts[c], widths[s]);
                multiply(&vnni, ROLE_GEN, &w, a, counts[c], pack_groups(n), want);
                multiply(&amx, ROLE_GEN, &w, a, counts[c], 1, got);
                same_bits(&w, got, want, counts[c], "vnni");
                guarded_free(a, (size_t)counts[c] * act_row_bytes(ACT_Q8, widths[s]));
            }
            packed_free(&w);
        }
}

/* Rows of the unit matrix pick single weights: here those at the edges of tiles and panels. */
static void prompt_weights_are_rounded_once(void **state)
{
    enum { PICKED = 96 };
    struct kernels amx, without;
    (void)state;
    open_tables(&amx, &without);
    for (int f = 0; f < FMT_COUNT; f++) {
        if (amx.mul[f][ROLE_PROMPT].act != ACT_BF16)
            continue;
        int n = PACK_ROWS + 3, k = fmt_traits[f].block == 1 ? 549 : fmt_traits[f].block == 256 ? 768 : 576;
        int column[PICKED];
        struct packed w = random_packed((enum fmt)f, n, k);
        float *x = calloc(PICKED * (size_t)k, sizeof *x), *y = malloc(PICKED * (size_t)n * sizeof *y);
        float *row = malloc((size_t)k * sizeof *row);
        size_t bytes = PICKED * act_row_bytes(ACT_BF16, k);
        char *a = guarded(bytes);
        assert_true(x && y && row);
        for (int i = 0; i < PICKED; i++) {
            column[i] = i < 32 ? i : i < 64 ? 500 + i - 32 : k - PICKED + i;
            x[i * k + column[i]] = 1;
        }
        amx.prepare[ACT_BF16](a, x, (size_t)k, PICKED, k);
        multiply(&amx, ROLE_PROMPT, &w, a, PICKED, 2, y);
        for (int r = 0; r < n; r++) {
            packed_dequant_row(&w, r, row);
            for (int i = 0; i < PICKED; i++)
                assert_true(y[i * n + r] == bf16_to_f32(f32_to_bf16(row[column[i]])));
        }
        free(x);
        free(y);
        free(row);
        guarded_free(a, bytes);
        packed_free(&w);
    }
}

/* Rows copied and in place; a few at a time and all at once. */
static void check_places(const struct kernels *amx, enum fmt f, int m_all, int k)
{
    struct packed w = random_packed(f, N, k);
    const struct mul *mul = &amx->mul[f][ROLE_PROMPT];
    size_t lda = act_row_bytes(ACT_BF16, k), bytes = sizeof(float) * (size_t)m_all * N;
    float *whole = malloc(bytes), *parts = malloc(bytes);
    char *a = prepared(amx, ACT_BF16, m_all, k), *scratch = guarded(mul->scratch_bytes);
    assert_true(whole && parts);
    multiply(amx, ROLE_PROMPT, &w, a, m_all, pack_groups(N), whole);
    multiply(amx, ROLE_PROMPT, &w, a, m_all, 3, parts);
    same_bits(&w, parts, whole, m_all, "in place");
    memset(parts, 0xff, bytes);
    for (int from = 0, m = 1; from < m_all; from += m, m = m * 3 % 100) {
        m = m_all - from < m ? m_all - from : m;
        mul->fn(parts + from * N, N, &w, a + (size_t)from * lda, m, 0, pack_groups(N), scratch);
    }
    same_bits(&w, parts, whole, m_all, "a few rows at a time");
    free(whole);
    free(parts);
    guarded_free(scratch, mul->scratch_bytes);
    guarded_free(a, (size_t)m_all * lda);
    packed_free(&w);
}

static void place_and_company_change_no_bit(void **state)
{
    static const enum fmt formats[] = {FMT_Q4_0, FMT_Q6_K, FMT_BF16, FMT_F16};
    struct kernels amx, without;
    (void)state;
    open_tables(&amx, &without);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        check_places(&amx, formats[i], 43, 768);
    check_places(&amx, FMT_Q8_0, AMX_BEST_ROWS + 21, 32); /* more rows than fit at once */
}

static void it_is_a_kernel_set_of_its_own(void **state)
{
    struct kernels amx, without;
    char name[64], other[64];
    (void)state;
    open_tables(&amx, &without);
    kernels_name(&amx, name, sizeof name);
    kernels_name(&without, other, sizeof other);
    assert_true(strncmp(name, "amx/fast/", 9) == 0 && strncmp(other, "bf16/fast/", 10) == 0);
    assert_true(amx.probe_mul[ACT_Q8](10) == 10 * 4 * 32768.0 && amx.probe_mul[ACT_BF16](10) == 10 * 4 * 16384.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_sums_are_ordered_as_in_the_manual),
        cmocka_unit_test(bf16_denormals_are_zero),
        cmocka_unit_test(int8_sums_are_exact),
        cmocka_unit_test(generated_rows_have_the_bits_of_vnni),
        cmocka_unit_test(prompt_weights_are_rounded_once),
        cmocka_unit_test(place_and_company_change_no_bit),
        cmocka_unit_test(it_is_a_kernel_set_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
