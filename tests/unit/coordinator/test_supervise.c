/* The epoch state machine: each test is one story, told as events and expected actions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/supervise/supervise.h"

struct line {
    uint64_t at_ms;
    enum supervise_event ev;
    unsigned actions;
    enum supervise_state state;
};

static void tell(const struct line *story, int n, int restart_limit)
{
    struct supervise_options o = {.start_timeout_ms = 1000, .stop_timeout_ms = 500, .restart_limit = restart_limit};
    struct supervise s;
    supervise_init(&s, &o, 0);
    for (int i = 0; i < n; i++) {
        unsigned actions = supervise_step(&s, story[i].ev, story[i].at_ms);
        if (actions != story[i].actions || s.state != story[i].state)
            fail_msg("line %d: actions %u (wanted %u), state %s", i, actions, story[i].actions,
                     supervise_state_name(s.state));
    }
}
#define TELL(story, limit) tell(story, sizeof(story) / sizeof(story)[0], limit)

static void a_good_life(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING},   {5, SUP_READY, SUP_LINK_UP, SUPERVISE_READY},
        {9, SUP_TICK, 0, SUPERVISE_READY},               {10, SUP_STOP, SUP_ASK_STOP, SUPERVISE_STOPPING},
        {11, SUP_REAPED, SUP_END, SUPERVISE_STOPPED},
    };
    TELL(story, 3);
}

static void a_rank_dies_and_the_next_epoch_takes_over(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING},
        {5, SUP_READY, SUP_LINK_UP, SUPERVISE_READY},
        {6, SUP_ALARM, SUP_KILL | SUP_LINK_DOWN, SUPERVISE_KILLING},
        {7, SUP_ALARM, 0, SUPERVISE_KILLING},
        {8, SUP_REAPED, 0, SUPERVISE_WAITING},
        {8, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING}, /* at once: the start before was good */
        {9, SUP_READY, SUP_LINK_UP, SUPERVISE_READY},
    };
    TELL(story, 3);
}

static void mpiexec_ends_by_itself(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING},
        {5, SUP_READY, SUP_LINK_UP, SUPERVISE_READY},
        {6, SUP_REAPED, SUP_LINK_DOWN, SUPERVISE_WAITING},
        {6, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING},
    };
    TELL(story, 3);
}

static void failed_starts_back_off_and_end(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING}, {1, SUP_REAPED, 0, SUPERVISE_WAITING},
        {50, SUP_TICK, 0, SUPERVISE_WAITING},          {101, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING},
        {102, SUP_REAPED, SUP_GIVE_UP, SUPERVISE_FAILED}, {200, SUP_TICK, 0, SUPERVISE_FAILED},
        {300, SUP_STOP, SUP_END, SUPERVISE_STOPPED},
    };
    /* The reaped FAILED goes through KILLING inside one step. */
    TELL(story, 1);
}

static void a_silent_start_times_out(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING},
        {1000, SUP_TICK, 0, SUPERVISE_STARTING},
        {1001, SUP_TICK, SUP_KILL, SUPERVISE_KILLING},
        {1002, SUP_REAPED, 0, SUPERVISE_WAITING},
    };
    TELL(story, 3);
}

static void a_refused_plan_is_final(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING},
        {1, SUP_REFUSED, SUP_KILL | SUP_LINK_DOWN, SUPERVISE_KILLING},
        {2, SUP_REAPED, SUP_GIVE_UP, SUPERVISE_FAILED},
    };
    TELL(story, 3);
}

static void a_stop_that_hangs_is_killed(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING}, {1, SUP_READY, SUP_LINK_UP, SUPERVISE_READY},
        {2, SUP_STOP, SUP_ASK_STOP, SUPERVISE_STOPPING}, {502, SUP_TICK, 0, SUPERVISE_STOPPING},
        {503, SUP_TICK, SUP_KILL, SUPERVISE_KILLING},  {504, SUP_REAPED, SUP_END, SUPERVISE_STOPPED},
    };
    TELL(story, 3);
}

static void what_does_not_fit_is_held(void **state)
{
    (void)state;
    static const struct line story[] = {
        {0, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING},
        {5, SUP_HOLD, SUP_KILL, SUPERVISE_KILLING},
        {6, SUP_REAPED, 0, SUPERVISE_WAITING},
        {900, SUP_TICK, 0, SUPERVISE_WAITING},
        {1006, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING}, /* 1 s */
        {1010, SUP_HOLD, SUP_KILL, SUPERVISE_KILLING},
        {1010, SUP_REAPED, 0, SUPERVISE_WAITING},
        {2500, SUP_TICK, 0, SUPERVISE_WAITING},           /* 2 s by now */
        {2600, SUP_HOSTS, 0, SUPERVISE_WAITING},          /* ... but a host came back */
        {2600, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING},
        {2700, SUP_READY, SUP_LINK_UP, SUPERVISE_READY},
        {2800, SUP_HOSTS, 0, SUPERVISE_READY},
        {2900, SUP_HOLD, SUP_KILL | SUP_LINK_DOWN, SUPERVISE_KILLING},
        {2900, SUP_REAPED, 0, SUPERVISE_WAITING},
        {3900, SUP_TICK, SUP_LAUNCH, SUPERVISE_STARTING}, /* 1 s again */
    };
    TELL(story, 0); /* holding is no failed start */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_life),
        cmocka_unit_test(a_rank_dies_and_the_next_epoch_takes_over),
        cmocka_unit_test(mpiexec_ends_by_itself),
        cmocka_unit_test(failed_starts_back_off_and_end),
        cmocka_unit_test(a_silent_start_times_out),
        cmocka_unit_test(a_refused_plan_is_final),
        cmocka_unit_test(a_stop_that_hangs_is_killed),
        cmocka_unit_test(what_does_not_fit_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
