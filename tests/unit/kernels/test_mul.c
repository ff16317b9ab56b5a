/* test_mul.c - every product of every instruction set against the truth, and the
 * numeric contract: a row's bits depend on that row alone. */
#include "guard.h"

#include "base/f16.h"
#include "kernels/act.h"
#include "kernels/pack_traits.h"
#include "tests/tools/emulated_tiles.h"

/* Random file bytes of a format whose factors are small and finite. */
static void random_rows(enum fmt f, uint8_t *dst, int rows, int k)
{
    const struct fmt_traits *t = &fmt_traits[f];
    for (int64_t b = 0; b < (int64_t)rows * k / t->block; b++, dst += t->block_bytes) {
        uint16_t half[2] = {f32_to_f16(random_unit() * 0.1f), f32_to_f16(random_unit() * 0.1f)};
        float value = random_unit();
        for (int i = 0; i < t->block_bytes; i++)
            dst[i] = (uint8_t)(random_u32() >> 7);
        switch (f) {
        case FMT_F32:
            memcpy(dst, &value, 4);
            break;
        case FMT_F16:
            half[0] = f32_to_f16(value);
            memcpy(dst, half, 2);
            break;
        case FMT_BF16:
            half[0] = f32_to_bf16(value);
            memcpy(dst, half, 2);
            break;
        case FMT_MXFP4:
            dst[0] = (uint8_t)(118 + dst[0] % 8);
            break;
        case FMT_NVFP4: /* any byte is a small scale */
            break;
        case FMT_TQ1_0:
            memcpy(dst + 52, half, 2);
            break;
        case FMT_TQ2_0:
            memcpy(dst + 64, half, 2);
            break;
        case FMT_IQ1_M: /* the topmost nibble is d's sign and most of its exponent */
            dst[55] = (uint8_t)(dst[55] & 0x8f) | 0x20;
            break;
        case FMT_Q2_K:
            memcpy(dst + 80, half, 4);
            break;
        case FMT_Q3_K:
            memcpy(dst + 108, half, 2);
            break;
        case FMT_Q6_K:
            memcpy(dst + 208, half, 2);
            break;
        case FMT_Q4_0:
        case FMT_Q5_0:
        case FMT_Q8_0:
        case FMT_IQ4_NL:
        case FMT_IQ4_XS:
            memcpy(dst, half, 2);
            break;
        default:
            memcpy(dst, half, 4);
        }
    }
}

struct weights {
    struct packed w;
    size_t bytes;
    void *data;
    float *rows; /* [n][k] dequantised */
};

static struct weights weights_make(enum fmt f, int n, int k)
{
    struct weights out;
    size_t row = fmt_row_bytes(f, k), group = pack_group_bytes(f, k);
    uint8_t *file = malloc((size_t)n * row);
    assert_non_null(file);
    random_rows(f, file, n, k);
    out.bytes = group * (size_t)pack_groups(n);
    out.data = guarded(out.bytes);
    pack_rows(f, out.data, file, row, n, k, 0, pack_groups(n));
    free(file);
    out.w = (struct packed){f, n, k, group, out.data};
    out.rows = malloc((size_t)n * (size_t)k * sizeof *out.rows);
    assert_non_null(out.rows);
    for (int r = 0; r < n; r++)
        packed_dequant_row(&out.w, r, out.rows + (size_t)r * (size_t)k);
    return out;
}

static void weights_free(struct weights *w)
{
    guarded_free(w->data, w->bytes);
    free(w->rows);
}

/* Column c of a prepared row, as the product sees it. */
static double act_at(enum act act, const char *row, int c)
{
    const struct act_q8 *b = (const struct act_q8 *)(const void *)row + c / 32;
    switch (act) {
    case ACT_F32:
        return (double)((const float *)(const void *)row)[c];
    case ACT_BF16:
        return (double)bf16_to_f32(((const uint16_t *)(const void *)row)[c]);
    default:
        return (double)b->scale * b->q[c % 32];
    }
}

