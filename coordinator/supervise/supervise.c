/* supervise.c - see supervise.h. */
#include "coordinator/supervise/supervise.h"

#include <assert.h>

#include "base/log.h"

#define TO(id) (1u << SUPERVISE_##id)

static const unsigned may_go[SUPERVISE_STATE_COUNT] = {
    [SUPERVISE_WAITING] = TO(STARTING) | TO(STOPPED),
    [SUPERVISE_STARTING] = TO(READY) | TO(KILLING) | TO(STOPPING) | TO(WAITING),
    [SUPERVISE_READY] = TO(KILLING) | TO(STOPPING) | TO(WAITING),
    [SUPERVISE_KILLING] = TO(WAITING) | TO(FAILED) | TO(STOPPED),
    [SUPERVISE_STOPPING] = TO(STOPPED) | TO(KILLING),
    [SUPERVISE_FAILED] = TO(STOPPED),
    [SUPERVISE_STOPPED] = 0,
};

const char *supervise_state_name(enum supervise_state s)
{
    static const char *const names[] = {
#define NAME(id, text) #id,
        SUPERVISE_STATES(NAME)
#undef NAME
    };
    return names[s];
}

/* The only assignment to s->state. */
static void go(struct supervise *s, enum supervise_state to, uint64_t now_ms)
{
    assert(may_go[s->state] & (1u << to));
    log_debug("epoch %u: %s -> %s", s->epoch, supervise_state_name(s->state), supervise_state_name(to));
    s->state = to;
    s->since_ms = now_ms;
}

void supervise_init(struct supervise *s, const struct supervise_options *o, uint64_t now_ms)
{
    *s = (struct supervise){.o = *o, .since_ms = now_ms, .launch_at_ms = now_ms};
}

/* 0, 100 ms, 200 ms ... 10 s: most failures pass at once, a broken site must not be hammered. */
static uint64_t backoff_ms(int failed_starts)
{
    if (failed_starts == 0)
        return 0;
    uint64_t ms = 100u << (failed_starts > 7 ? 7 : failed_starts - 1);
    return ms > 10000 ? 10000 : ms;
}

/* 1 s, 2 s ... 64 s: memory and hosts come back slowly. */
static uint64_t hold_ms(int holds)
{
    return 1000u << (holds > 7 ? 6 : holds - 1);
}

static unsigned condemn(struct supervise *s, uint64_t now_ms)
{
    unsigned down = s->state == SUPERVISE_READY ? SUP_LINK_DOWN : 0;
    s->failed_starts = s->state == SUPERVISE_READY ? 0 : s->failed_starts + 1;
    go(s, SUPERVISE_KILLING, now_ms);
    return SUP_KILL | down;
}

static unsigned after_kill(struct supervise *s, uint64_t now_ms)
{
    if (s->stop_wanted) {
        go(s, SUPERVISE_STOPPED, now_ms);
        return SUP_END;
    }
    if (s->failed_starts > s->o.restart_limit) {
        go(s, SUPERVISE_FAILED, now_ms);
        return SUP_GIVE_UP;
    }
    go(s, SUPERVISE_WAITING, now_ms);
    s->launch_at_ms = now_ms + (s->held ? hold_ms(s->holds) : backoff_ms(s->failed_starts));
    return 0;
}

static unsigned on_tick(struct supervise *s, uint64_t now_ms)
{
    uint64_t age = now_ms - s->since_ms;
    switch (s->state) {
    case SUPERVISE_WAITING:
        if (now_ms < s->launch_at_ms)
            return 0;
        s->restarts += s->epoch > 0;
        s->epoch++;
        s->held = false;
        go(s, SUPERVISE_STARTING, now_ms);
        return SUP_LAUNCH;
    case SUPERVISE_STARTING:
        return age > s->o.start_timeout_ms ? condemn(s, now_ms) : 0;
    case SUPERVISE_STOPPING:
        if (age <= s->o.stop_timeout_ms)
            return 0;
        go(s, SUPERVISE_KILLING, now_ms);
        return SUP_KILL;
    default:
        return 0;
    }
}

static unsigned on_stop(struct supervise *s, uint64_t now_ms)
{
    s->stop_wanted = true;
    switch (s->state) {
    case SUPERVISE_READY:
        go(s, SUPERVISE_STOPPING, now_ms);
        return SUP_ASK_STOP;
    case SUPERVISE_STARTING:
        go(s, SUPERVISE_KILLING, now_ms);
        return SUP_KILL;
    case SUPERVISE_WAITING:
    case SUPERVISE_FAILED:
        go(s, SUPERVISE_STOPPED, now_ms);
        return SUP_END;
    default:
        return 0;
    }
}

unsigned supervise_step(struct supervise *s, enum supervise_event ev, uint64_t now_ms)
{
    bool running = s->state == SUPERVISE_STARTING || s->state == SUPERVISE_READY;
    unsigned down;
    switch (ev) {
    case SUP_TICK:
        return on_tick(s, now_ms);
    case SUP_STOP:
        return on_stop(s, now_ms);
    case SUP_READY:
        if (s->state != SUPERVISE_STARTING)
            return 0;
        s->failed_starts = s->holds = 0;
        go(s, SUPERVISE_READY, now_ms);
        return SUP_LINK_UP;
    case SUP_ALARM:
        return running ? condemn(s, now_ms) : 0;
    case SUP_REFUSED:
        s->failed_starts = s->o.restart_limit + 1;
        return running ? (go(s, SUPERVISE_KILLING, now_ms), SUP_KILL | SUP_LINK_DOWN) : 0;
    case SUP_HOLD:
        if (!running)
            return 0;
        s->held = true;
        s->holds++;
        s->failed_starts = 0; /* it starts well, there is just too little to start on */
        down = s->state == SUPERVISE_READY ? SUP_LINK_DOWN : 0;
        go(s, SUPERVISE_KILLING, now_ms);
        return SUP_KILL | down;
    case SUP_HOSTS:
        if (s->state == SUPERVISE_WAITING && s->held)
            s->launch_at_ms = now_ms;
        return 0;
    case SUP_REAPED:
        if (s->state == SUPERVISE_STOPPING) {
            go(s, SUPERVISE_STOPPED, now_ms);
            return SUP_END;
        }
        if (running) { /* it ended by itself: an alarm with nothing left to kill */
            unsigned actions = condemn(s, now_ms) & ~(unsigned)SUP_KILL;
            return actions | after_kill(s, now_ms);
        }
        return s->state == SUPERVISE_KILLING ? after_kill(s, now_ms) : 0;
    case SUP_EVENT_COUNT:
        break;
    }
    return 0;
}
