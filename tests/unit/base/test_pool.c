/* test_pool.c - every item exactly once, whatever the threads do.
 *
 * Run it under ThreadSanitizer too (preset tsan): the loops write plain memory,
 * so a missing ordering in the pool shows as a race here.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/pool.h"

enum { ITEMS_MAX = 5000, THREADS_MAX_TESTED = 9 };

struct tally {
    int hits[ITEMS_MAX]; /* plain on purpose */
    int chunk, threads;
    _Atomic int bad;
};

static void count_items(void *ctx, int first, int last, int worker)
{
    struct tally *t = ctx;
    if (last <= first || last - first > t->chunk || worker < 0 || worker >= t->threads)
        atomic_fetch_add(&t->bad, 1); /* cmocka may fail in the main thread only */
    for (int i = first; i < last; i++)
        t->hits[i]++;
}

static void check_loop(struct pool *p, struct tally *t, int n, int chunk)
{
    memset(t->hits, 0, sizeof t->hits[0] * (size_t)(n + 1));
    t->chunk = chunk;
    t->threads = pool_threads(p);
    pool_run(p, n, chunk, count_items, t);
    assert_int_equal(t->bad, 0);
    for (int i = 0; i < n; i++)
        assert_int_equal(t->hits[i], 1);
    assert_int_equal(t->hits[n], 0);
}

static void test_every_item_once(void **state)
{
    (void)state;
    static struct tally t;
    static const int sizes[] = {0, 1, 2, 3, 7, 64, 100, 1000, ITEMS_MAX - 1};
    static const int chunks[] = {1, 2, 3, 16, 999, 1 << 30};
    for (int threads = 1; threads <= THREADS_MAX_TESTED; threads += threads < 4 ? 1 : 5) {
        struct pool *p;
        assert_int_equal(pool_open(threads, &p, NULL), ERR_OK);
        assert_int_equal(pool_threads(p), threads);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (size_t j = 0; j < sizeof chunks / sizeof chunks[0]; j++)
                check_loop(p, &t, sizes[i], chunks[j]);
        pool_close(p);
    }
}

static void test_many_tiny_loops(void **state)
{
    (void)state;
    static struct tally t;
    struct pool *p;
    assert_int_equal(pool_open(4, &p, NULL), ERR_OK);
    for (int i = 0; i < 20000; i++)
        check_loop(p, &t, 2 + i % 7, 1 + i % 2);
    pool_close(p);
}

/* Shrinking chunks: sizes between the limits, except for what is left at the end. */
struct shrinking {
    struct tally t;
    int least, n;
    _Atomic int n_chunks;
};

static void count_shrinking(void *ctx, int first, int last, int worker)
{
    struct shrinking *s = ctx;
    if (last - first < s->least && last != s->n)
        atomic_fetch_add(&s->t.bad, 1);
    atomic_fetch_add(&s->n_chunks, 1);
    count_items(&s->t, first, last, worker);
}

static void test_shrinking_chunks(void **state)
{
    (void)state;
    static struct shrinking s;
    static const int limits[][2] = {{1, 1}, {1, 64}, {3, 1 << 20}, {16, 17}, {1 << 20, 1 << 20}};
    static const int sizes[] = {0, 1, 2, 5, 64, 1000, ITEMS_MAX - 1};
    for (int threads = 1; threads <= 5; threads += 2) {
        struct pool *p;
        assert_int_equal(pool_open(threads, &p, NULL), ERR_OK);
        for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
            for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
                memset(&s, 0, sizeof s);
                s.least = limits[i][0];
                s.n = sizes[j];
                s.t.chunk = limits[i][1];
                s.t.threads = threads;
                pool_run_shrinking(p, s.n, s.least, limits[i][1], count_shrinking, &s);
                assert_int_equal(s.t.bad, 0);
                for (int k = 0; k < s.n; k++)
                    assert_int_equal(s.t.hits[k], 1);
                if (threads > 1 && s.n >= 4 * threads * s.least) /* nobody gets half of it at once */
                    assert_true(s.n_chunks >= 2 * threads);
            }
        pool_close(p);
    }
}