/* A weight as the product sees it: beside bf16 activations it is bf16 too. */
static double weight_at(enum act act, const struct weights *w, int r, int c)
{
    float value = w->rows[(size_t)r * (size_t)w->w.k + (size_t)c];
    return (double)(act == ACT_BF16 ? bf16_to_f32(f32_to_bf16(value)) : value);
}

/* y against a sum in double over the same prepared activations, so that what is
 * left is the rounding of f32 additions and factors: at most about one unit in
 * the last place per block of 32 columns, and rarely more than their square root. */
static void check_rows(const char *what, const struct weights *w, enum act act, const char *a, const float *y, int m)
{
    size_t lda = act_row_bytes(act, w->w.k);
    for (int i = 0; i < m; i++)
        for (int r = 0; r < w->w.n; r++) {
            double sum = 0, size = 0;
            for (int c = 0; c < w->w.k; c++) {
                double p = weight_at(act, w, r, c) * act_at(act, a + (size_t)i * lda, c);
                sum += p;
                size += fabs(p);
            }
            double got = (double)y[(size_t)i * (size_t)w->w.n + (size_t)r];
            if (!(fabs(got - sum) <= 2e-6 * size + 1e-30))
                fail_msg("%s: row %d output %d: %g, not %g (size %g)", what, i, r, got, sum, size);
        }
}

static void check_slot(const struct kernels *k, enum fmt f, enum role role, int n, int cols, int m)
{
    const struct mul *mul = &k->mul[f][role];
    char name[64], what[160];
    kernels_name(k, name, sizeof name);
    snprintf(what, sizeof what, "%s %s role %d, %d x %d, %d rows", name, fmt_traits[f].name, role, n, cols, m);
    if (mul->panel_rows)
        m = mul->panel_rows;
    struct weights w = weights_make(f, n, cols);
    size_t act_bytes = (size_t)m * act_row_bytes(mul->act, cols), y_bytes = (size_t)m * (size_t)n * sizeof(float);
    size_t x_bytes = (size_t)m * (size_t)cols * sizeof(float);
    float *x = guarded(x_bytes), *y = guarded(y_bytes);
    char *a = guarded(act_bytes), *scratch = guarded(mul->scratch_bytes);
    random_floats(x, x_bytes / sizeof *x);
    k->prepare[mul->act](a, x, (size_t)cols, m, cols);
    mul->fn(y, (size_t)n, &w.w, a, m, 0, pack_groups(n), scratch);
    check_rows(what, &w, mul->act, a, y, m);
    guarded_free(x, x_bytes);
    guarded_free(y, y_bytes);
    guarded_free(a, act_bytes);
    guarded_free(scratch, mul->scratch_bytes);
    weights_free(&w);
}

typedef void slot_fn(const struct kernels *k, enum fmt f, enum role role);

/* Calls `check` for each slot of a table whose function `before` has not. */
static void for_new_slots(const struct kernels *k, const struct kernels *before, slot_fn *check)
{
    for (int f = 0; f < FMT_COUNT; f++)
        for (int role = 0; role < ROLE_COUNT; role++)
            if (k->mul[f][role].fn != before->mul[f][role].fn &&
                (role == 0 || k->mul[f][role].fn != k->mul[f][0].fn))
                check(k, (enum fmt)f, (enum role)role);
}

/* Calls `check` for each slot of each instruction set and precision, once for
 * each different function: roles and sets often share one. */
static void for_each_slot(slot_fn *check)
{
    unsigned masks[8];
    int n = isa_masks(masks, 8);
    for (int p = 0; p < PREC_COUNT; p++) {
        struct kernels k, before = {0};
        for (int i = 0; i < n; i++, before = k) {
            kernels_init(&k, masks[i], (enum precision)p);
            for_new_slots(&k, &before, check);
        }
        if (emulate_tiles(&k))
            for_new_slots(&k, &before, check);
    }
}

