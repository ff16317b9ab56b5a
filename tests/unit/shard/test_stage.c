/* test_stage.c - the stage's promises at its edges: measuring, refusing, dead
 * rows, slots, digests. What it computes is tests/golden's business. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "shard/stage.h"

enum { ROWS = 8, PAGES = 6, SLOTS = 3 };

struct setup {
    struct source *src;
    struct kernels k;
    struct pool *pool;
    struct stage_limits lim;
    struct stage *s;
    struct batch_row rows[ROWS + 1];
    uint32_t pages[PAGES];
    struct batch_seq seqs[2];
    struct batch b;
    struct row_result results[ROWS];
    int n_results;
};

static int setup_open(void **state)
{
    static struct setup t;
    struct why why = {""};
    char path[512];
    if (!getenv("CORDEE_SOURCE"))
        return 0;
    snprintf(path, sizeof path, "%s/tests/golden/tiny/tiny-llama-spm.gguf", getenv("CORDEE_SOURCE"));
    memset(&t, 0, sizeof t);
    kernels_init(&t.k, ISA_REF, PREC_EXACT);
    assert_int_equal(source_open(path, &t.src, &why), ERR_OK);
    assert_int_equal(pool_open(2, &t.pool, &why), ERR_OK);
    t.lim = (struct stage_limits){
        .max_rows = ROWS, .max_slots = SLOTS, .max_context = 64, .n_pages = PAGES, .kv_type = KV_F32};
    struct stage_range all = {.last = source_hparams(t.src)->n_layer, .embed = true, .head = true};
    assert_int_equal(stage_open(t.src, all, &t.lim, &t.k, t.pool, &t.s, &why), ERR_OK);
    for (uint32_t p = 0; p < PAGES; p++)
        t.pages[p] = p;
    t.seqs[0] = (struct batch_seq){.slot = 0, .n_pages = 2, .pages = t.pages};
    t.seqs[1] = (struct batch_seq){.slot = 1, .n_pages = 2, .pages = t.pages + 2};
    for (int i = 0; i < 4; i++)
        t.rows[i] = (struct batch_row){.token = 5 + i, .pos = i, .flags = ROW_SCORE, .target = 6 + i};
    t.b = (struct batch){.n_rows = 4, .n_seqs = 2, .rows = t.rows, .seqs = t.seqs};
    *state = &t;
    return 0;
}

static int setup_close(void **state)
{
    struct setup *t = *state;
    if (t) {
        stage_close(t->s);
        pool_close(t->pool);
        source_close(t->src);
    }
    return 0;
}

static err step(struct setup *t)
{
    struct why why;
    return stage_step(t->s, &t->b, NULL, NULL, t->results, &t->n_results, &why);
}

static void hostile_batches_are_refused(void **state)
{
    struct setup *t = *state;
    if (!t)
        skip();
    assert_int_equal(step(t), ERR_OK);
    assert_int_equal(t->n_results, 4);
#define REFUSED(field, value)                 \
    do {                                      \
        __typeof__(field) kept = field;       \
        field = value;                        \
        assert_int_equal(step(t), ERR_INVAL); \
        field = kept;                         \
    } while (0)
    REFUSED(t->b.n_rows, 0);
    REFUSED(t->b.n_rows, ROWS + 1);
    REFUSED(t->b.n_gen, 1);
    REFUSED(t->b.n_gen, -1);
    REFUSED(t->rows[1].token, -1);
    REFUSED(t->rows[1].token, 1 << 30);
    REFUSED(t->rows[1].target, 1 << 30);
    REFUSED(t->rows[1].pos, -1);
    REFUSED(t->rows[1].pos, 64);
    REFUSED(t->rows[1].seq, 2);
    REFUSED(t->rows[1].n_top, SAMPLE_MAX_TOP + 1);
    REFUSED(t->rows[1].flags, ROW_SAMPLE); /* no slot is open */
    REFUSED(t->rows[1].flags, ROW_GENERATED);
    REFUSED(t->seqs[1].slot, SLOTS);
    REFUSED(t->seqs[0].n_pages, 0);
    REFUSED(t->pages[1], PAGES);
#undef REFUSED
    assert_int_equal(step(t), ERR_OK);
}

static void dead_rows_touch_nothing_and_answer_so(void **state)
{
    struct setup *t = *state;
    if (!t)
        skip();
    float alive[4];
    assert_int_equal(step(t), ERR_OK);
    for (int i = 0; i < 4; i++)
        alive[i] = t->results[i].logprob;
    uint64_t before = stage_digest(t->s, 2);
    t->rows[4] = (struct batch_row){.token = -7, .pos = 3, .seq = 1, .flags = ROW_SAMPLE | ROW_DEAD};
    t->b.n_rows = 5;
    assert_int_equal(step(t), ERR_OK);
    assert_int_equal(t->n_results, 5);
    assert_true(t->results[4].flags & ROW_DEAD);
    assert_int_equal(t->results[4].token, -1);
    assert_int_equal(t->results[4].slot, 1);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(&alive[i], &t->results[i].logprob, sizeof *alive);
    assert_true(stage_digest(t->s, 2) == before);
}

