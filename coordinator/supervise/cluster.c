/* cluster.c - see cluster.h and cluster_state.h. */
#include "coordinator/supervise/cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/supervise/cluster_state.h"

#define STOP_TIMEOUT_MS 15000
#define KILL_AGAIN_MS 200
#define TICK_MS 100      /* while something starts or ends */
#define QUIET_TICK_MS 1000
#define GROW_IDLE_MS 5000 /* without a request, a pipeline is launched anew on hosts that are back */

/* ---- actions ---------------------------------------------------------------- */

static err start_epoch(struct cluster *c, int stages, struct why *why)
{
    struct launch l = {0};
    int n_hosts = 0;
    const char *const *hosts = roster_hosts(c->roster, &n_hosts);
    err e;

    TRY(cluster_open_hub(c, why));
    struct launch_epoch ep = {control_address(c->hub), c->key, c->o.facts.hash, c->sup.epoch, stages};
    TRY(launch_build(c->o.config, c->o.site, &ep, hosts, n_hosts, &l, why));
    TRY(process_start(l.argv, l.env, 0, false, &c->mpiexec, why));
    roster_begin(c->roster);
    const char *missing = roster_describe(c->roster);
    log_info("epoch %u: %d stages launched%s%s", c->sup.epoch, stages, *missing ? "; " : "", missing);
out:
    launch_fini(&l);
    return e;
}

static void launch(struct cluster *c)
{
    struct why why;
    c->ready_at_ms = 0;
    c->ended_unasked = false;
    err e = start_epoch(c, roster_stages(c->roster), &why);
    if (e)
        cluster_alarm(c, e, why.text);
}

static void condemn(struct cluster *c)
{
    uint64_t now = now_ms();
    roster_end(c->roster, c->ended_unasked, c->ready_at_ms ? now - c->ready_at_ms : 0);
    if (c->ready_at_ms)
        c->lost_at_ms = now;
    c->ready_at_ms = 0;
}

static void rise(struct cluster *c)
{
    c->ready_at_ms = c->busy_at_ms = now_ms();
    if (c->lost_at_ms)
        log_info("epoch %u: ready, %.1f s after the last one was lost", c->sup.epoch,
                 (double)(c->ready_at_ms - c->lost_at_ms) / 1000);
    else
        log_info("epoch %u: ready", c->sup.epoch);
    c->was_ready = true;
    link_on_ready(c->link, c->sup.epoch);
}

static void act(struct cluster *c, unsigned actions)
{
    if (actions & (SUP_LINK_DOWN | SUP_KILL))
        condemn(c);
    if (actions & SUP_LINK_DOWN)
        link_on_lost(c->link);
    if (actions & SUP_KILL) {
        cluster_close_hub(c);
        process_kill(&c->mpiexec);
        c->killed_at_ms = now_ms();
    }
    if (actions & SUP_LAUNCH)
        launch(c);
    if (actions & SUP_ASK_STOP)
        cluster_send_shutdown(c);
    if (actions & SUP_LINK_UP)
        rise(c);
    if (actions & SUP_GIVE_UP) /* the program ends with c->last as its one line */
        log_debug("giving up after %d failed starts", c->sup.failed_starts);
}

void cluster_step(struct cluster *c, enum supervise_event ev)
{
    bool starting = c->sup.state == SUPERVISE_STARTING;
    unsigned actions = supervise_step(&c->sup, ev, now_ms());
    if (ev == SUP_TICK && starting && actions & SUP_KILL) {
        c->last_code = why_set(&c->last, ERR_TIMEOUT, "not ready within %lld s (start_timeout_s)",
                               (long long)c->o.config->start_timeout_s);
        log_warn("epoch %u: %s", c->sup.epoch, c->last.text);
    }
    act(c, actions);
}

/* ---- processes --------------------------------------------------------------- */

static bool has_processes(const struct cluster *c)
{
    return c->sup.state == SUPERVISE_STARTING || c->sup.state == SUPERVISE_READY ||
           c->sup.state == SUPERVISE_KILLING || c->sup.state == SUPERVISE_STOPPING;
}

