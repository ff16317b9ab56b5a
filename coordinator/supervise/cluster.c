/* cluster.c - see cluster.h.
 *
 * Each epoch has a hub of its own: closing it is the quickest way to tell ranks on
 * every host that their epoch is over (they leave when the connection closes), and
 * no straggler of an old epoch can reach the new one. Every rank registers there before
 * it starts MPI; once it has found rank 0's hub it takes its leave, and only rank 0 stays.
 */
#include "coordinator/supervise/cluster.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/supervise/process.h"
#include "coordinator/supervise/roster.h"
#include "coordinator/supervise/supervise.h"
#include "proto/frame.h"
#include "transport/control.h"

#define KEY_BYTES 32
#define STOP_TIMEOUT_MS 15000
#define KILL_AGAIN_MS 200
#define TICK_MS 100      /* while something starts or ends */
#define QUIET_TICK_MS 1000
#define GROW_IDLE_MS 5000 /* without a request, a pipeline is launched anew on hosts that are back */

struct cluster {
    struct cluster_options o;
    struct supervise sup;
    struct link *link;
    struct roster *roster;
    struct control *hub; /* NULL between epochs */
    struct process mpiexec;
    uint64_t killed_at_ms;
    uint64_t lost_at_ms;  /* when the last epoch that was ready was lost; 0: never */
    uint64_t ready_at_ms; /* of this epoch; 0: not yet */
    uint64_t busy_at_ms;
    char key[2 * KEY_BYTES + 1];
    struct why last; /* the latest alarm, in words */
    err last_code;
    bool was_ready;
    bool ended_unasked; /* mpiexec ended before anybody said why */
    bool waits;         /* a launch is due, and there is no host for it */
};

static void step(struct cluster *c, enum supervise_event ev);

/* Lost peers, silence and the system's moods pass; a file or a setting that is wrong
 * stays wrong however often it is tried. */
static bool passes(err code)
{
    return code == ERR_PEER || code == ERR_TIMEOUT || code == ERR_IO || code == ERR_CANCELLED;
}

static void alarm_raised(struct cluster *c, err code, const char *reason)
{
    if (c->sup.stop_wanted)
        return;
    why_set(&c->last, code, "%s", reason);
    c->last_code = code;
    log_at(passes(code) ? LOG_WARN : LOG_DEBUG, "epoch %u: %s", c->sup.epoch, reason);
    step(c, passes(code) ? SUP_ALARM : SUP_REFUSED);
}

/* It does not fit. With all hosts there and nothing ever served that is the end; else
 * requests are held until there is more memory: a host that comes back, a program that ends. */
static void refused(struct cluster *c, err code, const char *reason)
{
    if (c->sup.stop_wanted)
        return;
    if (!c->was_ready && !roster_is_weakened(c->roster)) {
        alarm_raised(c, code, reason);
        return;
    }
    const char *hosts = roster_describe(c->roster);
    why_set(&c->last, code, "%s%s%s", reason, *hosts ? "; " : "", hosts);
    c->last_code = code;
    step(c, SUP_HOLD);
    log_warn("epoch %u: held: %s", c->sup.epoch, c->last.text);
}

/* ---- frames to and from rank 0 --------------------------------------------- */

static err send_to_rank0(void *ctx, const void *body, size_t len, struct why *why)
{
    struct cluster *c = ctx;
    if (!c->hub)
        return why_set(why, ERR_PEER, "no epoch is up");
    return control_send(c->hub, 0, body, len, why);
}

static void send_shutdown(struct cluster *c)
{
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Shutdown shutdown = CORDEE__SHUTDOWN__INIT;
    struct buf frame;
    struct why why;

    env.body_case = CORDEE__ENVELOPE__BODY_SHUTDOWN;
    env.shutdown = &shutdown;
    buf_init(&frame);
    if (frame_put_body(&frame, &env, &why) == ERR_OK) {
        if (send_to_rank0(c, frame.data, frame.len, &why) != ERR_OK)
            alarm_raised(c, ERR_PEER, why.text);
    }
    buf_fini(&frame);
}

/* A rank ended with a reason: rank 0 for the pipeline, naming the rank that caused it, or
 * any rank for itself. */
static void on_done(struct cluster *c, const Cordee__Done *d)
{
    err code = d->code < ERR_COUNT ? (err)d->code : ERR_PEER;
    const char *reason = d->reason ? d->reason : err_text(code);
    int rank = d->has_rank && d->rank <= INT_MAX ? (int)d->rank : -1;
    if (code == ERR_OK) {
        if (c->sup.state == SUPERVISE_READY)
            alarm_raised(c, ERR_PEER, "the engine ended by itself");
    } else if (code == ERR_REFUSED || code == ERR_NOMEM) {
        refused(c, code, reason);
    } else {
        enum host_event ev = d->silent ? HOST_SILENT : passes(code) ? HOST_BROKE : HOST_UNFIT;
        bool without = rank >= 0 && roster_blame(c->roster, rank, ev, reason);
        alarm_raised(c, without ? ERR_PEER : code, reason);
    }
}

static void on_frame(struct cluster *c, int rank, const uint8_t *data, size_t len)
{
    Cordee__Envelope *env;
    struct why why;
    if (frame_get(data, len, &env, &why) != ERR_OK) {
        alarm_raised(c, ERR_PEER, why.text);
        return;
    }
    switch (env->body_case) {
    case CORDEE__ENVELOPE__BODY_READY:
        if (rank == 0)
            step(c, SUP_READY);
        break;
    case CORDEE__ENVELOPE__BODY_DONE:
        on_done(c, env->done);
        break;
    case CORDEE__ENVELOPE__BODY_LOG:
        log_at(env->log->level < LOG_LEVEL_COUNT ? (enum log_level)env->log->level : LOG_INFO, "%s",
               env->log->text);
        break;
    default:
        if (rank == 0 && link_on_frame(c->link, data, len, &why) != ERR_OK)
            alarm_raised(c, ERR_PEER, why.text);
    }
    frame_free(env);
}

