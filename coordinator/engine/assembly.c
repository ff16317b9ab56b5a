/* assembly.c - see assembly.h. */
#include "coordinator/engine/assembly.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "model/kv.h"
#include "model/shards.h"
#include "proto/frame.h"

#define DEFAULT_CONTEXT 8192
#define EXTRA_SEQS 15       /* besides one of full length, these get EXTRA_POSITIONS each */
#define EXTRA_POSITIONS 1024
#define MEMORY_SHARE 0.95   /* of what a node has free */
#define POLL_US 500

struct gather {
    struct control *hub;
    const struct assembly_options *o;
    struct assembly *a;
    struct rank_fault *fault;
};

static enum kv_type kv_type_of(const char *name)
{
    for (int t = 0; t < KV_TYPE_COUNT; t++)
        if (!strcmp(kv_type_name((enum kv_type)t), name))
            return (enum kv_type)t;
    return KV_F16;
}

static enum wire_type wire_of(const char *name)
{
    return !strcmp(name, "f16") ? WIRE_F16 : !strcmp(name, "bf16") ? WIRE_BF16 : WIRE_F32;
}

err assembly_limits(const struct config *c, const struct source *src, struct stage_limits *out,
                    struct why *why)
{
    const struct hparams *hp = source_hparams(src);
    int64_t context = c->context;
    if (!context)
        context = hp->n_ctx_train && hp->n_ctx_train < DEFAULT_CONTEXT ? hp->n_ctx_train : DEFAULT_CONTEXT;
    struct stage_limits lim = {
        .max_rows = (int)c->batch_rows,
        .max_slots = (int)c->slots,
        .max_context = (int)context,
        .n_pages = 1,
        .kv_type = kv_type_of(c->kv_type),
    };
    int64_t per_seq = (context + KV_PAGE - 1) / KV_PAGE;
    int64_t extra = context < EXTRA_POSITIONS ? per_seq : EXTRA_POSITIONS / KV_PAGE;
    int64_t pages = per_seq + EXTRA_SEQS * extra;
    if (c->kv_memory) {
        struct kv page;
        err e = kv_shape(source_arch(src), hp, hp->n_layer, 1, lim.kv_type, &page, why);
        if (e)
            return e;
        pages = page.page_bytes ? c->kv_memory / (int64_t)page.page_bytes : pages;
        if (pages < 1)
            return why_set(why, ERR_REFUSED, "kv_memory: %" PRId64 " bytes is less than one page of %d positions (%zu)",
                           c->kv_memory, KV_PAGE, page.page_bytes);
    }
    if (pages > UINT32_MAX / 2)
        pages = UINT32_MAX / 2;
    lim.n_pages = (uint32_t)pages;
    *out = lim;
    return ERR_OK;
}

/* ---- frames --------------------------------------------------------------- */

static void note_hello(struct member *m, const Cordee__Hello *h)
{
    if (h->host)
        snprintf(m->host, sizeof m->host, "%s", h->host);
    m->pid = h->pid;
    m->isa = h->isa;
    m->cores = (int)h->cores;
    m->memory_bytes = h->memory_bytes;
    m->hello = true;
}

static void note_stats(struct member *m, const Cordee__StageStats *s)
{
    m->weight_bytes = s->weight_bytes;
    m->kv_bytes = s->kv_bytes;
    m->scratch_bytes = s->scratch_bytes;
    m->rss_bytes = s->rss_bytes;
    m->steps = s->steps;
    m->rows = s->rows;
    m->busy_us = s->busy_us;
    m->wait_us = s->wait_us;
    m->sent_bytes = s->sent_bytes;
    m->received_bytes = s->received_bytes;
    m->threads = (int)s->threads;
    if (s->kernels)
        snprintf(m->kernels, sizeof m->kernels, "%s", s->kernels);
}