static void on_exit_of_mpiexec(struct cluster *c, int status)
{
    char text[128];
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "mpiexec was killed by signal %d", WTERMSIG(status));
    else
        snprintf(text, sizeof text, "mpiexec ended with exit code %d", WEXITSTATUS(status));
    cluster_poll_hub(c); /* what rank 0 said last explains more than an exit code */
    if (c->sup.state != SUPERVISE_STARTING && c->sup.state != SUPERVISE_READY)
        return;
    c->ended_unasked = true;
    cluster_alarm(c, ERR_PEER, text);
}

static void watch_processes(struct cluster *c)
{
    struct process *list[1 + ROSTER_PROBES_MAX] = {&c->mpiexec};
    bool ran = c->mpiexec.pid > 0 && !c->mpiexec.ended;
    process_reap(list, 1 + roster_processes(c->roster, list + 1));
    if (!has_processes(c))
        return;
    if (ran && c->mpiexec.ended)
        on_exit_of_mpiexec(c, c->mpiexec.status);
    if (!process_left(&c->mpiexec) && has_processes(c)) {
        cluster_close_hub(c);
        c->mpiexec = (struct process){0};
        cluster_step(c, SUP_REAPED);
    } else if (c->sup.state == SUPERVISE_KILLING && now_ms() - c->killed_at_ms > KILL_AGAIN_MS) {
        process_kill(&c->mpiexec);
        c->killed_at_ms = now_ms();
    }
}

/* ---- hosts ------------------------------------------------------------------- */

/* False: the next epoch has to wait for its time, for a host or for a probe. */
static bool may_launch(struct cluster *c)
{
    if (c->sup.state != SUPERVISE_WAITING)
        return true;
    if (now_ms() < c->sup.launch_at_ms)
        return false; /* a tick reads the clock again, and would launch on hosts not chosen for it */
    bool may = roster_choose(c->roster) > 0;
    if (!may && !c->waits)
        log_warn("the next epoch waits: %s", roster_describe(c->roster));
    c->waits = !may;
    return may;
}

/* A pipeline on too few hosts goes on as long as it has work: a launch costs all
 * requests a pause. With nothing to do it is launched anew on all that are back. */
static void grow_when_idle(struct cluster *c)
{
    uint64_t now = now_ms();
    if (c->sup.state != SUPERVISE_READY || link_pending(c->link) > 0) {
        c->busy_at_ms = now;
    } else if (now - c->busy_at_ms > GROW_IDLE_MS && roster_could_grow(c->roster)) {
        log_info("epoch %u: ends to use all hosts again", c->sup.epoch);
        cluster_step(c, SUP_ALARM);
    }
}

static void watch_hosts(struct cluster *c)
{
    struct why why;
    if (c->sup.state == SUPERVISE_STARTING && roster_misses(c->roster, &c->mpiexec, &why))
        cluster_alarm(c, ERR_TIMEOUT, why.text);
    if (roster_turn(c->roster))
        cluster_step(c, SUP_HOSTS);
    grow_when_idle(c);
}

/* ---- the public side ---------------------------------------------------------- */

static err draw_key(char *hex, struct why *why)
{
    unsigned char raw[CLUSTER_KEY_BYTES];
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, raw, sizeof raw);
    if (fd >= 0)
        close(fd);
    if (n != (ssize_t)sizeof raw)
        return why_set(why, ERR_IO, "/dev/urandom cannot be read");
    for (int i = 0; i < CLUSTER_KEY_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", raw[i]);
    return ERR_OK;
}

err cluster_open(const struct cluster_options *o, struct cluster **out, struct why *why)
{
    struct cluster *c = calloc(1, sizeof *c);
    err e;
    if (!c)
        return why_set(why, ERR_NOMEM, "cluster");
    c->o = *o;
    TRY(draw_key(c->key, why));
    struct link_options lo = {
        .send = cluster_send_to_rank0,
        .ctx = c,
        .max_requests = (int)(o->config->queue + o->config->slots),
        .patience_ms = (uint64_t)o->config->request_timeout_s * 1000,
        .facts = o->facts,
    };
    TRY(roster_open(o->config, o->site, &c->roster, why));
    TRY(link_open(&lo, &c->link, why));
    struct supervise_options so = {(uint64_t)o->config->start_timeout_s * 1000, STOP_TIMEOUT_MS,
                                   (int)o->config->restart_limit};
    supervise_init(&c->sup, &so, now_ms());
    *out = c;
    c = NULL;
out:
    if (c)
        roster_close(c->roster);
    free(c);
    return e;
}

