/* test_no_alloc.c - a step allocates nothing.
 *
 * The program brings its own malloc, which counts while a step runs, on whatever
 * thread. Sanitizers have theirs: then there is nothing to count here.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "shard/stage.h"

#if defined(__has_feature)
#define CLANG_HAS(x) __has_feature(x)
#else
#define CLANG_HAS(x) 0
#endif
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !CLANG_HAS(address_sanitizer) && !CLANG_HAS(thread_sanitizer) && !CLANG_HAS(memory_sanitizer)
#define COUNTS 1
#else
#define COUNTS 0
#endif

static atomic_bool watching;
static atomic_int n_calls;

#if COUNTS
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);

static void note(void)
{
    if (atomic_load(&watching))
        atomic_fetch_add(&n_calls, 1);
}

void *malloc(size_t size)
{
    note();
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    note();
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    note();
    return __libc_realloc(p, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    note();
    return __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    note();
    *out = __libc_memalign(align, size);
    return *out ? 0 : ENOMEM;
}
#endif

enum { ROWS = 16, STREAMS = 2, PAGES = 4, STEPS = 20 };

static void step(struct stage *s, struct batch_row *rows, int n, int n_gen, struct batch_seq *seqs)
{
    struct why why = {""};
    struct row_result results[ROWS];
    int n_results = 0;
    struct batch b = {.n_rows = n, .n_gen = n_gen, .n_seqs = STREAMS, .rows = rows, .seqs = seqs};
    atomic_store(&watching, true);
    err e = stage_step(s, &b, NULL, NULL, results, &n_results, &why);
    atomic_store(&watching, false);
    if (e != ERR_OK)
        fail_msg("%s", why.text);
}

/* A prompt and some tokens of two streams: one takes the best, the other draws. */
static void run_model(const char *name, enum precision precision)
{
    char path[512];
    struct why why = {""};
    struct source *src;
    struct kernels k;
    struct pool *pool;
    struct stage *s;
    uint32_t pages[STREAMS * PAGES];
    struct batch_seq seqs[STREAMS];
    struct batch_row rows[ROWS];
    struct stage_limits lim = {.max_rows = ROWS,
                               .max_slots = STREAMS,
                               .max_context = PAGES * KV_PAGE,
                               .n_pages = STREAMS * PAGES,
                               .kv_type = KV_F16};
    struct sample_params params[STREAMS] = {
        {.top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_k = 20, .top_p = 0.9f, .repetition_penalty = 1.1f, .seed = 1}};

    snprintf(path, sizeof path, "%s/tests/golden/tiny/%s", getenv("CORDEE_SOURCE"), name);
    kernels_init(&k, cpu_isa(), precision);
    assert_int_equal(source_open(path, &src, &why), ERR_OK);
    assert_int_equal(pool_open(3, &pool, &why), ERR_OK);
    struct stage_range all = {.last = source_hparams(src)->n_layer, .embed = true, .head = true};
    assert_int_equal(stage_open(src, all, &lim, &k, pool, &s, &why), ERR_OK);
    for (uint32_t i = 0; i < STREAMS * PAGES; i++)
        pages[i] = i;
    for (uint32_t q = 0; q < STREAMS; q++) {
        seqs[q] = (struct batch_seq){.slot = q, .n_pages = PAGES, .pages = pages + q * PAGES};
        assert_int_equal(stage_slot_open(s, q, &params[q], NULL, 0, &why), ERR_OK);
    }

    atomic_store(&n_calls, 0);
    for (int i = 0; i < ROWS; i++)
        rows[i] =
            (struct batch_row){.token = 5 + i, .pos = i % (ROWS / 2), .seq = (uint16_t)(i / (ROWS / 2))};
    step(s, rows, ROWS, 0, seqs);
    for (int g = 0; g < STEPS; g++) {
        for (int q = 0; q < STREAMS; q++)
            rows[q] = (struct batch_row){.token = 7 + g,
                                         .pos = ROWS / 2 + g,
                                         .seq = (uint16_t)q,
                                         .n_top = 3,
                                         .flags = ROW_GENERATED | ROW_SAMPLE};
        step(s, rows, STREAMS, STREAMS, seqs);
    }
    if (atomic_load(&n_calls) != 0)
        fail_msg("%s: %d allocations in %d steps", name, atomic_load(&n_calls), STEPS + 1);
    stage_close(s);
    pool_close(pool);
    source_close(src);
}

static void a_step_allocates_nothing(void **state)
{
    (void)state;
    static const char *const models[] = {"tiny-llama-spm.gguf", "tiny-gemma3-bpe.gguf"};
    if (!COUNTS || !getenv("CORDEE_SOURCE"))
        skip();
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (int p = 0; p < PREC_COUNT; p++)
            run_model(models[i], (enum precision)p);
}

/* The counter itself: a test that cannot fail proves nothing. */
static void the_counter_counts(void **state)
{
    (void)state;
    if (!COUNTS)
        skip();
    atomic_store(&n_calls, 0);
    atomic_store(&watching, true);
    void *volatile p = malloc(100);
    free(p);
    atomic_store(&watching, false);
    assert_int_equal(n_calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counter_counts),
        cmocka_unit_test(a_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
