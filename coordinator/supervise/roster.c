/* roster.c - see roster.h.
 *
 * A rank registers with `serve` before MPI starts (cli/cmd_engine.c), because MPI_Init
 * waits for all ranks and says nothing of those that never came. So "has not come" means
 * that the launcher, the node or the network failed; a node that loads a big model has
 * come long ago.
 */
#include "coordinator/supervise/roster.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"

#define SERVED_MS 60000       /* an epoch that lived so long clears its hosts' strikes */
#define LAUNCHER_MIN_MS 300   /* hydra needs some time to start its launchers, and to end */
#define PROBE_LOOK_MS 100

struct entry {
    const char *name; /* borrowed from the configuration or the site */
    char reason[160]; /* why it is not OK */
};

struct probe {
    struct process p; /* tag: host + 1 */
    int host;         /* -1: this place is free */
    uint64_t until_ms;
    uint64_t bereft_ms; /* since when its launcher has been gone; 0: it is there */
    bool killed;
};

struct roster {
    const struct config *c;
    const struct launch_site *site;
    struct hosts hosts;
    struct entry *entries; /* [hosts.n] */
    struct probe probes[ROSTER_PROBES_MAX];
    /* the present epoch */
    int *chosen; /* [n_chosen] of hosts.n */
    bool *came;  /* [n_chosen] */
    const char **names; /* [n_chosen] */
    int n_chosen, stages;
    uint64_t begun_ms;
    bool begun;
    /* for reports */
    struct health_host *report; /* [hosts.n] */
    char text[512];
};

/* ---- open and close ------------------------------------------------------------- */

static err alloc(struct roster *r, int n, struct why *why)
{
    size_t size = (size_t)n + 1;
    r->entries = calloc(size, sizeof *r->entries);
    r->chosen = calloc(size, sizeof *r->chosen);
    r->came = calloc(size, sizeof *r->came);
    r->names = calloc(size, sizeof *r->names);
    r->report = calloc(size, sizeof *r->report);
    bool ok = hosts_init(&r->hosts, n, (uint64_t)r->c->host_retry_s * 1000);
    if (!ok || !r->entries || !r->chosen || !r->came || !r->names || !r->report)
        return why_set(why, ERR_NOMEM, "list of %d hosts", n);
    return ERR_OK;
}

static void roster_free(struct roster *r)
{
    hosts_fini(&r->hosts);
    free(r->entries);
    free(r->chosen);
    free(r->came);
    free(r->names);
    free(r->report);
    free(r);
}

err roster_open(const struct config *c, const struct launch_site *site, struct roster **out, struct why *why)
{
    const char **names = calloc(CONFIG_MAX_NODES, sizeof *names);
    struct roster *r = calloc(1, sizeof *r);
    int n = 0;
    err e;

    if (!names || !r)
        FAIL(ERR_NOMEM, "list of hosts");
    r->c = c;
    r->site = site;
    TRY(launch_hosts(c, site, names, &n, why));
    TRY(alloc(r, n, why));
    for (int i = 0; i < n; i++)
        r->entries[i].name = names[i];
    for (int i = 0; i < ROSTER_PROBES_MAX; i++)
        r->probes[i].host = -1;
    *out = r;
    r = NULL;
out:
    if (r)
        roster_free(r);
    free(names);
    return e;
}

void roster_close(struct roster *r)
{
    struct process *list[ROSTER_PROBES_MAX];
    if (!r)
        return;
    for (int round = 0; round < 100; round++) {
        int n = roster_processes(r, list), left = 0;
        for (int i = 0; i < n; i++)
            process_kill(list[i]);
        process_reap(list, n);
        for (int i = 0; i < n; i++)
            left += process_left(list[i]);
        if (!left)
            break;
        sleep_us(10000);
    }
    roster_free(r);
}

/* ---- what becomes of a host -------------------------------------------------------- */

static unsigned tell(struct roster *r, int host, enum host_event ev, const char *reason)
{
    unsigned change = hosts_step(&r->hosts, host, ev, now_ms());
    struct entry *x = &r->entries[host];
    const struct host *h = &r->hosts.v[host];
    if (reason && h->state != HOST_OK)
        snprintf(x->reason, sizeof x->reason, "%s", reason);
    if (change & HOST_LEFT)
        log_warn("host %s is out: %s; probed again in %" PRIu64 " s", x->name, x->reason,
                 (h->probe_at_ms - now_ms() + 500) / 1000);
    else if (change & HOST_DOUBTED)
        log_warn("host %s is suspect: %s; probing", x->name, x->reason);
    else if (change & HOST_BACK)
        log_info("host %s answers again: used from the next epoch on", x->name);
    return change;
}

/* ---- an epoch ---------------------------------------------------------------------- */