void cluster_close(struct cluster *c)
{
    struct process *list[1 + ROSTER_PROBES_MAX];
    if (!c)
        return;
    list[0] = &c->mpiexec;
    cluster_close_hub(c);
    for (int i = 0; i < 200 && has_processes(c) && process_left(&c->mpiexec); i++) {
        process_kill(&c->mpiexec);
        sleep_us(20000);
        process_reap(list, 1 + roster_processes(c->roster, list + 1));
    }
    roster_close(c->roster);
    link_close(c->link);
    free(c);
}

struct backend *cluster_backend(struct cluster *c)
{
    return link_backend(c->link);
}

void cluster_turn(struct cluster *c)
{
    cluster_poll_hub(c);
    watch_processes(c);
    watch_hosts(c);
    if (may_launch(c))
        cluster_step(c, SUP_TICK);
    link_tick(c->link);
}

int cluster_fd(const struct cluster *c, unsigned *serial)
{
    *serial = c->n_hubs;
    return c->hub ? control_fd(c->hub) : -1;
}

int cluster_wait_ms(const struct cluster *c)
{
    int waits[] = {link_wait_ms(c->link), roster_wait_ms(c->roster)};
    int ms = c->sup.state == SUPERVISE_READY ? QUIET_TICK_MS : TICK_MS;
    if (c->sup.state == SUPERVISE_WAITING && !c->waits) {
        uint64_t now = now_ms();
        ms = now >= c->sup.launch_at_ms ? 0 : (int)(c->sup.launch_at_ms - now);
    }
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++)
        if (waits[i] >= 0 && waits[i] < ms)
            ms = waits[i];
    return ms;
}

void cluster_stop(struct cluster *c)
{
    cluster_step(c, SUP_STOP);
}

bool cluster_ended(const struct cluster *c, err *code, struct why *why)
{
    if (c->sup.state == SUPERVISE_STOPPED) {
        *code = ERR_OK;
        return true;
    }
    if (c->sup.state != SUPERVISE_FAILED)
        return false;
    *code = why_set(why, c->last_code ? c->last_code : ERR_PEER, "%s", c->last.text);
    return true;
}

void cluster_health(void *cluster, struct health *out)
{
    struct cluster *c = cluster;
    bool ready = c->sup.state == SUPERVISE_READY;
    bool held = c->sup.held || (c->waits && !roster_usable(c->roster));
    *out = (struct health){
        .ready = ready,
        .epoch = c->sup.epoch,
        .state = ready ? "ready" : held ? "held" : c->was_ready ? "recovering" : "starting",
        .detail = ready || c->waits ? roster_describe(c->roster) : c->last.text,
    };
    out->hosts = roster_report(c->roster, &out->n_hosts);
}

struct stats_wait {
    const struct cluster *c;
    stats_done_fn *done;
    void *done_ctx;
};

/* Adds what only the supervisor knows. */
static void stats_arrived(void *ctx, const Cordee__Stats *stats)
{
    struct stats_wait *w = ctx;
    if (stats) {
        Cordee__Stats own = *stats;
        own.has_restarts = 1;
        own.restarts = w->c->sup.restarts;
        w->done(w->done_ctx, &own);
    } else {
        w->done(w->done_ctx, NULL);
    }
    free(w);
}

void cluster_query_stats(void *cluster, stats_done_fn *done, void *done_ctx)
{
    struct cluster *c = cluster;
    struct stats_wait *w = malloc(sizeof *w);
    if (!w) {
        done(done_ctx, NULL);
        return;
    }
    *w = (struct stats_wait){c, done, done_ctx};
    link_query_stats(c->link, stats_arrived, w);
}