static void digests_follow_the_pages(void **state)
{
    struct setup *t = *state;
    if (!t)
        skip();
    uint64_t empty = stage_digest(t->s, 0);
    assert_int_equal(step(t), ERR_OK);
    uint64_t full = stage_digest(t->s, 0);
    assert_true(full != empty);
    assert_int_equal(step(t), ERR_OK); /* a step may be repeated */
    assert_true(stage_digest(t->s, 0) == full);
    assert_true(stage_digest(t->s, PAGES) == 0);
}

static void slots_open_sample_and_close(void **state)
{
    struct setup *t = *state;
    if (!t)
        skip();
    struct why why;
    struct sample_params p = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 3};
    assert_int_equal(stage_slot_open(t->s, SLOTS, &p, NULL, 0, &why), ERR_INVAL);
    assert_int_equal(stage_slot_open(t->s, 0, &p, NULL, 0, &why), ERR_OK);
    t->rows[3].flags = ROW_SAMPLE;
    t->rows[3].n_top = 5;
    assert_int_equal(step(t), ERR_OK);
    struct row_result first = t->results[3];
    assert_int_equal(first.n_top, 5);
    for (int i = 1; i < 5; i++)
        assert_true(first.top[i - 1].logprob >= first.top[i].logprob);
    assert_int_equal(first.top[0].token, first.argmax);
    assert_true(first.logprob <= first.top[0].logprob);
    assert_int_equal(step(t), ERR_OK);
    assert_memory_equal(&first, &t->results[3], sizeof first);
    stage_slot_close(t->s, 0);
    assert_int_equal(step(t), ERR_INVAL);
}

static void measuring_equals_opening(void **state)
{
    struct setup *t = *state;
    if (!t)
        skip();
    struct stage_bytes all, part;
    struct why why;
    int n = source_hparams(t->src)->n_layer;
    assert_int_equal(
        stage_measure(t->src, (struct stage_range){0, n, true, true}, &t->lim, &t->k, 2, &all, &why), ERR_OK);
    assert_int_equal(
        stage_measure(t->src, (struct stage_range){0, 1, false, false}, &t->lim, &t->k, 2, &part, &why),
        ERR_OK);
    assert_true(part.weights > 0 && part.weights < all.weights);
    assert_int_equal(all.kv, part.kv * (uint64_t)n);
    assert_int_equal(
        stage_measure(t->src, (struct stage_range){1, 0, false, false}, &t->lim, &t->k, 2, &part, &why),
        ERR_INVAL);
    assert_int_equal(
        stage_measure(t->src, (struct stage_range){0, n + 1, false, false}, &t->lim, &t->k, 2, &part, &why),
        ERR_INVAL);
}

static void stages_without_layers_give_the_same_bits(void **state)
{
    struct setup *t = *state;
    if (!t)
        skip();
    struct why why;
    struct stage *part[4] = {NULL};
    struct row_result results[ROWS];
    int n = source_hparams(t->src)->n_layer, n_results = 0;
    const struct stage_range ranges[4] = {
        {0, 0, true, false}, {0, n, false, false}, {n, n, false, false}, {n, n, false, true}};
    size_t floats = 4 * (size_t)source_hparams(t->src)->n_embd;
    float *x[2] = {mem_alloc(floats, sizeof(float)), mem_alloc(floats, sizeof(float))};

    assert_int_equal(step(t), ERR_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(stage_open(t->src, ranges[i], &t->lim, &t->k, t->pool, &part[i], &why), ERR_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(stage_step(part[i], &t->b, i ? x[i % 2] : NULL, i < 3 ? x[(i + 1) % 2] : NULL,
                                    results, &n_results, &why),
                         ERR_OK);
    assert_int_equal(n_results, t->n_results);
    assert_memory_equal(results, t->results, sizeof *results * (size_t)n_results);
    for (int i = 0; i < 4; i++)
        stage_close(part[i]);
    free(x[0]);
    free(x[1]);
}

int main(void)
{
#define WITH_STAGE(f) cmocka_unit_test_setup_teardown(f, setup_open, setup_close)
    const struct CMUnitTest tests[] = {
        WITH_STAGE(hostile_batches_are_refused), WITH_STAGE(dead_rows_touch_nothing_and_answer_so),
        WITH_STAGE(digests_follow_the_pages),    WITH_STAGE(slots_open_sample_and_close),
        WITH_STAGE(measuring_equals_opening),    WITH_STAGE(stages_without_layers_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
