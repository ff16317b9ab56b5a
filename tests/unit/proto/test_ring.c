/* test_ring.c - each test is one order in which batches and tokens can meet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/ring.h"

static struct ring ring;

static int setup(void **state)
{
    (void)state;
    return ring_init(&ring, 4, NULL) != ERR_OK;
}

static int teardown(void **state)
{
    (void)state;
    ring_fini(&ring);
    return 0;
}

static void put(uint32_t step, int32_t pos, int32_t token, int ended, uint8_t more_flags)
{
    struct wire_result r = {.slot = 2, .pos = pos, .token = token, .ended = (uint16_t)ended,
                            .flags = (uint8_t)(WIRE_ROW_SAMPLE | more_flags)};
    ring_put(&ring, step, &r);
}

static void expect(int32_t pos, enum ring_answer answer, int32_t token)
{
    int32_t got = -5;
    assert_int_equal(ring_get(&ring, 2, pos, &got), answer);
    if (answer == RING_TOKEN)
        assert_int_equal(got, token);
}

static void test_a_row_waits_for_its_token(void **state)
{
    (void)state;
    ring_open(&ring, 2, 10);
    expect(6, RING_ABSENT, 0);
    put(10, 5, 42, 0, 0);
    expect(6, RING_TOKEN, 42);
    expect(7, RING_ABSENT, 0);
    put(11, 6, 43, 0, 0);
    expect(7, RING_TOKEN, 43);
}

static void test_rows_sent_after_the_end_are_dead(void **state)
{
    (void)state;
    ring_open(&ring, 2, 10);
    put(10, 5, 1, 1, 0);
    expect(6, RING_DEAD, 0);
    expect(7, RING_DEAD, 0);
    put(12, 6, -1, 0, WIRE_ROW_DEAD); /* what a dead row gives does not count */
    expect(7, RING_DEAD, 0);
}

static void test_a_late_token_of_the_slots_former_sequence_is_dropped(void **state)
{
    (void)state;
    ring_open(&ring, 2, 20);
    put(19, 5, 42, 0, 0);
    expect(6, RING_ABSENT, 0);
    put(20, 5, 43, 0, 0);
    expect(6, RING_TOKEN, 43);
    ring_open(&ring, 2, 30);
    expect(6, RING_ABSENT, 0);
}

static void test_steps_wrap_around(void **state)
{
    (void)state;
    ring_open(&ring, 2, UINT32_MAX);
    put(1, 5, 42, 0, 0);
    expect(6, RING_TOKEN, 42);
}

static void test_scored_rows_give_no_token(void **state)
{
    (void)state;
    struct wire_result r = {.slot = 2, .pos = 5, .token = 9, .flags = WIRE_ROW_SCORE};
    ring_open(&ring, 2, 1);
    ring_put(&ring, 1, &r);
    expect(6, RING_ABSENT, 0);
}

#define RING_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(test_a_row_waits_for_its_token),
        RING_TEST(test_rows_sent_after_the_end_are_dead),
        RING_TEST(test_a_late_token_of_the_slots_former_sequence_is_dropped),
        RING_TEST(test_steps_wrap_around),
        RING_TEST(test_scored_rows_give_no_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
