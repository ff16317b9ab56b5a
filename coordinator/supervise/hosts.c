/* hosts.c - see hosts.h. */
#include "coordinator/supervise/hosts.h"

#include <assert.h>
#include <stdlib.h>

#define BACKOFF_DOUBLINGS 4

#define TO(id) (1u << HOST_##id)

static const unsigned may_go[HOST_STATE_COUNT] = {
    [HOST_OK] = TO(SUSPECT) | TO(OUT),
    [HOST_SUSPECT] = TO(OK) | TO(OUT),
    [HOST_OUT] = TO(OK) | TO(OUT), /* again: a probe failed, the next one is later */
};

const char *host_state_name(enum host_state s)
{
    static const char *const names[] = {
#define NAME(id, name, text) name,
        HOST_STATES(NAME)
#undef NAME
    };
    return names[s];
}

bool hosts_init(struct hosts *h, int n, uint64_t retry_ms)
{
    *h = (struct hosts){.v = calloc((size_t)n + 1, sizeof *h->v), .n = n, .retry_ms = retry_ms};
    return h->v;
}

void hosts_fini(struct hosts *h)
{
    free(h->v);
    *h = (struct hosts){0};
}

/* The only assignment to a host's state. */
static void go(struct host *x, enum host_state to, uint64_t now_ms)
{
    assert(may_go[x->state] & (1u << to));
    x->state = to;
    x->since_ms = now_ms;
}

static unsigned doubt(struct host *x, uint64_t now_ms)
{
    go(x, HOST_SUSPECT, now_ms);
    x->probe_at_ms = now_ms;
    return HOST_DOUBTED;
}

static unsigned put_out(const struct hosts *h, struct host *x, uint64_t now_ms)
{
    bool was_in = x->state != HOST_OUT;
    int doublings = x->outs < BACKOFF_DOUBLINGS ? x->outs : BACKOFF_DOUBLINGS;
    go(x, HOST_OUT, now_ms);
    x->outs++;
    x->probe_at_ms = now_ms + (h->retry_ms << doublings);
    return was_in ? HOST_LEFT : 0;
}

int hosts_count(const struct hosts *h, enum host_state s)
{
    int n = 0;
    for (int i = 0; i < h->n; i++)
        n += h->v[i].state == s;
    return n;
}

/* What it did itself: a program that dies everywhere must not use up all hosts. */
static bool may_do_without(const struct hosts *h, const struct host *x)
{
    return hosts_count(h, HOST_OK) > (x->state == HOST_OK);
}

static unsigned on_trouble(struct hosts *h, struct host *x, enum host_event ev, uint64_t now_ms)
{
    if (x->state == HOST_OUT)
        return 0; /* what an ended epoch still says of it */
    x->strikes++;
    switch (ev) {
    case HOST_ABSENT:
        return put_out(h, x, now_ms);
    case HOST_UNFIT:
        return may_do_without(h, x) ? put_out(h, x, now_ms) : 0;
    case HOST_BROKE:
        return x->strikes >= HOST_STRIKES_MOST && may_do_without(h, x) ? put_out(h, x, now_ms) : 0;
    default:
        if (x->strikes >= HOST_STRIKES_MOST)
            return put_out(h, x, now_ms);
        return x->state == HOST_OK ? doubt(x, now_ms) : 0;
    }
}

/* One strike is left to a host that comes back, until it has served. */
static unsigned on_answer(struct host *x, uint64_t now_ms)
{
    x->probing = false;
    if (x->state == HOST_OK)
        return 0;
    if (x->state == HOST_OUT)
        x->strikes = HOST_STRIKES_MOST - 1;
    go(x, HOST_OK, now_ms);
    return HOST_BACK;
}

unsigned hosts_step(struct hosts *h, int i, enum host_event ev, uint64_t now_ms)
{
    assert(i >= 0 && i < h->n);
    struct host *x = &h->v[i];
    switch (ev) {
    case HOST_SERVED:
        x->strikes = x->outs = 0;
        return 0;
    case HOST_ANSWERED:
        return on_answer(x, now_ms);
    case HOST_FAILED:
        x->probing = false;
        return x->state == HOST_OK ? 0 : put_out(h, x, now_ms);
    default:
        return on_trouble(h, x, ev, now_ms);
    }
}

int hosts_next_probe(struct hosts *h, uint64_t now_ms)
{
    for (int i = 0; i < h->n; i++) {
        struct host *x = &h->v[i];
        if (x->state == HOST_OK || x->probing || now_ms < x->probe_at_ms)
            continue;
        x->probing = true;
        return i;
    }
    return -1;
}

int hosts_choose(const struct hosts *h, int workers, uint64_t now_ms, int *chosen, int *n_hosts)
{
    if (h->n == 0) { /* this machine alone */
        *n_hosts = 0;
        return workers;
    }
    int planned = h->n < workers ? h->n : workers;
    int a_host = (workers + planned - 1) / planned;
    int n = 0;
    bool waits = false;
    for (int i = 0; i < h->n; i++) {
        const struct host *x = &h->v[i];
        if (x->state == HOST_OK && n < planned)
            chosen[n++] = i;
        waits |= x->state == HOST_SUSPECT && now_ms - x->since_ms < HOST_GRACE_MS;
    }
    *n_hosts = n;
    if (n < planned && waits)
        return 0;
    return n * a_host < workers ? n * a_host : workers;
}
