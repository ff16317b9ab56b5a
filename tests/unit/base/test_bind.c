/* test_bind.c - binding threads, and where blocks lie. */
#include <linux/mempolicy.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/bind.h"
#include "base/clock.h"
#include "base/pool.h"
#include "base/spread.h"

enum { MS = 1000000, MANY = 1 << 20 };

/* The CPUs this process may use; returns how many. */
static int usable(int *cpus, int most)
{
    cpu_set_t set;
    int n = 0;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    for (int i = 0; i < CPU_SETSIZE && n < most; i++)
        if (CPU_ISSET(i, &set))
            cpus[n++] = i;
    return n;
}

static int mask_size(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
}

/* The thread's statistics, as the test wishes. */
static void say_waited(struct bind *b, unsigned ms)
{
    char text[64];
    int n = snprintf(text, sizeof text, "5 %u 7\n", ms * MS);
    assert_int_equal(pwrite(b->fd, text, (size_t)n, 0), n);
}

static void test_narrow_and_wide(void **state)
{
    (void)state;
    int cpus[2], n = usable(cpus, 2);
    cpu_set_t before;
    struct bind b;
    char path[] = "/tmp/cordee-bind-XXXXXX";
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    bind_begin(&b, cpus, n, n - 1);
    assert_true(b.narrow);
    assert_int_equal(mask_size(), 1);
    assert_int_equal(sched_getcpu(), cpus[n - 1]);

    close(b.fd);
    b.fd = mkstemp(path);
    assert_true(b.fd >= 0);
    unlink(path);

    /* It looks when 20 ms have passed. */
    uint64_t t = b.looked_ns;
    say_waited(&b, 100);
    b.waited_ns = 99 * MS;
    bind_turn(&b, t + 19 * MS);
    assert_true(b.looked_ns == t);
    bind_turn(&b, t + 21 * MS);
    assert_true(b.looked_ns == t + 21 * MS && b.narrow && mask_size() == 1);

    /* A neighbour came: let go of, then taken up again a second later. */
    say_waited(&b, 110);
    bind_turn(&b, t + 42 * MS);
    assert_false(b.narrow);
    assert_int_equal(mask_size(), n);
    bind_turn(&b, t + 500 * MS);
    assert_false(b.narrow);
    bind_turn(&b, t + 1043ull * MS);
    assert_true(b.narrow);
    assert_int_equal(mask_size(), 1);
    bind_end(&b);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void test_what_counts_as_disturbed(void **state)
{
    (void)state;
    assert_false(bind_disturbed(0, 20 * MS));
    assert_false(bind_disturbed(2 * MS, 20 * MS)); /* the rank's own message thread */
    assert_true(bind_disturbed(8 * MS, 20 * MS));  /* a neighbour takes half of the core */
}

/* Refused cores (a mask that shrank, a CPU that never was) change nothing else. */
static void test_cores_that_are_not_there(void **state)
{
    (void)state;
    int cpus[] = {MANY, -1, 8191};
    int before = mask_size();
    struct bind b;
    for (int i = 0; i < 3; i++) {
        bind_begin(&b, cpus, 3, i);
        bind_turn(&b, b.looked_ns + 50 * MS);
        bind_end(&b);
        assert_int_equal(mask_size(), before);
    }
}

struct seen {
    _Atomic int on[4]; /* CPU that each worker ran on, plus one */
};

static void note_cpu(void *ctx, int first, int last, int worker)
{
    struct seen *s = ctx;
    (void)first, (void)last;
    s->on[worker] = sched_getcpu() + 1;
    sleep_us(200); /* somebody else's turn */
}

static void test_pool_on_cores(void **state)
{
    (void)state;
    int cpus[2], n = usable(cpus, 2);
    cpu_set_t before;
    struct seen s = {{0}};
    struct pool *p;
    if (n < 2)
        skip();
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(pool_open_on(2, cpus, &p, NULL), ERR_OK);
    pool_bind_caller(p);
    assert_int_equal(mask_size(), 1);
    assert_int_equal(sched_getcpu(), cpus[0]);
    for (int i = 0; i < 100; i++)
        pool_run(p, 4, 1, note_cpu, &s);
    assert_true(s.on[1] > 0); /* where, is the kernel's once the worker let go */
    pool_bind_caller(p);      /* again is fine */
    pool_close(p);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static int policy_of(void *p)
{
    int mode = -1;
    return syscall(SYS_get_mempolicy, &mode, NULL, 0, p, MPOL_F_ADDR) == 0 ? mode : -1;
}

static void test_spread(void **state)
{
    (void)state;
    uint64_t nodes[SPREAD_WORDS] = {1};
    size_t bytes = 8 << 20;
    spread_set(nodes);
    assert_false(spread_active()); /* one domain is no spreading */
    char *p = mem_alloc_raw(bytes, 1);
    assert_non_null(p);
    assert_int_not_equal(policy_of(p), MPOL_INTERLEAVE);
    free(p);

    nodes[0] = 1 | 2; /* the kernel drops nodes that it does not have */
    spread_set(nodes);
    assert_true(spread_active());
    p = mem_alloc(bytes, 1);
    assert_non_null(p);
    int mode = policy_of(p);
    assert_true(mode == MPOL_INTERLEAVE || mode == -1 /* a kernel without domains */);
    assert_int_equal(p[bytes - 1], 0);
    free(p);
    spread_set(NULL);
    assert_false(spread_active());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_narrow_and_wide),
        cmocka_unit_test(test_what_counts_as_disturbed),
        cmocka_unit_test(test_cores_that_are_not_there),
        cmocka_unit_test(test_pool_on_cores),
        cmocka_unit_test(test_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