/* Pauses around the spinning time: workers are met awake, parking and parked. */
static void test_loops_after_parking(void **state)
{
    (void)state;
    static struct tally t;
    struct pool *p;
    assert_int_equal(pool_open(3, &p, NULL), ERR_OK);
    for (unsigned i = 0; i < 300; i++) {
        check_loop(p, &t, 50, 1);
        uint64_t until = now_ns() + (i % 60) * 1000;
        while (now_ns() < until)
            continue;
        if (i % 50 == 0)
            sleep_us(2000);
    }
    pool_close(p);
}

/* One item that waits until another thread has run a different one: passes only
 * if parked workers are really woken. */
struct meeting {
    _Atomic int arrived;
};

static void meet(void *ctx, int first, int last, int worker)
{
    struct meeting *m = ctx;
    (void)first, (void)last, (void)worker;
    atomic_fetch_add(&m->arrived, 1);
    while (atomic_load(&m->arrived) < 4)
        sleep_us(10);
}

static void test_all_threads_take_part(void **state)
{
    (void)state;
    struct pool *p;
    assert_int_equal(pool_open(4, &p, NULL), ERR_OK);
    for (int i = 0; i < 20; i++) {
        struct meeting m = {0};
        sleep_us(500); /* let them park */
        pool_run(p, 4, 1, meet, &m);
        assert_int_equal(m.arrived, 4);
    }
    pool_close(p);
}

/* A worker stuck in its chunk does not keep the others from the rest. */
struct stuck {
    _Atomic int others;
    _Atomic int holder; /* worker that took item 0, plus one */
};

static void one_is_slow(void *ctx, int first, int last, int worker)
{
    struct stuck *s = ctx;
    (void)last;
    if (first == 0) {
        atomic_store(&s->holder, worker + 1);
        while (atomic_load(&s->others) < 99)
            sleep_us(10);
    } else {
        atomic_fetch_add(&s->others, 1);
    }
}

static void test_a_stuck_chunk_delays_only_itself(void **state)
{
    (void)state;
    struct pool *p;
    assert_int_equal(pool_open(2, &p, NULL), ERR_OK);
    for (int i = 0; i < 50; i++) {
        struct stuck s = {0};
        pool_run(p, 100, 1, one_is_slow, &s);
        assert_int_equal(s.others, 99);
    }
    pool_close(p);
}

/* A loop inside a loop is our own bug, and stops the program at once. */
static void nest(void *ctx, int first, int last, int worker)
{
    static struct tally t;
    (void)first, (void)last, (void)worker;
    pool_run(ctx, 10, 1, count_items, &t);
}

static void test_nesting_is_refused(void **state)
{
    (void)state;
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct pool *p;
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 2); /* what assert() has to say */
        signal(SIGABRT, SIG_DFL);
        if (pool_open(2, &p, NULL) == ERR_OK)
            pool_run(p, 4, 1, nest, p);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* The pool may change hands between loops. */
static void *run_from_thread(void *arg)
{
    static struct tally t;
    check_loop(arg, &t, 500, 3);
    return NULL;
}

static void test_caller_may_change(void **state)
{
    (void)state;
    struct pool *p;
    pthread_t thread;
    assert_int_equal(pool_open(3, &p, NULL), ERR_OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pthread_create(&thread, NULL, run_from_thread, p), 0);
        pthread_join(thread, NULL);
    }
    pool_close(p);
}

static void test_open_close(void **state)
{
    (void)state;
    struct pool *p = NULL;
    struct why why;
    assert_int_equal(pool_open(0, &p, &why), ERR_INVAL);
    assert_int_equal(pool_open(1 << 20, &p, &why), ERR_INVAL);
    assert_null(p);
    pool_close(NULL);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(pool_open(1 + i % 5, &p, &why), ERR_OK);
        pool_close(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_once),
        cmocka_unit_test(test_many_tiny_loops),
        cmocka_unit_test(test_shrinking_chunks),
        cmocka_unit_test(test_nesting_is_refused),
        cmocka_unit_test(test_loops_after_parking),
        cmocka_unit_test(test_all_threads_take_part),
        cmocka_unit_test(test_a_stuck_chunk_delays_only_itself),
        cmocka_unit_test(test_caller_may_change),
        cmocka_unit_test(test_open_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