static err on_done(const struct assembly *a, int member, const Cordee__Done *d, bool *done,
                   struct rank_fault *fault, struct why *why)
{
    err code = d->code < ERR_COUNT ? (err)d->code : ERR_PEER;
    *done = true;
    if (code == ERR_OK)
        return ERR_OK;
    *fault = (struct rank_fault){.rank = member + 1};
    return why_set(why, code == ERR_NOMEM ? ERR_REFUSED : code, "rank %d on %s: %s", member + 1,
                   a->members[member].host, d->reason ? d->reason : err_text(code));
}

static err on_hello(const struct gather *g, struct member *m, int member, const Cordee__Hello *h,
                    struct why *why)
{
    if (h->rank != (uint32_t)member + 1 || h->epoch != g->o->epoch)
        return why_set(why, ERR_PEER, "rank %u of epoch %u where rank %d of epoch %u was expected", h->rank,
                       h->epoch, member + 1, g->o->epoch);
    if (!h->model_hash || strcmp(h->model_hash, source_load_hash(g->o->src)))
        return why_set(why, ERR_PEER,
                       "rank %d on %s has another file at %s, or other adapters, than rank 0 (hash %s, here %s); copy "
                       "the same files to every node",
                       member + 1, h->host ? h->host : "?", g->o->config->model,
                       h->model_hash ? h->model_hash : "none", source_load_hash(g->o->src));
    note_hello(m, h);
    return ERR_OK;
}

err assembly_on_lost(const struct assembly *a, const struct control_event *ev, struct rank_fault *fault,
                     struct why *why)
{
    const char *host = a->members[ev->member - 1].host;
    *fault = (struct rank_fault){ev->member, ev->loss == CONTROL_SILENT};
    return why_set(why, ERR_PEER, "rank %d%s%s was lost: %s", ev->member, *host ? " on " : "", host, ev->reason);
}

err assembly_on_frame(struct assembly *a, int member, const void *data, size_t len, bool *done,
                      struct rank_fault *fault, struct why *why)
{
    Cordee__Envelope *env;
    err e = frame_get(data, len, &env, why);
    *done = false;
    if (e)
        return why_prefix(why, ERR_PEER, "rank %d", member + 1);
    struct member *m = &a->members[member];
    switch (env->body_case) {
    case CORDEE__ENVELOPE__BODY_STAGE_STATS:
        note_stats(m, env->stage_stats);
        break;
    case CORDEE__ENVELOPE__BODY_READY:
        if (env->ready->stats)
            note_stats(m, env->ready->stats);
        m->ready = true;
        break;
    case CORDEE__ENVELOPE__BODY_LOG:
        log_at(env->log->level < LOG_LEVEL_COUNT ? (enum log_level)env->log->level : LOG_INFO, "rank %d: %s",
               member + 1, env->log->text);
        break;
    case CORDEE__ENVELOPE__BODY_DONE:
        e = on_done(a, member, env->done, done, fault, why);
        break;
    default:
        e = why_set(why, ERR_PEER, "rank %d sent an unexpected message %d", member + 1, (int)env->body_case);
    }
    frame_free(env);
    return e;
}

/* A frame while gathering: Hello, or what assembly_on_frame() knows. */
static err gather_frame(struct gather *g, int member, const void *data, size_t len, struct why *why)
{
    Cordee__Envelope *env;
    bool done;
    err e = frame_get(data, len, &env, why);
    if (e)
        return e;
    if (env->body_case == CORDEE__ENVELOPE__BODY_HELLO) {
        e = on_hello(g, &g->a->members[member], member, env->hello, why);
        if (e)
            *g->fault = (struct rank_fault){.rank = member + 1};
        frame_free(env);
        return e;
    }
    frame_free(env);
    e = assembly_on_frame(g->a, member, data, len, &done, g->fault, why);
    return e || !done ? e : why_set(why, ERR_PEER, "rank %d left before the start", member + 1);
}

