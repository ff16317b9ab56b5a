/* test_seat.c - which cores a rank gets, on machines that hwloc makes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/seat.h"

#define TWO_SOCKETS "pack:2 [numa(indexes=0,1)] core:4 pu:2"

static char claims_file[64];

static void machine(const char *description, const char *mask, struct cores *c)
{
    struct why why = {""};
    if (cores_open_synthetic(description, mask, c, &why) != ERR_OK)
        fail_msg("%s: %s", description, why.text);
}

static void take(const struct cores *c, enum pin pin, int threads, int index, int n_local, struct seat *s)
{
    struct why why = {""};
    struct seat_wish w = {.pin = pin, .threads = threads, .index = index, .n_local = n_local};
    if (seat_take(c, &w, claims_file, s, &why) != ERR_OK)
        fail_msg("%s", why.text);
}

static void expect(const struct seat *s, int threads, const char *want)
{
    char text[256];
    seat_text(s, threads, text, sizeof text);
    assert_string_equal(text, want);
}

static void test_cores_are_read(void **state)
{
    (void)state;
    struct cores c;
    machine(TWO_SOCKETS, NULL, &c);
    assert_int_equal(c.n, 8); /* siblings count once */
    assert_int_equal(c.n_domains, 2);
    assert_int_equal(c.at[0].n_pus, 2);
    assert_int_equal(c.at[3].domain, c.domains[0]);
    assert_int_equal(c.at[4].domain, c.domains[1]);
    assert_true(c.all);
    cores_close(&c);

    machine(TWO_SOCKETS, "8-11,15", &c); /* two cores of the second socket, a half of a third */
    assert_int_equal(c.n, 3);
    assert_int_equal(c.n_domains, 1);
    assert_int_equal(c.at[2].n_pus, 1);
    assert_int_equal(c.at[2].id, 14);
    assert_false(c.all);
    cores_close(&c);

    struct why why;
    assert_int_equal(cores_open_synthetic("nonsense", NULL, &c, &why), ERR_IO);
    assert_int_equal(cores_open_synthetic("core:2 pu:1", "77", &c, &why), ERR_IO);
    assert_int_equal(cores_open(&c, &why), ERR_OK); /* the machine under the test */
    assert_true(c.n >= 1 && c.n_domains >= 1);
    cores_close(&c);
}

static void test_share_of_the_cores(void **state)
{
    (void)state;
    struct cores c;
    machine(TWO_SOCKETS, NULL, &c);
    assert_int_equal(seat_threads(&c, 1, 0), 8);
    assert_int_equal(seat_threads(&c, 2, 0), 4);
    assert_int_equal(seat_threads(&c, 3, 0), 2);
    assert_int_equal(seat_threads(&c, 20, 0), 1);
    assert_int_equal(seat_threads(&c, 1, 2.5), 2);
    assert_int_equal(seat_threads(&c, 1, 64), 8);
    cores_close(&c);
}

/* Ranks with one mask get cores of their own, each in a domain of its own. */
static void test_ranks_share_a_mask(void **state)
{
    (void)state;
    struct cores c;
    struct seat a, b, third;
    machine(TWO_SOCKETS, NULL, &c);
    take(&c, PIN_AUTO, 4, 0, 2, &a);
    expect(&a, 4, "4 threads bound to CPUs 0,2,4,6, memory domain 0");
    take(&c, PIN_AUTO, 4, 1, 2, &b);
    expect(&b, 4, "4 threads bound to CPUs 8,10,12,14, memory domain 1");

    /* Another cluster's rank finds nothing free, and floats over both domains. */
    take(&c, PIN_AUTO, 1, 0, 1, &third);
    assert_null(third.cpus);
    assert_int_equal(third.n_domains, 2);
    seat_close(&third);
    struct seat_wish on = {.pin = PIN_ON, .threads = 1, .n_local = 1};
    struct why why;
    assert_int_equal(seat_take(&c, &on, claims_file, &third, &why), ERR_REFUSED);

    seat_close(&a); /* given back with the process, or so */
    take(&c, PIN_AUTO, 2, 0, 1, &third);
    expect(&third, 2, "2 threads bound to CPUs 0,2, memory domain 0");
    seat_close(&third);
    seat_close(&b);
    cores_close(&c);
}

