/* test_matmul.c - products in one loop: roles, biases, row ranges, fixed panels; and
 * rows prepared as they are made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/cpu.h"
#include "model/matmul.h"

enum { K = 48, N = 37, ROWS = 11, PANEL = 8, PRODUCTS = 4 };

static struct weight weight_make(float *src, char *packed, int seed)
{
    for (int i = 0; i < N * K; i++)
        src[i] = (float)((i * 31 + seed * 17) % 23 - 11) / 8;
    pack_rows(FMT_F32, packed, src, K * sizeof(float), N, K, 0, pack_groups(N));
    struct weight w = {.w = {.fmt = FMT_F32, .n = N, .k = K, .data = packed}, .n_stack = 1, .n = N};
    w.w.group_bytes = pack_group_bytes(FMT_F32, K);
    return w;
}

/* A kernel of fixed panel shape whose results depend on where a row stands in the
 * panel, as a blocked GEMM's may: row i of a panel comes out i too great. */
static void panel_mul(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0, int g1,
                      void *scratch)
{
    float row[K];
    (void)scratch;
    assert_int_equal(m, PANEL);
    for (int r = g0 * PACK_ROWS; r < g1 * PACK_ROWS && r < w->n; r++) {
        packed_dequant_row(w, r, row);
        for (int i = 0; i < m; i++) {
            const float *x = (const float *)((const char *)a + (size_t)i * act_row_bytes(ACT_F32, w->k));
            float sum = (float)i;
            for (int c = 0; c < w->k; c++)
                sum += row[c] * x[c];
            y[(size_t)i * ldy + (size_t)r] = sum;
        }
    }
}

struct setup {
    struct kernels k;
    struct pool *pool;
    struct matmul mm;
    struct acts in;
    struct row_place place[ROWS];
    struct rows rows;
    char *block, *packed;
    float src[N * K];
    struct weight w;
};

static void setup_open(struct setup *s, bool panels)
{
    struct why why;
    struct carve c = {.base = NULL};
    memset(s, 0, sizeof *s);
    kernels_init(&s->k, ISA_REF, PREC_EXACT);
    if (panels) {
        s->k.mul[FMT_F32][ROLE_PROMPT].fn = panel_mul;
        s->k.mul[FMT_F32][ROLE_PROMPT].panel_rows = PANEL;
    }
    assert_int_equal(pool_open(3, &s->pool, &why), ERR_OK);
    s->packed = mem_alloc(pack_group_bytes(FMT_F32, K), (size_t)pack_groups(N));
    s->w = weight_make(s->src, s->packed, 1);
    s->mm = (struct matmul){.k = &s->k, .pool = s->pool, .max_products = PRODUCTS};
    matmul_scratch(&s->k, &s->w, &s->mm.scratch_bytes);
    for (int pass = 0; pass < 2; pass++) {
        c.used = 0;
        acts_carve(&s->in, &c, ROWS, K, 1u << ACT_F32);
        s->mm.scratch = carve_take(&c, 3, s->mm.scratch_bytes);
        s->mm.starts = carve_take(&c, PRODUCTS + 1, sizeof(int));
        if (pass == 0)
            c.base = s->block = mem_alloc(c.used, 1);
    }
    acts_begin(&s->in, K);
    for (int i = 0; i < ROWS; i++) {
        s->place[i] =
            (struct row_place){.pos = i < 2 ? 40 + i : 4 + i, .seq = i < 2 ? 9 : (uint32_t)(i >= 8)};
        for (int c2 = 0; c2 < K; c2++)
            acts_row(&s->in, i)[c2] = (float)((i * 13 + c2 * 7) % 19 - 9) / 16;
    }
    s->rows = (struct rows){.n = ROWS, .n_gen = 2, .place = s->place};
}

static void setup_close(struct setup *s)
{
    pool_close(s->pool);
    free(s->block);
    free(s->packed);
}

/* All values are small multiples of 1/128: sums are exact in any order. */
static float want(const struct setup *s, int row, int r)
{
    float sum = 0;
    for (int c = 0; c < K; c++)
        sum += s->src[r * K + c] * acts_row(&s->in, row)[c];
    return sum;
}