static err gather_event(struct gather *g, struct control_event *ev, struct why *why)
{
    int member = ev->member - 1; /* control numbers are ranks */
    err e = ERR_OK;
    if (member < 0 || member >= g->a->n_stages) {
        free(ev->data);
        return why_set(why, ERR_PEER, "a member with number %d", ev->member);
    }
    switch (ev->kind) {
    case CONTROL_JOINED:
        g->a->members[member].joined = true;
        break;
    case CONTROL_FRAME:
        e = gather_frame(g, member, ev->data, ev->len, why);
        free(ev->data);
        break;
    case CONTROL_LOST:
        e = assembly_on_lost(g->a, ev, g->fault, why);
        break;
    }
    return e;
}

static bool all_hello(const struct assembly *a)
{
    for (int i = 0; i < a->n_stages; i++)
        if (!a->members[i].hello)
            return false;
    return true;
}

static bool all_ready(const struct assembly *a)
{
    for (int i = 0; i < a->n_stages; i++)
        if (!a->members[i].ready)
            return false;
    return true;
}

static err wait_until(struct gather *g, bool (*enough)(const struct assembly *), uint64_t ms, const char *what,
                      struct why *why)
{
    struct control_event ev;
    uint64_t until = now_ms() + ms;
    err e;
    while (!enough(g->a)) {
        if (g->o->stop && *g->o->stop)
            return why_set(why, ERR_CANCELLED, "stopped by a signal");
        if (now_ms() > until)
            return why_set(why, ERR_TIMEOUT, "not all ranks %s within %" PRIu64 " ms", what, ms);
        if (control_poll(g->hub, &ev) == ERR_AGAIN)
            sleep_us(POLL_US);
        else if ((e = gather_event(g, &ev, why)))
            return e;
    }
    return ERR_OK;
}

/* ---- the cut -------------------------------------------------------------- */

static int ranks_on(const struct assembly *a, const char *host)
{
    int n = 0;
    for (int i = 0; i < a->n_stages; i++)
        n += !strcmp(a->members[i].host, host);
    return n;
}

static void describe_nodes(const struct gather *g, struct plan_node *nodes)
{
    const struct config *c = g->o->config;
    for (int i = 0; i < g->a->n_stages; i++) {
        const struct member *m = &g->a->members[i];
        double free_bytes = (double)m->memory_bytes * MEMORY_SHARE;
        nodes[i] = (struct plan_node){.speed = 1};
        for (int j = 0; j < c->n_nodes; j++)
            if (!strcmp(c->nodes[j].host, m->host)) {
                if (c->nodes[j].memory_bytes && (double)c->nodes[j].memory_bytes < free_bytes)
                    free_bytes = (double)c->nodes[j].memory_bytes;
                if (c->nodes[j].read_gbs > 0)
                    nodes[i].speed = c->nodes[j].read_gbs;
            }
        nodes[i].speed /= ranks_on(g->a, m->host);
        nodes[i].memory_bytes = (uint64_t)(free_bytes / ranks_on(g->a, m->host));
    }
}

/* Shards were cut for a number of stages: with as many, each node needs only its own file. */
static err choose_cut(const struct gather *g, const struct plan_model *m, const struct plan_node *nodes,
                      struct plan_stage *stages, struct why *why)
{
    const struct shards *shards = source_shards(g->o->src);
    const int n = g->a->n_stages;
    if (!shards || shards->n_stages != n)
        return plan_cut(m, nodes, n, stages, why);
    for (int i = 0; i < n; i++)
        stages[i] = (struct plan_stage){.first = shards->stages[i].first, .last = shards->stages[i].last};
    err e = plan_given(m, nodes, n, stages, why);
    return e == ERR_INVAL ? why_prefix(why, ERR_FORMAT, "%s/" SHARDS_FILE, shards->path) : e;
}

static err cut(struct gather *g, struct why *why)
{
    struct assembly *a = g->a;
    struct plan_model m = {0};
    err e;
    struct plan_node *nodes = calloc((size_t)a->n_stages, sizeof *nodes);
    struct plan_stage *stages = calloc((size_t)a->n_stages, sizeof *stages);

    if (!nodes || !stages)
        FAIL(ERR_NOMEM, "plan");
    TRY(plan_model_fill(g->o->src, &a->limits, &a->kernels, g->o->threads, &m, why));
    describe_nodes(g, nodes);
    TRY(choose_cut(g, &m, nodes, stages, why));
    for (int i = 0; i < a->n_stages; i++)
        a->members[i].stage = stages[i];
out:
    plan_model_fini(&m);
    free(nodes);
    free(stages);
    return e;
}