static void test_a_domain_with_room_is_found(void **state)
{
    (void)state;
    struct cores c;
    struct seat a, b, wide;
    machine(TWO_SOCKETS, NULL, &c);
    take(&c, PIN_AUTO, 2, 0, 1, &a);
    take(&c, PIN_AUTO, 3, 0, 1, &b); /* two are left in the first domain: not split */
    expect(&b, 3, "3 threads bound to CPUs 8,10,12, memory domain 1");
    take(&c, PIN_AUTO, 3, 0, 1, &wide); /* what is left: both domains */
    expect(&wide, 3, "3 threads bound to CPUs 4,6,14, memory interleaved over domains 0-1");
    seat_close(&a);
    seat_close(&b);
    seat_close(&wide);
    take(&c, PIN_AUTO, 8, 0, 1, &wide);
    assert_int_equal(wide.n_domains, 2);
    seat_close(&wide);
    cores_close(&c);
}

static void test_mask_of_the_launcher(void **state)
{
    (void)state;
    struct cores c;
    struct seat s;
    machine(TWO_SOCKETS, "4-7,12", &c);
    take(&c, PIN_AUTO, 3, 1, 2, &s); /* the mask is not the whole machine: nobody shares it */
    expect(&s, 3, "3 threads bound to CPUs 4,6,12, memory interleaved over domains 0-1");
    seat_close(&s);
    cores_close(&c);
}

static void test_when_threads_float(void **state)
{
    (void)state;
    struct cores c;
    struct seat s;
    struct why why;
    machine("numa:1 core:4 pu:2", NULL, &c);
    take(&c, PIN_OFF, 2, 0, 1, &s);
    expect(&s, 2, "2 threads not bound (pin: off), memory domain 0");
    take(&c, PIN_AUTO, 5, 0, 1, &s);
    expect(&s, 5, "5 threads not bound (1 ranks of 5 threads on 4 cores), memory domain 0");
    take(&c, PIN_AUTO, 2, 0, 3, &s); /* six threads on four cores */
    assert_null(s.cpus);

    struct seat_wish quota = {.pin = PIN_AUTO, .threads = 2, .n_local = 1, .quota_cores = 2};
    assert_int_equal(seat_take(&c, &quota, claims_file, &s, &why), ERR_OK);
    assert_null(s.cpus); /* stopped together at the end of the quota, wherever they are */

    /* Siblings are used when somebody insists on more threads than cores. */
    take(&c, PIN_ON, 6, 0, 1, &s);
    expect(&s, 6, "6 threads bound to CPUs 0-5, memory domain 0");
    seat_close(&s);
    struct seat_wish many = {.pin = PIN_ON, .threads = 9, .n_local = 1};
    assert_int_equal(seat_take(&c, &many, claims_file, &s, &why), ERR_REFUSED);
    cores_close(&c);
}

static void test_claims(void **state)
{
    (void)state;
    struct claims *a, *b;
    struct why why;
    assert_int_equal(claims_open(claims_file, &a, &why), ERR_OK);
    assert_int_equal(claims_open(claims_file, &b, &why), ERR_OK);
    assert_true(claims_take(a, 3));
    assert_true(claims_take(a, 3)); /* ours already */
    assert_false(claims_take(b, 3));
    assert_true(claims_take(b, 4));
    claims_drop(a, 3);
    assert_true(claims_take(b, 3));
    claims_close(b);
    assert_true(claims_take(a, 4));

    assert_int_equal(claims_open(claims_file, &b, &why), ERR_OK);
    assert_int_equal(claims_begin(a, &why), ERR_OK);
    assert_int_equal(claims_begin(b, &why), ERR_TIMEOUT);
    claims_end(a);
    assert_int_equal(claims_begin(b, &why), ERR_OK);
    claims_close(a);
    claims_close(b);

    assert_int_equal(claims_open("/nonexistent/claims", &a, &why), ERR_IO);
    assert_int_equal(claims_open("/dev/null", &a, &why), ERR_IO);
}

static void test_pin_names(void **state)
{
    (void)state;
    enum pin pin;
    struct why why;
    assert_int_equal(pin_parse("on", &pin, &why), ERR_OK);
    assert_int_equal(pin, PIN_ON);
    assert_int_equal(pin_parse("maybe", &pin, &why), ERR_INVAL);
}

static int file_open(void **state)
{
    (void)state;
    strcpy(claims_file, "/tmp/cordee-claims-XXXXXX");
    int fd = mkstemp(claims_file);
    return fd < 0 || close(fd) != 0;
}

static int file_close(void **state)
{
    (void)state;
    return unlink(claims_file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cores_are_read),
        cmocka_unit_test(test_share_of_the_cores),
        cmocka_unit_test(test_ranks_share_a_mask),
        cmocka_unit_test(test_a_domain_with_room_is_found),
        cmocka_unit_test(test_mask_of_the_launcher),
        cmocka_unit_test(test_when_threads_float),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_pin_names),
    };
    return cmocka_run_group_tests(tests, file_open, file_close);
}
