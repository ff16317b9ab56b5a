/* cluster_hub.c - what the ranks of an epoch say to `serve`, and what it means.
 *
 * Each epoch has a hub of its own: closing it is the quickest way to tell ranks on
 * every host that their epoch is over (they leave when the connection closes), and
 * no straggler of an old epoch can reach the new one. Every rank registers there before
 * it starts MPI; once it has found rank 0's hub it takes its leave, and only rank 0 stays.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "coordinator/supervise/cluster_state.h"
#include "proto/frame.h"

/* Lost peers, silence and the system's moods pass; a file or a setting that is wrong
 * stays wrong however often it is tried. */
static bool passes(err code)
{
    return code == ERR_PEER || code == ERR_TIMEOUT || code == ERR_IO || code == ERR_CANCELLED;
}

void cluster_alarm(struct cluster *c, err code, const char *reason)
{
    if (c->sup.stop_wanted)
        return;
    why_set(&c->last, code, "%s", reason);
    c->last_code = code;
    log_at(passes(code) ? LOG_WARN : LOG_DEBUG, "epoch %u: %s", c->sup.epoch, reason);
    cluster_step(c, passes(code) ? SUP_ALARM : SUP_REFUSED);
}

/* It does not fit. With all hosts there and nothing ever served that is the end; else
 * requests are held until there is more memory: a host that comes back, a program that ends. */
static void refused(struct cluster *c, err code, const char *reason)
{
    if (c->sup.stop_wanted)
        return;
    if (!c->was_ready && !roster_is_weakened(c->roster)) {
        cluster_alarm(c, code, reason);
        return;
    }
    const char *hosts = roster_describe(c->roster);
    why_set(&c->last, code, "%s%s%s", reason, *hosts ? "; " : "", hosts);
    c->last_code = code;
    cluster_step(c, SUP_HOLD);
    log_warn("epoch %u: held: %s", c->sup.epoch, c->last.text);
}

/* ---- frames to and from rank 0 --------------------------------------------- */

err cluster_send_to_rank0(void *ctx, const void *body, size_t len, struct why *why)
{
    struct cluster *c = ctx;
    if (!c->hub)
        return why_set(why, ERR_PEER, "no epoch is up");
    return control_send(c->hub, 0, body, len, why);
}

void cluster_send_shutdown(struct cluster *c)
{
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Shutdown shutdown = CORDEE__SHUTDOWN__INIT;
    struct buf frame;
    struct why why;

    env.body_case = CORDEE__ENVELOPE__BODY_SHUTDOWN;
    env.shutdown = &shutdown;
    buf_init(&frame);
    if (frame_put_body(&frame, &env, &why) == ERR_OK) {
        if (cluster_send_to_rank0(c, frame.data, frame.len, &why) != ERR_OK)
            cluster_alarm(c, ERR_PEER, why.text);
    }
    buf_fini(&frame);
}

/* What a rank's failure says about its host; false: nothing. A rank that could not even
 * open the model, which this process could, speaks of its own node; what the stages
 * of a pipeline find wrong with the same model is wrong everywhere. */
static bool host_event_of(int member, const Cordee__Done *d, err code, enum host_event *ev)
{
    if (!d->has_rank || d->rank > INT_MAX || code == ERR_TIMEOUT || code == ERR_CANCELLED)
        return false;
    *ev = d->silent ? HOST_SILENT : passes(code) ? HOST_BROKE : HOST_UNFIT;
    return *ev != HOST_UNFIT || (int)d->rank == member;
}

/* A rank ended with a reason: rank 0 for the pipeline, naming the rank that caused it, or
 * any rank for itself. */
static void on_done(struct cluster *c, int member, const Cordee__Done *d)
{
    err code = d->code < ERR_COUNT ? (err)d->code : ERR_PEER;
    const char *reason = d->reason ? d->reason : err_text(code);
    enum host_event ev;
    if (code == ERR_OK) {
        if (c->sup.state == SUPERVISE_READY)
            cluster_alarm(c, ERR_PEER, "the engine ended by itself");
    } else if (code == ERR_REFUSED || code == ERR_NOMEM) {
        refused(c, code, reason);
    } else {
        bool without = host_event_of(member, d, code, &ev) && roster_blame(c->roster, (int)d->rank, ev, reason);
        cluster_alarm(c, without ? ERR_PEER : code, reason);
    }
}

static void on_frame(struct cluster *c, int rank, const uint8_t *data, size_t len)
{
    Cordee__Envelope *env;
    struct why why;
    if (frame_get(data, len, &env, &why) != ERR_OK) {
        cluster_alarm(c, ERR_PEER, why.text);
        return;
    }
    switch (env->body_case) {
    case CORDEE__ENVELOPE__BODY_READY:
        if (rank == 0)
            cluster_step(c, SUP_READY);
        break;
    case CORDEE__ENVELOPE__BODY_DONE:
        on_done(c, rank, env->done);
        break;
    case CORDEE__ENVELOPE__BODY_LOG:
        log_at(env->log->level < LOG_LEVEL_COUNT ? (enum log_level)env->log->level : LOG_INFO, "%s",
               env->log->text);
        break;
    default:
        if (rank == 0 && link_on_frame(c->link, data, len, &why) != ERR_OK)
            cluster_alarm(c, ERR_PEER, why.text);
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
    cluster_alarm(c, ERR_PEER, reason);
}

void cluster_poll_hub(struct cluster *c)
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

/* ---- the hub itself ---------------------------------------------------------- */

err cluster_open_hub(struct cluster *c, struct why *why)
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
    c->n_hubs++;
    return control_listen(&o, &c->hub, why);
}

void cluster_close_hub(struct cluster *c)
{
    if (c->hub)
        control_close(c->hub, 0);
    c->hub = NULL;
}
