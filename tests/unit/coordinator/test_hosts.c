/* Suspicion of hosts: each test is one story, told as events and what they change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "coordinator/supervise/hosts.h"

#define RETRY 1000
#define STEPS(story) story, sizeof(story) / sizeof(story)[0]

struct line {
    uint64_t at_ms;
    int host;
    enum host_event ev;
    unsigned change;
    enum host_state state; /* of that host, after it */
};

static void tell(struct hosts *h, const struct line *story, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned change = hosts_step(h, story[i].host, story[i].ev, story[i].at_ms);
        enum host_state s = h->v[story[i].host].state;
        if (change != story[i].change || s != story[i].state)
            fail_msg("line %zu: change %u (wanted %u), state %s", i, change, story[i].change, host_state_name(s));
    }
}

/* The choice as text: "stages: host host". */
static void check_choice(const struct hosts *h, int workers, uint64_t at_ms, const char *want)
{
    int chosen[16], n = -1;
    char text[128];
    int at = sprintf(text, "%d:", hosts_choose(h, workers, at_ms, chosen, &n));
    for (int i = 0; i < n; i++)
        at += sprintf(text + at, " %d", chosen[i]);
    assert_string_equal(text, want);
}

static void one_machine_has_no_hosts(void **state)
{
    (void)state;
    struct hosts h;
    assert_true(hosts_init(&h, 0, RETRY));
    check_choice(&h, 3, 0, "3:");
    assert_int_equal(hosts_next_probe(&h, 0), -1);
    hosts_fini(&h);
}

static void the_first_hosts_are_used_and_the_rest_are_spares(void **state)
{
    (void)state;
    struct hosts h;
    assert_true(hosts_init(&h, 4, RETRY));
    check_choice(&h, 3, 0, "3: 0 1 2");
    check_choice(&h, 9, 0, "9: 0 1 2 3");
    hosts_fini(&h);
}

static void silence_is_probed_and_a_spare_does_not_wait(void **state)
{
    (void)state;
    static const struct line silent[] = {{100, 1, HOST_SILENT, HOST_DOUBTED, HOST_SUSPECT}};
    static const struct line failed[] = {{9000, 1, HOST_FAILED, HOST_LEFT, HOST_OUT}};
    static const struct line again[] = {{10000, 1, HOST_FAILED, 0, HOST_OUT}};
    static const struct line back[] = {{12000, 1, HOST_ANSWERED, HOST_BACK, HOST_OK}};
    struct hosts h;
    assert_true(hosts_init(&h, 4, RETRY));
    tell(&h, STEPS(silent));
    check_choice(&h, 3, 100, "3: 0 2 3");
    assert_int_equal(hosts_next_probe(&h, 100), 1);
    assert_int_equal(hosts_next_probe(&h, 100), -1); /* one at a time */
    tell(&h, STEPS(failed));
    assert_int_equal(hosts_next_probe(&h, 9000 + RETRY - 1), -1);
    assert_int_equal(hosts_next_probe(&h, 9000 + RETRY), 1);
    tell(&h, STEPS(again));
    assert_int_equal(hosts_next_probe(&h, 10000 + 2 * RETRY - 1), -1); /* twice the time */
    assert_int_equal(hosts_next_probe(&h, 10000 + 2 * RETRY), 1);
    tell(&h, STEPS(back));
    check_choice(&h, 3, 12000, "3: 0 1 2");
    hosts_fini(&h);
}

static void without_a_spare_the_launch_waits_for_the_probe(void **state)
{
    (void)state;
    static const struct line silent[] = {{100, 0, HOST_SILENT, HOST_DOUBTED, HOST_SUSPECT}};
    static const struct line answered[] = {{300, 0, HOST_ANSWERED, HOST_BACK, HOST_OK}};
    struct hosts h;
    assert_true(hosts_init(&h, 3, RETRY));
    tell(&h, STEPS(silent));
    check_choice(&h, 3, 200, "0: 1 2");
    check_choice(&h, 3, 100 + HOST_GRACE_MS, "2: 1 2"); /* no longer than that: fewer stages */
    assert_int_equal(hosts_next_probe(&h, 200), 0);
    tell(&h, STEPS(answered));
    check_choice(&h, 3, 300, "3: 0 1 2");
    hosts_fini(&h);
}

static void no_host_gets_more_stages_than_planned(void **state)
{
    (void)state;
    static const struct line absent[] = {{0, 1, HOST_ABSENT, HOST_LEFT, HOST_OUT}};
    struct hosts h;
    assert_true(hosts_init(&h, 3, RETRY));
    tell(&h, STEPS(absent));
    check_choice(&h, 3, 0, "2: 0 2");
    check_choice(&h, 7, 0, "6: 0 2"); /* three a host were planned at most */
    check_choice(&h, 2, 0, "2: 0 2");
    hosts_fini(&h);
}