static void on_lost(struct cluster *c, const struct control_event *ev)
{
    char reason[sizeof ev->reason + 320];
    const char *host = roster_host_of(c->roster, ev->member);
    if (ev->member > 0 && ev->loss == CONTROL_CLOSED)
        return; /* it is rank 0's now */
    snprintf(reason, sizeof reason, "rank %d%s%s was lost: %s", ev->member, *host ? " on " : "", host, ev->reason);
    roster_blame(c->roster, ev->member, ev->loss == CONTROL_SILENT ? HOST_SILENT : HOST_BROKE, reason);
    alarm_raised(c, ERR_PEER, reason);
}

static void poll_hub(struct cluster *c)
{
    struct control_event ev;
    while (c->hub && control_poll(c->hub, &ev) == ERR_OK) {
        switch (ev.kind) {
        case CONTROL_JOINED:
            roster_came(c->roster, ev.member);
            break;
        case CONTROL_FRAME:
            on_frame(c, ev.member, ev.data, ev.len);
            break;
        case CONTROL_LOST:
            on_lost(c, &ev);
            break;
        }
        free(ev.data);
    }
}

/* ---- actions ---------------------------------------------------------------- */

static err open_hub(struct cluster *c, struct why *why)
{
    const struct config *cfg = c->o.config;
    struct control_options o = {
        .key = c->key,
        .epoch = c->sup.epoch,
        .max_members = (int)cfg->workers + 1,
        .heartbeat_ms = (unsigned)cfg->heartbeat_ms,
        .dead_after_ms = (unsigned)cfg->dead_after_ms,
        .interface = cfg->network_interface[0] ? cfg->network_interface : NULL,
    };
    unsigned first, last;
    if (sscanf(cfg->network_ports, "%u-%u", &first, &last) == 2 && first <= last && last <= 65535) {
        o.port_first = (uint16_t)first;
        o.port_last = (uint16_t)last;
    }
    return control_listen(&o, &c->hub, why);
}

static void close_hub(struct cluster *c)
{
    if (c->hub)
        control_close(c->hub, 0);
    c->hub = NULL;
}

static err start_epoch(struct cluster *c, int stages, struct why *why)
{
    struct launch l = {0};
    int n_hosts = 0;
    const char *const *hosts = roster_hosts(c->roster, &n_hosts);
    err e;

    TRY(open_hub(c, why));
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
        alarm_raised(c, e, why.text);
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
        close_hub(c);
        process_kill(&c->mpiexec);
        c->killed_at_ms = now_ms();
    }
    if (actions & SUP_LAUNCH)
        launch(c);
    if (actions & SUP_ASK_STOP)
        send_shutdown(c);
    if (actions & SUP_LINK_UP)
        rise(c);
    if (actions & SUP_GIVE_UP) /* the program ends with c->last as its one line */
        log_debug("giving up after %d failed starts", c->sup.failed_starts);
}

static void step(struct cluster *c, enum supervise_event ev)
{
    act(c, supervise_step(&c->sup, ev, now_ms()));
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
    poll_hub(c); /* what rank 0 said last explains more than an exit code */
    if (c->sup.state != SUPERVISE_STARTING && c->sup.state != SUPERVISE_READY)
        return;
    c->ended_unasked = true;
    alarm_raised(c, ERR_PEER, text);
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
        close_hub(c);
        c->mpiexec = (struct process){0};
        step(c, SUP_REAPED);
    } else if (c->sup.state == SUPERVISE_KILLING && now_ms() - c->killed_at_ms > KILL_AGAIN_MS) {
        process_kill(&c->mpiexec);
        c->killed_at_ms = now_ms();
    }
}

/* ---- hosts ------------------------------------------------------------------- */

/* False: an epoch is due, and has to wait for a host or for a probe. */
static bool may_launch(struct cluster *c)
{
    if (c->sup.state != SUPERVISE_WAITING || now_ms() < c->sup.launch_at_ms)
        return true;
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
        step(c, SUP_ALARM);
    }
}

static void watch_hosts(struct cluster *c)
{
    struct why why;
    if (c->sup.state == SUPERVISE_STARTING && roster_misses(c->roster, &c->mpiexec, &why))
        alarm_raised(c, ERR_TIMEOUT, why.text);
    if (roster_turn(c->roster))
        step(c, SUP_HOSTS);
    grow_when_idle(c);
}

/* ---- the public side ---------------------------------------------------------- */

static err draw_key(char *hex, struct why *why)
{
    unsigned char raw[KEY_BYTES];
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, raw, sizeof raw);
    if (fd >= 0)
        close(fd);
    if (n != (ssize_t)sizeof raw)
        return why_set(why, ERR_IO, "/dev/urandom cannot be read");
    for (int i = 0; i < KEY_BYTES; i++)
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
        .send = send_to_rank0,
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
    struct process *list[] = {&c->mpiexec};
    if (!c)
        return;
    close_hub(c);
    for (int i = 0; i < 200 && has_processes(c) && process_left(&c->mpiexec); i++) {
        process_kill(&c->mpiexec);
        sleep_us(20000);
        process_reap(list, 1);
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
    poll_hub(c);
    watch_processes(c);
    watch_hosts(c);
    if (may_launch(c))
        step(c, SUP_TICK);
    link_tick(c->link);
}

int cluster_fd(const struct cluster *c)
{
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
    step(c, SUP_STOP);
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
