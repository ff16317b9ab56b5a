/* test_loop.c - the in-process data plane: order, back-pressure, threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "transport/transport.h"

enum { BYTES = 4096 };

static void open_pair(struct transport *t[2], int n_send_bufs)
{
    static const int other[2] = {1, 0};
    assert_int_equal(transport_loop_open(2, t, NULL), ERR_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(transport_start(t[i], &other[i], 1, BYTES, n_send_bufs, NULL), ERR_OK);
}

static void send_number(struct transport *t, int to, uint32_t number)
{
    struct tbuf *b = transport_buf(t);
    assert_non_null(b);
    memcpy(b->data, &number, sizeof number);
    b->len = sizeof number;
    assert_int_equal(transport_send(t, to, b, NULL), ERR_OK);
}

static uint32_t number_of(const struct tbuf *b)
{
    uint32_t number;
    assert_int_equal(b->len, sizeof number);
    memcpy(&number, b->data, sizeof number);
    return number;
}

static void test_messages_arrive_in_order(void **state)
{
    (void)state;
    struct transport *t[2];
    struct transport_event ev;
    open_pair(t, 3);
    assert_int_equal(transport_rank(t[1]), 1);
    assert_int_equal(transport_size(t[1]), 2);
    for (uint32_t i = 0; i < 3; i++)
        send_number(t[0], 1, i);
    assert_null(transport_buf(t[0]));
    assert_int_equal(transport_unsent(t[0]), 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(transport_poll(t[1], &ev, NULL), ERR_OK);
        assert_int_equal(ev.from, 0);
        assert_int_equal((uintptr_t)ev.buf->data % 64, 0);
        assert_int_equal(number_of(ev.buf), i);
        transport_release(t[1], ev.buf);
    }
    assert_int_equal(transport_poll(t[1], &ev, NULL), ERR_AGAIN);
    assert_int_equal(transport_unsent(t[0]), 0);
    assert_int_equal(transport_sent_bytes(t[0]), 12);
    assert_int_equal(transport_received_bytes(t[1]), 12);
    transport_close(t[0]);
    transport_close(t[1]);
}

static void test_a_receiver_that_keeps_four_hears_no_fifth(void **state)
{
    (void)state;
    struct transport *t[2];
    struct transport_event kept[4], ev;
    open_pair(t, 5);
    for (uint32_t i = 0; i < 5; i++)
        send_number(t[0], 1, i);
    for (int i = 0; i < 4; i++)
        assert_int_equal(transport_poll(t[1], &kept[i], NULL), ERR_OK);
    assert_int_equal(transport_poll(t[1], &ev, NULL), ERR_AGAIN);
    transport_release(t[1], kept[2].buf);
    assert_int_equal(transport_poll(t[1], &ev, NULL), ERR_OK);
    assert_int_equal(number_of(ev.buf), 4);
    transport_close(t[1]);
    transport_close(t[0]);
}

static void test_messages_to_a_closed_end_vanish(void **state)
{
    (void)state;
    struct transport *t[2];
    open_pair(t, 1);
    send_number(t[0], 1, 1);
    transport_close(t[1]);
    assert_int_equal(transport_unsent(t[0]), 0);
    send_number(t[0], 1, 2);
    assert_int_equal(transport_unsent(t[0]), 0);
    struct tbuf *b = transport_buf(t[0]);
    assert_non_null(b);
    transport_release(t[0], b);
    transport_close(t[0]);
}

static void test_a_message_too_long_for_the_receiver_breaks_the_plane(void **state)
{
    (void)state;
    static const int zero = 0;
    struct transport *t[2];
    struct transport_event ev;
    struct why why;
    assert_int_equal(transport_loop_open(2, t, NULL), ERR_OK);
    assert_int_equal(transport_start(t[0], NULL, 0, BYTES, 1, NULL), ERR_OK);
    assert_int_equal(transport_start(t[1], &zero, 1, 16, 1, NULL), ERR_OK);
    struct tbuf *b = transport_buf(t[0]);
    b->len = 17;
    assert_int_equal(transport_send(t[0], 1, b, NULL), ERR_OK);
    assert_int_equal(transport_poll(t[1], &ev, &why), ERR_PEER);
    transport_close(t[0]);
    transport_close(t[1]);
}

/* A ring of threads: each passes on what it gets, one more each time. */
enum { RANKS = 3, TURNS = 2000 };

static void *pass_on(void *arg)
{
    struct transport *t = arg;
    int rank = transport_rank(t), from = (rank + RANKS - 1) % RANKS, to = (rank + 1) % RANKS;
    struct backoff idle = {0};
    if (transport_start(t, &from, 1, BYTES, 2, NULL) != ERR_OK)
        return (void *)1;
    if (rank == 0)
        send_number(t, to, 0);
    for (int turn = 0; turn < TURNS;) {
        struct transport_event ev;
        err e = transport_poll(t, &ev, NULL);
        backoff_wait(&idle, e == ERR_OK, 1000);
        if (e != ERR_OK)
            continue;
        uint32_t n = number_of(ev.buf);
        transport_release(t, ev.buf);
        if (n != (uint32_t)(turn * RANKS + (rank + RANKS - 1) % RANKS))
            return (void *)2;
        if (++turn < TURNS || rank != 0)
            send_number(t, to, n + 1);
    }
    while (transport_unsent(t) > 0)
        sleep_us(50);
    return NULL;
}

static void test_a_ring_of_threads(void **state)
{
    (void)state;
    struct transport *t[RANKS];
    pthread_t threads[RANKS];
    assert_int_equal(transport_loop_open(RANKS, t, NULL), ERR_OK);
    for (int i = 0; i < RANKS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pass_on, t[i]), 0);
    for (int i = 0; i < RANKS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    for (int i = 0; i < RANKS; i++)
        transport_close(t[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_arrive_in_order),
        cmocka_unit_test(test_a_receiver_that_keeps_four_hears_no_fifth),
        cmocka_unit_test(test_messages_to_a_closed_end_vanish),
        cmocka_unit_test(test_a_message_too_long_for_the_receiver_breaks_the_plane),
        cmocka_unit_test(test_a_ring_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