static void a_host_that_stays_away_is_out_at_once(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, 2, HOST_ABSENT, HOST_LEFT, HOST_OUT},
        {5, 2, HOST_SILENT, 0, HOST_OUT}, /* what a dead epoch still says */
        {9, 2, HOST_ANSWERED, HOST_BACK, HOST_OK},
        {10, 2, HOST_SILENT, HOST_LEFT, HOST_OUT}, /* one strike was left to it */
    };
    struct hosts h;
    assert_true(hosts_init(&h, 3, RETRY));
    tell(&h, STEPS(story));
    assert_int_equal(hosts_count(&h, HOST_OUT), 1);
    hosts_fini(&h);
}

static void a_crash_is_forgiven_twice(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, 0, HOST_BROKE, 0, HOST_OK},   {1, 0, HOST_BROKE, 0, HOST_OK},
        {2, 0, HOST_SERVED, 0, HOST_OK}, /* a long epoch: all forgotten */
        {3, 0, HOST_BROKE, 0, HOST_OK},   {4, 0, HOST_BROKE, 0, HOST_OK},
        {5, 0, HOST_BROKE, HOST_LEFT, HOST_OUT},
    };
    struct hosts h;
    assert_true(hosts_init(&h, 2, RETRY));
    tell(&h, STEPS(story));
    hosts_fini(&h);
}

static void the_last_host_is_not_given_up_for_crashes(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, 1, HOST_UNFIT, HOST_LEFT, HOST_OUT}, {1, 0, HOST_BROKE, 0, HOST_OK}, {2, 0, HOST_BROKE, 0, HOST_OK},
        {3, 0, HOST_BROKE, 0, HOST_OK},          {4, 0, HOST_UNFIT, 0, HOST_OK},
    };
    struct hosts h;
    assert_true(hosts_init(&h, 2, RETRY));
    tell(&h, STEPS(story));
    check_choice(&h, 2, 5, "1: 0");
    hosts_fini(&h);
}

static void nobody_came_so_everybody_is_asked(void **state)
{
    (void)state;
    static const struct line lost[] = {
        {0, 0, HOST_UNSURE, HOST_DOUBTED, HOST_SUSPECT}, {0, 1, HOST_UNSURE, HOST_DOUBTED, HOST_SUSPECT},
        {0, 2, HOST_UNSURE, HOST_DOUBTED, HOST_SUSPECT},
    };
    static const struct line found[] = {
        {50, 1, HOST_ANSWERED, HOST_BACK, HOST_OK}, {60, 0, HOST_FAILED, HOST_LEFT, HOST_OUT},
        {70, 2, HOST_ANSWERED, HOST_BACK, HOST_OK},
    };
    struct hosts h;
    assert_true(hosts_init(&h, 3, RETRY));
    tell(&h, STEPS(lost));
    check_choice(&h, 3, 10, "0:");
    check_choice(&h, 3, 10 * HOST_GRACE_MS, "0:"); /* nobody: wait on */
    for (int i = 0; i < 3; i++)
        assert_int_equal(hosts_next_probe(&h, 10), i);
    tell(&h, STEPS(found));
    check_choice(&h, 3, 80, "2: 1 2");
    hosts_fini(&h);
}

static void the_back_off_has_an_end(void **state)
{
    (void)state;
    struct hosts h;
    uint64_t now = 0;
    assert_true(hosts_init(&h, 2, RETRY));
    hosts_step(&h, 0, HOST_ABSENT, now);
    for (int i = 0; i < 40; i++) {
        now = h.v[0].probe_at_ms;
        assert_int_equal(hosts_next_probe(&h, now), 0);
        hosts_step(&h, 0, HOST_FAILED, now);
        assert_in_range(h.v[0].probe_at_ms - now, 2 * RETRY, 16 * RETRY);
    }
    hosts_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_machine_has_no_hosts),
        cmocka_unit_test(the_first_hosts_are_used_and_the_rest_are_spares),
        cmocka_unit_test(silence_is_probed_and_a_spare_does_not_wait),
        cmocka_unit_test(without_a_spare_the_launch_waits_for_the_probe),
        cmocka_unit_test(no_host_gets_more_stages_than_planned),
        cmocka_unit_test(a_host_that_stays_away_is_out_at_once),
        cmocka_unit_test(a_crash_is_forgiven_twice),
        cmocka_unit_test(the_last_host_is_not_given_up_for_crashes),
        cmocka_unit_test(nobody_came_so_everybody_is_asked),
        cmocka_unit_test(the_back_off_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