static err send_plan(struct gather *g, struct why *why)
{
    struct assembly *a = g->a;
    Cordee__Plan plan = CORDEE__PLAN__INIT;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    struct buf frame;
    err e = ERR_OK;
    Cordee__StagePlan *parts = calloc((size_t)a->n_stages, sizeof *parts);
    Cordee__StagePlan **list = calloc((size_t)a->n_stages, sizeof *list);

    buf_init(&frame);
    if (!parts || !list)
        FAIL(ERR_NOMEM, "plan");
    for (int i = 0; i < a->n_stages; i++) {
        cordee__stage_plan__init(&parts[i]);
        parts[i].rank = (uint32_t)i + 1;
        parts[i].first = (uint32_t)a->members[i].stage.first;
        parts[i].last = (uint32_t)a->members[i].stage.last;
        parts[i].embed = a->members[i].stage.embed;
        parts[i].head = a->members[i].stage.head;
        list[i] = &parts[i];
    }
    plan.n_stage = (size_t)a->n_stages;
    plan.stage = list;
    plan.isa = a->kernels.isa;
    plan.precision = a->kernels.precision;
    plan.kv_type = a->limits.kv_type;
    plan.max_rows = (uint32_t)a->limits.max_rows;
    plan.max_slots = (uint32_t)a->limits.max_slots;
    plan.max_context = (uint32_t)a->limits.max_context;
    plan.n_pages = a->limits.n_pages;
    plan.wire = a->wire;
    env.body_case = CORDEE__ENVELOPE__BODY_PLAN;
    env.plan = &plan;
    TRY(frame_put_body(&frame, &env, why));
    for (int i = 0; i < a->n_stages; i++)
        TRY(control_send(g->hub, i + 1, frame.data, frame.len, why));
out:
    buf_fini(&frame);
    free(parts);
    free(list);
    return e;
}

static void log_plan(const struct assembly *a)
{
    for (int i = 0; i < a->n_stages; i++) {
        const struct member *m = &a->members[i];
        log_info("stage %d: rank %d on %s, layers %d..%d%s%s, %.1f MiB weights, %.1f MiB KV", i + 1, i + 1,
                 m->host, m->stage.first, m->stage.last, m->stage.embed ? ", embedding" : "",
                 m->stage.head ? ", head" : "", (double)m->weight_bytes / 1048576,
                 (double)m->kv_bytes / 1048576);
    }
}

err assembly_run(struct control *hub, const struct assembly_options *o, struct assembly *out,
                 struct rank_fault *fault, struct why *why)
{
    struct assembly a = {.n_stages = o->n_stages, .wire = wire_of(o->config->wire)};
    struct gather g = {hub, o, &a, fault};
    unsigned isa = o->isa;
    err e;

    a.members = calloc((size_t)o->n_stages, sizeof *a.members);
    if (!a.members)
        FAIL(ERR_NOMEM, "members");
    TRY(assembly_limits(o->config, o->src, &a.limits, why));
    TRY(wait_until(&g, all_hello, o->deadline_ms, "said hello", why));
    for (int i = 0; i < a.n_stages; i++)
        isa &= a.members[i].isa; /* one kernel set for the whole cluster */
    kernels_init(&a.kernels, isa, !strcmp(o->config->precision, "exact") ? PREC_EXACT : PREC_FAST);
    TRY(cut(&g, why));
    TRY(send_plan(&g, why));
    TRY(wait_until(&g, all_ready, (uint64_t)o->config->start_timeout_s * 1000, "loaded", why));
    log_plan(&a);
    *out = a;
    a.members = NULL;
out:
    free(a.members);
    return e;
}

void assembly_fini(struct assembly *a)
{
    free(a->members);
    *a = (struct assembly){0};
}