static void check_shapes(const struct kernels *k, enum fmt f, enum role role)
{
    static const int shapes[][3] = {{1, 256, 1}, {5, 512, 3}, {16, 256, 16}, {37, 1280, 7}, {64, 768, 33}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        check_slot(k, f, role, shapes[s][0], shapes[s][1], shapes[s][2]);
}

static void products_equal_the_truth_on_every_isa(void **state)
{
    (void)state;
    for_each_slot(check_shapes);
}

/* Blocks of 32 allow widths that are no multiple of 64 or 256, plain floats any. */
static void check_widths(const struct kernels *k, enum fmt f, enum role role)
{
    static const int widths[] = {1, 3, 31, 32, 96, 129, 160, 257, 288};
    for (size_t s = 0; s < sizeof widths / sizeof widths[0]; s++)
        if (widths[s] % fmt_traits[f].block == 0)
            check_slot(k, f, role, 19, widths[s], 5);
}

static void odd_widths(void **state)
{
    (void)state;
    for_each_slot(check_widths);
}

enum { INV_ROWS = 64, INV_N = 52, INV_K = 512 };

/* Multiplies rows [from, from + m) of a, groups [g0, g1), into y[64][52]. */
static void mul_some(const struct kernels *k, enum fmt f, enum role role, const struct packed *w, float *y,
                     const char *a, int from, int m, int g0, int g1, void *scratch)
{
    const struct mul *mul = &k->mul[f][role];
    mul->fn(y + (size_t)from * INV_N, INV_N, w, a + (size_t)from * act_row_bytes(mul->act, INV_K), m, g0, g1, scratch);
}

static void check_invariance(const struct kernels *k, enum fmt f, enum role role)
{
    static const int counts[] = {1, 2, 3, 7, 16, 64};
    const struct mul *mul = &k->mul[f][role];
    struct weights w = weights_make(f, INV_N, INV_K);
    size_t lda = act_row_bytes(mul->act, INV_K), y_bytes = INV_ROWS * INV_N * sizeof(float);
    float *x = malloc(INV_ROWS * INV_K * sizeof *x), *want = malloc(y_bytes), *y = malloc(y_bytes);
    char *a = aligned_alloc(64, INV_ROWS * lda), *scratch = aligned_alloc(64, mul->scratch_bytes + 64);
    assert_true(x && want && y && a && scratch);
    random_floats(x, INV_ROWS * INV_K);
    k->prepare[mul->act](a, x, INV_K, INV_ROWS, INV_K);
    for (int i = 0; i < INV_ROWS; i++)
        mul_some(k, f, role, &w.w, want, a, i, 1, 0, pack_groups(INV_N), scratch);
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (int cut = 0; cut <= pack_groups(INV_N); cut++) {
            memset(y, 0xff, y_bytes);
            for (int i = 0; i < INV_ROWS; i += counts[c]) {
                int m = INV_ROWS - i < counts[c] ? INV_ROWS - i : counts[c];
                mul_some(k, f, role, &w.w, y, a, i, m, 0, cut, scratch);
                mul_some(k, f, role, &w.w, y, a, i, m, cut, pack_groups(INV_N), scratch);
            }
            if (memcmp(y, want, y_bytes) != 0)
                fail_msg("isa %x %s role %d: %d rows, cut at group %d give other bits", k->isa, fmt_traits[f].name,
                         role, counts[c], cut);
        }
    weights_free(&w);
    free(x);
    free(want);
    free(y);
    free(a);
    free(scratch);
}

/* Fixed panels: a row keeps its bits whatever the other rows of its panel hold. */
static void check_panel(const struct kernels *k, enum fmt f, enum role role)
{
    const struct mul *mul = &k->mul[f][role];
    int rows = mul->panel_rows;
    struct weights w = weights_make(f, INV_N, INV_K);
    size_t lda = act_row_bytes(mul->act, INV_K), y_bytes = (size_t)rows * INV_N * sizeof(float);
    float *x = malloc((size_t)rows * INV_K * sizeof *x), *want = malloc(y_bytes), *y = malloc(y_bytes);
    char *all = aligned_alloc(64, (size_t)rows * lda), *some = aligned_alloc(64, (size_t)rows * lda);
    char *scratch = aligned_alloc(64, mul->scratch_bytes + 64);
    assert_true(x && want && y && all && some && scratch);
    random_floats(x, (size_t)rows * INV_K);
    k->prepare[mul->act](all, x, INV_K, rows, INV_K);
    mul->fn(want, INV_N, &w.w, all, rows, 0, pack_groups(INV_N), scratch);
    for (int from = 0; from < rows; from += 13)
        for (int n = 1; from + n <= rows; n *= 3) {
            memset(some, 0, (size_t)rows * lda);
            memcpy(some + (size_t)from * lda, all + (size_t)from * lda, (size_t)n * lda);
            mul->fn(y, INV_N, &w.w, some, rows, 0, 2, scratch);
            mul->fn(y, INV_N, &w.w, some, rows, 2, pack_groups(INV_N), scratch);
            for (int i = from; i < from + n; i++)
                assert_memory_equal(y + i * INV_N, want + i * INV_N, INV_N * sizeof *y);
        }
    weights_free(&w);
    free(x);
    free(want);
    free(y);
    free(all);
    free(some);
    free(scratch);
}

static void check_contract(const struct kernels *k, enum fmt f, enum role role)
{
#ifdef __SANITIZE_ADDRESS__ /* tiles in plain C: test_amx.c asks the same in a size that can be waited for */
    if (k->isa & ~cpu_isa())
        return;
#endif
    if (k->mul[f][role].panel_rows)
        check_panel(k, f, role);
    else
        check_invariance(k, f, role);
}

static void a_row_depends_on_nothing_but_itself(void **state)
{
    (void)state;
    for_each_slot(check_contract);
}

static void prepared_rows_are_equal_on_every_isa(void **state)
{
    (void)state;
    static const int widths[] = {1, 31, 32, 256, 300, 1000};
    unsigned masks[8];
    int n = isa_masks(masks, 8);
    struct kernels ref, k;
    kernels_init(&ref, ISA_REF, PREC_FAST);
    for (size_t s = 0; s < sizeof widths / sizeof widths[0]; s++)
        for (int act = 0; act < ACT_COUNT; act++)
            for (int i = 1; i < n; i++) {
                int cols = widths[s], m = 3;
                size_t bytes = (size_t)m * act_row_bytes((enum act)act, cols), x_bytes = (size_t)m * (size_t)cols * 4;
                float *x = guarded(x_bytes);
                char *want = guarded(bytes), *got = guarded(bytes);
                kernels_init(&k, masks[i], PREC_FAST);
                random_floats(x, (size_t)m * (size_t)cols);
                for (int c = 0; c < 32 && c < cols; c++)
                    x[c] = 0; /* a block without a scale */
                ref.prepare[act](want, x, (size_t)cols, m, cols);
                k.prepare[act](got, x, (size_t)cols, m, cols);
                for (int r = 0; r < m; r++)
                    for (int c = 0; c < cols; c++)
                        assert_true(act_at((enum act)act, want + (size_t)r * bytes / 3, c) ==
                                    act_at((enum act)act, got + (size_t)r * bytes / 3, c));
                if (act == ACT_Q8)
                    for (int r = 0; r < m; r++)
                        assert_memory_equal(want + (size_t)r * bytes / 3, got + (size_t)r * bytes / 3,
                                            (size_t)((cols + 31) / 32) * sizeof(struct act_q8));
                guarded_free(x, x_bytes);
                guarded_free(want, bytes);
                guarded_free(got, bytes);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_equal_the_truth_on_every_isa),
        cmocka_unit_test(odd_widths),
        cmocka_unit_test(a_row_depends_on_nothing_but_itself),
        cmocka_unit_test(prepared_rows_are_equal_on_every_isa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
