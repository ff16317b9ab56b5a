/* test_attn_run.c - attention shared out between threads: the same bits for any number of
 * them, with contexts of many spans, to 131072 positions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "model/attn_run.h"

enum { N_HEAD = 4, HEAD = 16, CONTEXT = 131072, N_PAGES = CONTEXT / KV_PAGE, MAX_ROWS = 40, LD = N_HEAD * HEAD };

static const struct hparams one_kv_head = {
    .n_layer = 1, .n_head = N_HEAD, .n_head_kv = 1, .head_dim_k = HEAD, .head_dim_v = HEAD, .causal = true};
static const struct arch_desc family;

static float noise(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state * 0x1p-31f;
}

/* A long sequence and a short one over the same pages: generated rows of both, then the end of a prompt. */
static int make_rows(struct batch_row *row)
{
    int n = 0;
    row[n++] = (struct batch_row){.pos = CONTEXT - 1, .seq = 0};
    row[n++] = (struct batch_row){.pos = 700, .seq = 1};
    row[n++] = (struct batch_row){.pos = 5000, .seq = 1};
    for (int i = 0; i < 36; i++, n++)
        row[n] = (struct batch_row){.pos = 20000 + i, .seq = 1};
    return n;
}

static float *attend(const struct kv *kv, const struct kernels *k, const struct batch *b, const float *q, int threads,
                     int window)
{
    struct why why;
    struct attn_shape s = {.q = q, .ldq = LD, .ldo = LD, .n_head = N_HEAD, .window = window};
    struct forward f = {.hp = &one_kv_head, .k = k, .kv = (struct kv *)(uintptr_t)kv, .max_rows = MAX_ROWS,
                        .max_context = CONTEXT, .attn_scale = 0.25f, .b = b};
    struct carve measure = {.base = NULL}, carve;
    float *out = calloc(MAX_ROWS * LD, sizeof *out);
    assert_non_null(out);
    assert_int_equal(pool_open(threads, &f.pool, &why), ERR_OK);
    attn_run_carve(&f, &measure, threads);
    carve = (struct carve){.base = mem_alloc(measure.used + 64, 1)};
    assert_non_null(carve.base);
    attn_run_carve(&f, &carve, threads);
    f.mm.scratch_bytes = (attn_run_scratch(&f) + 127) & ~(size_t)127;
    f.mm.scratch = mem_alloc((size_t)threads, f.mm.scratch_bytes);
    assert_non_null(f.mm.scratch);
    attn_runs_make(&f);
    s.out = out;
    attn_run(&f, &s);
    pool_close(f.pool);
    free(f.mm.scratch);
    free(carve.base);
    return out;
}

static void threads_and_shares_do_not_change_a_bit(void **state)
{
    static const int threads[] = {2, 3, 7, 16}, windows[] = {0, 3000};
    static struct batch_row rows[MAX_ROWS];
    static uint32_t pages[N_PAGES];
    static float q[MAX_ROWS * LD], x[HEAD];
    uint32_t seed = 7;
    struct kernels k;
    struct kv kv;
    struct why why;
    (void)state;
    kernels_init(&k, cpu_isa(), PREC_FAST);
    assert_int_equal(kv_init(&family, &one_kv_head, 1, N_PAGES, KV_F16, &k, &kv, &why), ERR_OK);
    for (int p = 0; p < N_PAGES; p++)
        pages[p] = (uint32_t)(N_PAGES - 1 - p);
    for (int j = 0; j < CONTEXT; j++) {
        for (int c = 0; c < HEAD; c++)
            x[c] = noise(&seed);
        kv_put(&kv, pages[j / KV_PAGE], 0, 0, j, x, x);
    }
    for (int i = 0; i < MAX_ROWS * LD; i++)
        q[i] = 4 * noise(&seed);
    struct batch_seq seqs[2] = {{.n_pages = N_PAGES, .pages = pages}, {.n_pages = N_PAGES, .pages = pages}};
    struct batch b = {.n_rows = make_rows(rows), .n_gen = 3, .n_seqs = 2, .rows = rows, .seqs = seqs};
    for (size_t w = 0; w < 2; w++) {
        float *want = attend(&kv, &k, &b, q, 1, windows[w]);
        for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
            float *got = attend(&kv, &k, &b, q, threads[t], windows[w]);
            assert_memory_equal(got, want, sizeof(float) * (size_t)(b.n_rows * LD));
            free(got);
        }
        free(want);
    }
    kv_fini(&kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_and_shares_do_not_change_a_bit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
