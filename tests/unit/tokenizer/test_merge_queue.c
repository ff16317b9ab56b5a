/* test_merge_queue.c - both forms of the queue against sorting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

#include "tokenizer/merge_queue.h"

enum { N_RANKS = 37, MAX_HELD = 4000 };

static uint32_t next_random(uint32_t *x)
{
    *x = *x * 1664525u + 1013904223u;
    return *x >> 8;
}

/* Smallest of held[0..n), which is removed. */
static uint64_t take_least(uint64_t *held, size_t *n)
{
    size_t least = 0;
    for (size_t i = 1; i < *n; i++)
        least = held[i] < held[least] ? i : least;
    uint64_t x = held[least];
    held[least] = held[--*n];
    return x;
}

/* word: the length that chooses the form. sorted: places mostly ascend, as they do in words. */
static void run(size_t word, int sorted, uint32_t seed)
{
    static uint64_t held[MAX_HELD];
    struct merge_queue q = {0};
    size_t n = 0;
    uint32_t rank, place, step = 0;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(merge_queue_begin(&q, word, N_RANKS, NULL), ERR_OK);
        for (int i = 0; i < 4000; i++) {
            if (n < MAX_HELD && (n == 0 || next_random(&seed) % 3 != 0)) {
                rank = next_random(&seed) % N_RANKS;
                place = sorted ? step++ : next_random(&seed) % 1000;
                assert_int_equal(merge_queue_push(&q, rank, place, NULL), ERR_OK);
                held[n++] = (uint64_t)rank << 32 | place;
            } else {
                assert_true(merge_queue_pop(&q, &rank, &place));
                assert_true(((uint64_t)rank << 32 | place) == take_least(held, &n));
            }
        }
        while (n > 0) {
            assert_true(merge_queue_pop(&q, &rank, &place));
            assert_true(((uint64_t)rank << 32 | place) == take_least(held, &n));
        }
        assert_false(merge_queue_pop(&q, &rank, &place));
    }
    merge_queue_fini(&q);
}

static void test_heap(void **state)
{
    (void)state;
    run(10, 0, 1);
    run(10, 1, 2);
}

static void test_lists(void **state)
{
    (void)state;
    run(100000, 0, 3);
    run(100000, 1, 4);
}

static void test_abandoned(void **state)
{
    (void)state;
    struct merge_queue q = {0};
    uint32_t rank, place;
    assert_int_equal(merge_queue_begin(&q, 100000, N_RANKS, NULL), ERR_OK);
    assert_int_equal(merge_queue_push(&q, 5, 1, NULL), ERR_OK);
    assert_int_equal(merge_queue_begin(&q, 100000, N_RANKS, NULL), ERR_OK); /* after an error, say */
    assert_false(merge_queue_pop(&q, &rank, &place));
    merge_queue_fini(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_abandoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
