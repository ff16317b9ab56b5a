/* session.c - see session.h. */
#include "cli/session.h"

#include <string.h>

#include "base/log.h"
#include "coordinator/supervise/process.h"
#include "coordinator/engine/rank0.h"
#include "model/source.h"

static err open_backend(struct session *s, const struct model_facts *facts, struct why *why)
{
    const struct config *c = s->config;
    err e;
    if (c->connect[0]) {
        struct remote_options o = {c->connect, *facts, (int)(c->queue + c->slots),
                                   (uint64_t)c->request_timeout_s * 1000};
        TRY(remote_open(s->base, &o, &s->remote, why));
        s->backend = remote_backend(s->remote);
        s->health = remote_health;
        s->stats = remote_query_stats;
        s->report_ctx = s->remote;
        return ERR_OK;
    }
    struct cluster_options o = {c, &s->site.launch, *facts};
    TRY(process_init(why));
    TRY(cluster_open(&o, &s->cluster, why));
    TRY(drive_init(&s->drive, s->base, s->cluster, why));
    s->backend = cluster_backend(s->cluster);
    s->health = cluster_health;
    s->stats = cluster_query_stats;
    s->report_ctx = s->cluster;
out:
    return e;
}

err session_open(struct session *s, const struct config *config, struct why *why)
{
    struct model_facts facts;
    err e;
    *s = (struct session){.config = config};
    TRY(config_check(config, why));
    TRY(site_init(&s->site, why));
    TRY(source_open(config->model, &s->src, why));
    TRY(rank0_adapters(config, s->src, why));
    TRY(source_tokenizer(s->src, &s->tok, why));
    rank0_facts(config, s->src, &facts);
    s->base = event_base_new();
    if (!s->base)
        FAIL(ERR_NOMEM, "event loop");
    TRY(open_backend(s, &facts, why));
    TRY(front_open(s->backend, s->tok, &s->front, why));
out:
    if (e)
        session_close(s);
    return e;
}

void session_close(struct session *s)
{
    struct why why;
    if (s->front)
        front_close(s->front);
    s->front = NULL;
    if (s->cluster && s->drive.timer) {
        drive_stop(&s->drive);
        if (!s->drive.ended && drive_run(&s->drive, &why) != ERR_OK)
            log_debug("end: %s", why.text);
    }
    drive_fini(&s->drive);
    cluster_close(s->cluster);
    remote_close(s->remote);
    if (s->base)
        event_base_free(s->base);
    tokenizer_close(s->tok);
    source_close(s->src);
    site_fini(&s->site);
    *s = (struct session){0};
}

err session_turn(struct session *s, struct why *why)
{
    if (event_base_loop(s->base, EVLOOP_ONCE) != 0)
        return why_set(why, ERR_IO, "event loop");
    if (s->drive.ended)
        return why_set(why, s->drive.code ? s->drive.code : ERR_CANCELLED, "%s",
                       s->drive.code ? s->drive.why.text : "stopped by a signal");
    return s->drive.stopping ? why_set(why, ERR_CANCELLED, "stopped by a signal") : ERR_OK;
}

err session_until_ready(struct session *s, struct why *why)
{
    err e = ERR_OK;
    while (!e && !backend_ready(s->backend))
        e = session_turn(s, why);
    return e;
}