int roster_choose(struct roster *r)
{
    r->stages = hosts_choose(&r->hosts, (int)r->c->workers, now_ms(), r->chosen, &r->n_chosen);
    for (int i = 0; i < r->n_chosen; i++) {
        r->names[i] = r->entries[r->chosen[i]].name;
        r->came[i] = false;
    }
    return r->stages;
}

int roster_stages(const struct roster *r)
{
    return r->stages;
}

const char *const *roster_hosts(const struct roster *r, int *n)
{
    *n = r->n_chosen;
    return r->n_chosen ? r->names : NULL;
}

void roster_begin(struct roster *r)
{
    r->begun_ms = now_ms();
    r->begun = true;
}

static int place_of(const struct roster *r, int rank)
{
    return launch_host_of(r->stages, r->n_chosen, rank);
}

const char *roster_host_of(const struct roster *r, int rank)
{
    int at = place_of(r, rank);
    return at < 0 ? "" : r->names[at];
}

void roster_came(struct roster *r, int rank)
{
    int at = place_of(r, rank);
    if (at >= 0)
        r->came[at] = true;
}

static int count_came(const struct roster *r)
{
    int n = 0;
    for (int i = 0; i < r->n_chosen; i++)
        n += r->came[i];
    return n;
}

/* Hydra starts one launcher a host, in their order, or one srun for all; and waits for
 * ever when one ends. */
static int missing_launcher(const struct roster *r, const struct process *mpiexec)
{
    for (int i = 0; i < r->n_chosen; i++)
        if (!r->came[i] && process_child_ended(mpiexec, r->site->in_slurm ? 0 : i))
            return i;
    return -1;
}

bool roster_misses(struct roster *r, const struct process *mpiexec, struct why *why)
{
    uint64_t age = now_ms() - r->begun_ms, patience = (uint64_t)r->c->register_timeout_s * 1000;
    int n = count_came(r), i;
    if (!r->begun || n == r->n_chosen)
        return false;
    if (age > patience) {
        int first = -1;
        for (i = 0; i < r->n_chosen; i++) {
            if (r->came[i])
                continue;
            first = first < 0 ? i : first;
            tell(r, r->chosen[i], n ? HOST_ABSENT : HOST_UNSURE, "it did not register in time");
        }
        why_set(why, ERR_TIMEOUT, "%s%s did not register within %" PRId64 " s (%d of %d hosts did)", r->names[first],
                r->n_chosen - n > 1 ? " and others" : "", r->c->register_timeout_s, n, r->n_chosen);
        r->begun = false;
        return true;
    }
    if (age < LAUNCHER_MIN_MS || (i = missing_launcher(r, mpiexec)) < 0)
        return false;
    const char *name = r->names[i];
    for (; i < r->n_chosen; i++) /* one srun launches all */
        if (!r->came[i]) {
            tell(r, r->chosen[i], HOST_UNSURE, "its launcher failed");
            if (!r->site->in_slurm)
                break;
        }
    why_set(why, ERR_PEER, "the launcher of %s ended before its ranks came", name);
    r->begun = false;
    return true;
}

bool roster_blame(struct roster *r, int rank, enum host_event ev, const char *reason)
{
    int at = place_of(r, rank);
    return at >= 0 && tell(r, r->chosen[at], ev, reason) & (HOST_LEFT | HOST_DOUBTED);
}

void roster_end(struct roster *r, bool before_ready, uint64_t lived_ms)
{
    int n = count_came(r);
    for (int i = 0; i < r->n_chosen; i++) {
        if (before_ready && r->begun && n && !r->came[i])
            tell(r, r->chosen[i], HOST_UNSURE, "the launch failed before it registered");
        if (lived_ms >= SERVED_MS && r->hosts.v[r->chosen[i]].state == HOST_OK)
            tell(r, r->chosen[i], HOST_SERVED, NULL);
    }
    r->begun = false;
}

/* ---- probes -------------------------------------------------------------------------- */

int roster_processes(struct roster *r, struct process **list)
{
    int n = 0;
    for (int i = 0; i < ROSTER_PROBES_MAX; i++)
        if (r->probes[i].host >= 0)
            list[n++] = &r->probes[i].p;
    return n;
}

static struct probe *free_probe(struct roster *r)
{
    for (int i = 0; i < ROSTER_PROBES_MAX; i++)
        if (r->probes[i].host < 0)
            return &r->probes[i];
    return NULL;
}

