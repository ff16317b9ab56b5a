/* cluster.c - see cluster.h.
 *
 * Each epoch has a hub of its own: closing it is the quickest way to tell ranks on
 * every host that their epoch is over (they leave when the connection closes), and
 * no straggler of an old epoch can reach the new one.
 */
#include "coordinator/supervise/cluster.h"

#include <fcntl.h>
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
#include "coordinator/supervise/supervise.h"
#include "proto/frame.h"
#include "transport/control.h"

#define KEY_BYTES 32
#define STOP_TIMEOUT_MS 15000
#define KILL_AGAIN_MS 200
#define TICK_MS 100      /* while something starts or ends */
#define QUIET_TICK_MS 1000

struct cluster {
    struct cluster_options o;
    struct supervise sup;
    struct link *link;
    struct control *hub; /* NULL between epochs */
    pid_t leader;        /* mpiexec; 0: none */
    uint64_t killed_at_ms;
    char key[2 * KEY_BYTES + 1];
    struct why last; /* the latest alarm, in words */
    err last_code;
    bool was_ready;
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

static void on_done(struct cluster *c, const Cordee__Done *d)
{
    err code = d->code < ERR_COUNT ? (err)d->code : ERR_PEER;
    if (code != ERR_OK)
        alarm_raised(c, code, d->reason ? d->reason : err_text(code));
    else if (c->sup.state == SUPERVISE_READY)
        alarm_raised(c, ERR_PEER, "the engine ended by itself");
}

static void on_frame(struct cluster *c, const uint8_t *data, size_t len)
{
    Cordee__Envelope *env;
    struct why why;
    if (frame_get(data, len, &env, &why) != ERR_OK) {
        alarm_raised(c, ERR_PEER, why.text);
        return;
    }
    switch (env->body_case) {
    case CORDEE__ENVELOPE__BODY_READY:
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
        if (link_on_frame(c->link, data, len, &why) != ERR_OK)
            alarm_raised(c, ERR_PEER, why.text);
    }
    frame_free(env);
}

static void poll_hub(struct cluster *c)
{
    struct control_event ev;
    while (c->hub && control_poll(c->hub, &ev) == ERR_OK) {
        if (ev.kind == CONTROL_FRAME)
            on_frame(c, ev.data, ev.len);
        else if (ev.kind == CONTROL_LOST) {
            char reason[256];
            snprintf(reason, sizeof reason, "rank 0 was lost: %s", ev.reason);
            alarm_raised(c, ERR_PEER, reason);
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
        .max_members = 1,
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

static err start_epoch(struct cluster *c, struct why *why)
{
    const char **hosts = calloc(CONFIG_MAX_NODES, sizeof *hosts);
    struct launch l = {0};
    int n_hosts = 0;
    err e;

    if (!hosts)
        FAIL(ERR_NOMEM, "host list");
    TRY(open_hub(c, why));
    TRY(launch_hosts(c->o.config, c->o.site, NULL, hosts, &n_hosts, why));
    struct launch_epoch ep = {control_address(c->hub), c->key, c->sup.epoch};
    TRY(launch_build(c->o.config, c->o.site, &ep, hosts, n_hosts, &l, why));
    TRY(process_start(l.argv, l.env, &c->leader, why));
    log_info("epoch %u: %lld stages launched", c->sup.epoch, (long long)c->o.config->workers);
out:
    launch_fini(&l);
    free(hosts);
    return e;
}

static void act(struct cluster *c, unsigned actions)
{
    if (actions & SUP_LINK_DOWN)
        link_on_lost(c->link);
    if (actions & SUP_KILL) {
        close_hub(c);
        process_kill(c->leader);
        c->killed_at_ms = now_ms();
    }
    if (actions & SUP_LAUNCH) {
        struct why why;
        err e = start_epoch(c, &why);
        if (e)
            alarm_raised(c, e, why.text);
    }
    if (actions & SUP_ASK_STOP)
        send_shutdown(c);
    if (actions & SUP_LINK_UP) {
        log_info("epoch %u: ready", c->sup.epoch);
        c->was_ready = true;
        link_on_ready(c->link, c->sup.epoch);
    }
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

static void watch_processes(struct cluster *c)
{
    int status = -1;
    if (!has_processes(c))
        return;
    bool all_gone = process_reap(c->leader, &status);
    if (status != -1) {
        char text[128];
        c->leader = 0;
        if (WIFSIGNALED(status))
            snprintf(text, sizeof text, "mpiexec was killed by signal %d", WTERMSIG(status));
        else
            snprintf(text, sizeof text, "mpiexec ended with exit code %d", WEXITSTATUS(status));
        poll_hub(c); /* what rank 0 said last explains more than an exit code */
        if (c->sup.state == SUPERVISE_STARTING || c->sup.state == SUPERVISE_READY)
            alarm_raised(c, ERR_PEER, text);
    }
    if (all_gone && has_processes(c)) {
        close_hub(c);
        c->leader = 0;
        step(c, SUP_REAPED);
    } else if (c->sup.state == SUPERVISE_KILLING && now_ms() - c->killed_at_ms > KILL_AGAIN_MS) {
        process_kill(c->leader);
        c->killed_at_ms = now_ms();
    }
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
    TRY(link_open(&lo, &c->link, why));
    struct supervise_options so = {(uint64_t)o->config->start_timeout_s * 1000, STOP_TIMEOUT_MS,
                                   (int)o->config->restart_limit};
    supervise_init(&c->sup, &so, now_ms());
    *out = c;
    c = NULL;
out:
    free(c);
    return e;
}

void cluster_close(struct cluster *c)
{
    int status = 0;
    if (!c)
        return;
    close_hub(c);
    for (int i = 0; i < 200 && has_processes(c) && !process_reap(c->leader, &status); i++) {
        process_kill(c->leader);
        sleep_us(20000);
    }
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
    step(c, SUP_TICK);
    link_tick(c->link);
}

int cluster_fd(const struct cluster *c)
{
    return c->hub ? control_fd(c->hub) : -1;
}

int cluster_wait_ms(const struct cluster *c)
{
    int link_ms = link_wait_ms(c->link), ms = c->sup.state == SUPERVISE_READY ? QUIET_TICK_MS : TICK_MS;
    if (c->sup.state == SUPERVISE_WAITING) {
        uint64_t now = now_ms();
        ms = now >= c->sup.launch_at_ms ? 0 : (int)(c->sup.launch_at_ms - now);
    }
    return link_ms >= 0 && link_ms < ms ? link_ms : ms;
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
    const struct cluster *c = cluster;
    bool ready = c->sup.state == SUPERVISE_READY;
    *out = (struct health){ready, c->sup.epoch, ready ? "ready" : c->was_ready ? "recovering" : "starting"};
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