static void several_products_share_rows(void **state)
{
    static struct setup s;
    static float y[3][ROWS][64], bias[N];
    (void)state;
    setup_open(&s, false);
    for (int i = 0; i < N; i++)
        bias[i] = (float)i;
    struct weight b = {.v = bias, .n = N};
    struct product p[3] = {product_of(&s.rows, &s.w, NULL, y[0][0], 64),
                           product_of(&s.rows, &s.w, &b, y[1][0], 64),
                           {.w = s.w.w, .y = y[2][0], .ldy = 64, .row0 = 1, .n_gen = 1, .n_prompt = 3}};
    matmul_run(&s.mm, &s.rows, &s.in, p, 3);
    for (int i = 0; i < ROWS; i++)
        for (int r = 0; r < N; r++) {
            assert_true(y[0][i][r] == want(&s, i, r));
            assert_true(y[1][i][r] == want(&s, i, r) + (float)r);
            assert_true(y[2][i][r] == (i < 4 ? want(&s, i + 1, r) : 0));
            assert_true(y[0][i][N + 1] == 0);
        }
    setup_close(&s);
}

static void a_panel_row_stands_at_its_absolute_position(void **state)
{
    static struct setup s;
    static float y[ROWS][64];
    (void)state;
    setup_open(&s, true);
    struct product p = product_of(&s.rows, &s.w, NULL, y[0], 64);
    matmul_run(&s.mm, &s.rows, &s.in, &p, 1);
    for (int i = 0; i < ROWS; i++)
        for (int r = 0; r < N; r++)
            assert_true(y[i][r] == want(&s, i, r) + (float)(i < 2 ? 0 : s.place[i].pos % PANEL));
    setup_close(&s);
}

/* Row 0 of `a` = norm(x), row 1 = activation(x) * gain, in every form of the mask. */
static void make_rows(struct matmul *mm, struct acts *a, form_mask forms, const float *x, const float *gain)
{
    float *row = matmul_row(mm, a, 0, forms, 1);
    mm->k->rmsnorm(row, x, gain, 1e-5f, a->k);
    matmul_prepare(mm, a, 0, forms, row);
    row = matmul_row(mm, a, 1, forms, 1);
    mm->k->glu[ACTIVATION_SILU](row, x, gain, a->k);
    matmul_prepare(mm, a, 1, forms, row);
}

static void check_rows(const struct kernels *k, int width)
{
    const form_mask every = (1u << ACT_COUNT) - 1;
    struct acts all, one;
    struct carve c = {.base = NULL};
    struct matmul mm = {.k = k, .scratch_bytes = act_row_bytes(ACT_F32, width)};
    float *x = NULL, *gain = NULL;
    char *block = NULL;
    for (int pass = 0; pass < 2; pass++) {
        c.used = 0;
        mm.scratch = carve_take(&c, 2, mm.scratch_bytes);
        x = carve_take(&c, (size_t)width, sizeof *x);
        gain = carve_take(&c, (size_t)width, sizeof *gain);
        acts_carve(&all, &c, 2, width, every);
        acts_carve(&one, &c, 2, width, every & ~(1u << ACT_F32));
        if (pass == 0)
            c.base = block = mem_alloc(c.used, 1);
    }
    memset(block, 0, c.used);
    for (int i = 0; i < width; i++) {
        x[i] = (float)((i * 37 + 11) % 101 - 50) / 9;
        gain[i] = (float)(i * 13 % 17 + 1) / 8;
    }
    acts_begin(&all, width);
    acts_begin(&one, width);
    make_rows(&mm, &all, every, x, gain);
    for (int f = 0; f < ACT_COUNT; f++) {
        if (f == ACT_F32)
            continue;
        make_rows(&mm, &one, 1u << f, x, gain);
        assert_memory_equal(one.form[f], all.form[f], 2 * all.stride[f]);
    }
    k->rmsnorm(x, x, gain, 1e-5f, width);
    assert_memory_equal(acts_row(&all, 0), x, (size_t)width * sizeof *x);
    free(block);
}

/* The same bits, whether the f32 row is kept or passes through a thread's scratch. */
static void a_row_is_prepared_as_it_is_made(void **state)
{
    static const int widths[] = {1, 31, 48, 128, 300, 2050};
    unsigned have = cpu_isa();
    (void)state;
    for (unsigned bit = 1, mask = 0; bit; mask |= bit & have, bit = bit > have ? 0 : bit << 1)
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
            struct kernels k;
            kernels_init(&k, mask, PREC_FAST);
            check_rows(&k, widths[i]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_products_share_rows),
        cmocka_unit_test(a_panel_row_stands_at_its_absolute_position),
        cmocka_unit_test(a_row_is_prepared_as_it_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