static void start_probe(struct roster *r, struct probe *p, int host)
{
    struct launch l = {0};
    struct why why;
    err e = launch_probe(r->c, r->site, r->entries[host].name, host + 1, &l, &why);
    if (!e)
        e = process_start(l.argv, l.env, host + 1, true, &p->p, &why);
    launch_fini(&l);
    if (e) {
        tell(r, host, HOST_FAILED, why.text);
        return;
    }
    p->host = host;
    p->killed = false;
    p->bereft_ms = 0;
    p->until_ms = now_ms() + (uint64_t)r->c->register_timeout_s * 1000;
}

/* mpiexec waits for ever when its launcher failed; after a good end it is gone soon. */
static bool is_bereft(struct probe *p)
{
    if (!process_child_ended(&p->p, 0))
        p->bereft_ms = 0;
    else if (!p->bereft_ms)
        p->bereft_ms = now_ms();
    return p->bereft_ms && now_ms() - p->bereft_ms > LAUNCHER_MIN_MS;
}

/* True when the host came back. */
static bool collect_probe(struct roster *r, struct probe *p)
{
    bool late = now_ms() >= p->until_ms || is_bereft(p), left = process_left(&p->p);
    if (left && (late || p->p.ended)) {
        process_kill(&p->p); /* of one that ended, what it left behind */
        p->killed |= !p->p.ended;
    }
    if (left)
        return false;
    int host = p->host;
    bool good = !p->killed && WIFEXITED(p->p.status) && WEXITSTATUS(p->p.status) == 0;
    char reason[160];
    if (good)
        reason[0] = 0;
    else if (p->killed && p->bereft_ms)
        snprintf(reason, sizeof reason, "its launcher failed");
    else if (p->killed)
        snprintf(reason, sizeof reason, "no answer to a probe within %" PRId64 " s", r->c->register_timeout_s);
    else
        snprintf(reason, sizeof reason, "a probe failed with code %d",
                 WIFEXITED(p->p.status) ? WEXITSTATUS(p->p.status) : -1);
    p->host = -1;
    return tell(r, host, good ? HOST_ANSWERED : HOST_FAILED, good ? NULL : reason) & HOST_BACK;
}

bool roster_turn(struct roster *r)
{
    struct probe *p;
    bool back = false;
    int host;
    for (int i = 0; i < ROSTER_PROBES_MAX; i++)
        if (r->probes[i].host >= 0)
            back |= collect_probe(r, &r->probes[i]);
    while ((p = free_probe(r)) && (host = hosts_next_probe(&r->hosts, now_ms())) >= 0)
        start_probe(r, p, host);
    return back;
}

int roster_wait_ms(const struct roster *r)
{
    uint64_t now = now_ms(), least = UINT64_MAX;
    for (int i = 0; i < ROSTER_PROBES_MAX; i++)
        if (r->probes[i].host >= 0)
            return PROBE_LOOK_MS;
    for (int i = 0; i < r->hosts.n; i++) {
        const struct host *h = &r->hosts.v[i];
        uint64_t left = h->probe_at_ms > now ? h->probe_at_ms - now : 0;
        if (h->state != HOST_OK && left < least)
            least = left;
    }
    return least == UINT64_MAX ? -1 : least > 60000 ? 60000 : (int)least;
}

/* ---- reports ---------------------------------------------------------------------------- */

bool roster_could_grow(const struct roster *r)
{
    int *chosen = calloc((size_t)r->hosts.n + 1, sizeof *chosen), n, stages = 0;
    if (chosen)
        stages = hosts_choose(&r->hosts, (int)r->c->workers, now_ms(), chosen, &n);
    free(chosen);
    return stages > r->stages;
}

int roster_usable(const struct roster *r)
{
    return hosts_count(&r->hosts, HOST_OK);
}

bool roster_is_weakened(const struct roster *r)
{
    return hosts_count(&r->hosts, HOST_OK) < r->hosts.n || r->stages < r->c->workers;
}

const char *roster_describe(struct roster *r)
{
    size_t at = 0;
    int n = r->hosts.n - hosts_count(&r->hosts, HOST_OK);
    r->text[0] = 0;
    if (!n)
        return r->text;
    at += (size_t)snprintf(r->text, sizeof r->text, "%d of %d hosts not in use:", n, r->hosts.n);
    for (int i = 0; i < r->hosts.n && at < sizeof r->text; i++)
        if (r->hosts.v[i].state != HOST_OK)
            at += (size_t)snprintf(r->text + at, sizeof r->text - at, " %s (%s)", r->entries[i].name,
                                   r->entries[i].reason);
    return r->text;
}

const struct health_host *roster_report(struct roster *r, int *n)
{
    for (int i = 0; i < r->hosts.n; i++) {
        enum host_state s = r->hosts.v[i].state;
        r->report[i] = (struct health_host){r->entries[i].name, host_state_name(s), s == HOST_OK,
                                            s == HOST_OK ? "" : r->entries[i].reason};
    }
    *n = r->hosts.n;
    return r->report;
}
