/* rank0.c - see rank0.h.
 *
 * One owner thread: it polls the data plane, both control planes and the program's
 * listeners in turn and sleeps a little (50 us, 1 ms when idle) when nothing happened; when
 * nothing has been in flight for a while it tells all ranks to rest. Nothing here
 * computes, so the loop never stalls.
 */
#include "coordinator/engine/rank0.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/engine/assembly.h"
#include "coordinator/engine/engine.h"
#include "coordinator/front/service.h"
#include "model/batch.h"
#include "proto/frame.h"

#define FLIGHT_SLEEP_US 200 /* longest sleep while work is in flight */
#define IDLE_SLEEP_US 1000
#define DONE_WAIT_MS 10000
#define REST_AFTER_MS 500 /* without anything in flight: the ranks are told to rest */
#define REST_MS 100

struct rank0 {
    struct transport *t;
    const struct rank0_options *o;
    struct assembly assembly;
    struct engine *engine;
    struct front *front;
    struct service *service; /* `serve` as its only peer; NULL without serve */
    struct service_peer *peer;
    bool ready, stopping, resting;
    uint64_t busy_at_ms;
    int n_done;
    struct rank_fault fault;
    uint64_t started_ms;
};

/* ---- frames to serve -------------------------------------------------------- */

static void send_body(void *ctx, void *peer, const void *body, size_t len)
{
    struct rank0 *r = ctx;
    struct why why;
    (void)peer;
    if (control_send(r->o->serve, -1, body, len, &why) != ERR_OK)
        log_debug("to serve: %s", why.text); /* its loss arrives as an event */
}

static void send_envelope(struct rank0 *r, const Cordee__Envelope *env)
{
    struct buf frame;
    struct why why;
    if (!r->o->serve)
        return;
    buf_init(&frame);
    if (frame_put_body(&frame, env, &why) == ERR_OK)
        send_body(r, NULL, frame.data, frame.len);
    buf_fini(&frame);
}

static void send_ready(struct rank0 *r)
{
    Cordee__Ready ready = CORDEE__READY__INIT;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    env.body_case = CORDEE__ENVELOPE__BODY_READY;
    env.ready = &ready;
    send_envelope(r, &env);
}

static void send_done(struct rank0 *r, err code, const struct why *why)
{
    Cordee__Done done = CORDEE__DONE__INIT;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    done.has_code = 1;
    done.code = code;
    done.reason = code ? (char *)(uintptr_t)why->text : NULL;
    done.has_rank = code && r->fault.rank > 0;
    done.rank = (uint32_t)r->fault.rank;
    done.has_silent = done.has_rank;
    done.silent = r->fault.silent;
    env.body_case = CORDEE__ENVELOPE__BODY_DONE;
    env.done = &done;
    send_envelope(r, &env);
}

/* ---- reports ------------------------------------------------------------------ */

void rank0_health(void *rank0, struct health *out)
{
    const struct rank0 *r = rank0;
    *out = (struct health){.ready = r->ready && !r->stopping, .epoch = r->o->epoch,
                           .state = r->stopping ? "stopping" : "ready"};
}

static void fill_stage(const struct rank0 *r, int i, Cordee__StageStats *s)
{
    struct member *m = &r->assembly.members[i];
    cordee__stage_stats__init(s);
#define PUT(name, value) s->has_##name = 1, s->name = (value)
    PUT(rank, (uint32_t)i + 1);
    PUT(first, (uint32_t)m->stage.first);
    PUT(last, (uint32_t)m->stage.last);
    PUT(embed, m->stage.embed);
    PUT(head, m->stage.head);
    PUT(weight_bytes, m->weight_bytes);
    PUT(kv_bytes, m->kv_bytes);
    PUT(scratch_bytes, m->scratch_bytes);
    PUT(threads, (uint32_t)m->threads);
    PUT(steps, m->steps);
    PUT(rows, m->rows);
    PUT(busy_us, m->busy_us);
    PUT(wait_us, m->wait_us);
    PUT(sent_bytes, m->sent_bytes);
    PUT(received_bytes, m->received_bytes);
    PUT(rss_bytes, m->rss_bytes);
#undef PUT
    s->host = m->host;
    s->kernels = m->kernels;
}

void rank0_query_stats(void *rank0, stats_done_fn *done, void *done_ctx)
{
    struct rank0 *r = rank0;
    Cordee__Stats s = CORDEE__STATS__INIT;
    struct engine_stats e;
    int n = r->assembly.n_stages;
    Cordee__StageStats *stages = calloc((size_t)n, sizeof *stages);
    Cordee__StageStats **list = calloc((size_t)n, sizeof *list);

    engine_stats(r->engine, &e);
#define PUT(name, value) s.has_##name = 1, s.name = (value)
    PUT(epoch, r->o->epoch);
    PUT(uptime_s, (double)(now_ms() - r->started_ms) / 1000);
    PUT(requests, e.requests);
    PUT(active, e.active);
    PUT(queued, e.queued);
    PUT(prompt_tokens, e.prompt_tokens);
    PUT(generated_tokens, e.generated_tokens);
    PUT(cached_tokens, e.cached_tokens);
    PUT(failed, e.failed);
    PUT(cancelled, e.cancelled);
    PUT(pages_used, e.pages_used);
    PUT(pages, e.pages);
    PUT(steps, e.steps);
    PUT(prefix_pages, e.prefix_pages);
    PUT(prefix_pages_again, e.prefix_again);
    PUT(prefix_pages_evicted, e.prefix_evicted);
#undef PUT
    for (int i = 0; stages && list && i < n; i++) {
        fill_stage(r, i, &stages[i]);
        list[i] = &stages[i];
    }
    if (stages && list) {
        s.stage = list;
        s.n_stage = (size_t)n;
    }
    done(done_ctx, &s);
    free(stages);
    free(list);
}

_Static_assert((int)FACTS_MAX_ADAPTERS == (int)SOURCE_MAX_ADAPTERS, "one limit");
_Static_assert((int)CONFIG_MAX_LORA == (int)SOURCE_MAX_ADAPTERS, "one limit");

err rank0_adapters(const struct config *c, struct source *src, struct why *why)
{
    err e = ERR_OK;
    for (int i = 0; i < c->n_lora; i++)
        TRY(source_add_adapter(src, c->lora[i].name, c->lora[i].path, why));
out:
    return e;
}

void rank0_facts(const struct config *c, const struct source *src, struct model_facts *out)
{
    const struct hparams *hp = source_hparams(src);
    *out = (struct model_facts){.n_vocab = hp->n_vocab, .n_params = source_parameters(src),
                                .n_embedding = hp->causal ? 0 : hp->n_embd,
                                .pooling = hp->pool_first ? POOL_FIRST : POOL_MEAN};
    snprintf(out->name, sizeof out->name, "%s", c->name[0] ? c->name : source_name(src));
    snprintf(out->family, sizeof out->family, "%s", source_arch(src)->name);
    snprintf(out->hash, sizeof out->hash, "%s", source_hash(src));
    out->n_adapters = source_n_adapters(src);
    for (int i = 0; i < out->n_adapters; i++)
        snprintf(out->adapters[i], sizeof out->adapters[i], "%s", source_adapter_name(src, i));
}

/* ---- start ---------------------------------------------------------------------- */

/* How many equal stages the pipeline is worth: the bytes that a decode step reads, in
 * all, over those of the slowest stage. At least half of the real ones, so that with
 * the step sent ahead every stage has a micro-batch. */
static int full_stages(const struct rank0 *r)
{
    const struct source *src = r->o->src;
    uint64_t total = 0, most = 1;
    int n = r->assembly.n_stages;
    for (int i = 0; i < n; i++) {
        const struct plan_stage *s = &r->assembly.members[i].stage;
        uint64_t bytes = s->head ? source_head_bytes(src) : 0;
        for (int l = s->first; l < s->last; l++)
            bytes += source_layer_bytes(src, l);
        total += bytes;
        most = bytes > most ? bytes : most;
    }
    int worth = (int)((total + most / 2) / most), least = (n + 1) / 2;
    return worth < least ? least : worth > n ? n : worth;
}

static err open_engine(struct rank0 *r, struct why *why)
{
    const struct config *c = r->o->config;
    const struct hparams *hp = source_hparams(r->o->src);
    const struct stage_limits *lim = &r->assembly.limits;
    int last_rank = r->assembly.n_stages;
    char set[64];
    err e;
    struct engine_options o = {
        .epoch = r->o->epoch,
        .n_stages = r->assembly.n_stages,
        .full_stages = full_stages(r),
        .first_rank = 1,
        .last_rank = last_rank,
        .max_rows = lim->max_rows,
        .max_slots = lim->max_slots,
        .max_context = lim->max_context,
        .n_pages = lim->n_pages,
        .max_queue = (int)c->queue,
        .in_flight = (int)c->in_flight,
        .no_sharing = !c->prefix_cache,
        .n_vocab = hp->n_vocab,
        .n_embd = hp->n_embd,
        .long_prompt = hp->rope_scaling == ROPE_SCALING_LONGROPE ? hp->rope_ctx_orig : 0,
        .salt = (uint64_t)lim->kv_type,
        .timeout_ms = (unsigned)c->stall_timeout_s * 1000,
    };
    rank0_facts(c, r->o->src, &o.facts);
    o.facts.max_context = lim->max_context;
    kernels_name(&r->assembly.kernels, set, sizeof set);
    snprintf(o.facts.fingerprint, sizeof o.facts.fingerprint, "%.16s-%.40s", source_load_hash(r->o->src), set);
    TRY(transport_start(r->t, &last_rank, 1,
                        engine_max_message(lim->max_rows, lim->max_slots, lim->max_context, lim->n_pages,
                                           hp->n_embd, o.facts.n_embedding, r->assembly.wire),
                        engine_send_bufs(&o), why));
    TRY(engine_open(r->t, &o, &r->engine, why));
    TRY(front_open(engine_backend(r->engine), r->o->tok, &r->front, why));
out:
    return e;
}

static err open_service(struct rank0 *r, struct why *why)
{
    struct service_options o = {
        .front = r->front,
        .send = send_body,
        .ctx = r,
        .health = rank0_health,
        .health_ctx = r,
        .stats = rank0_query_stats,
        .stats_ctx = r,
        .max_calls = (int)(r->o->config->queue + r->o->config->slots),
    };
    err e = service_open(&o, &r->service, why);
    return e ? e : service_peer_open(r->service, r, &r->peer, why);
}

/* ---- the loop ------------------------------------------------------------------- */

static err poll_ranks(struct rank0 *r, struct why *why)
{
    struct control_event ev;
    err e = ERR_OK;
    while (!e && control_poll(r->o->hub, &ev) == ERR_OK) {
        int member = ev.member - 1;
        bool done = false;
        if (member < 0 || member >= r->assembly.n_stages)
            e = why_set(why, ERR_PEER, "a member with number %d", ev.member);
        else if (ev.kind == CONTROL_FRAME)
            e = assembly_on_frame(&r->assembly, member, ev.data, ev.len, &done, &r->fault, why);
        else if (ev.kind == CONTROL_LOST && !r->stopping)
            e = assembly_on_lost(&r->assembly, &ev, &r->fault, why);
        free(ev.data);
        r->n_done += done;
        if (!e && done && !r->stopping)
            e = why_set(why, ERR_PEER, "rank %d left unasked", ev.member);
    }
    return e;
}

static err on_serve_frame(struct rank0 *r, const uint8_t *data, size_t len, struct why *why)
{
    Cordee__Envelope *env;
    err e = frame_get(data, len, &env, why);
    if (e)
        return e;
    bool shutdown = env->body_case == CORDEE__ENVELOPE__BODY_SHUTDOWN;
    frame_free(env);
    if (!shutdown)
        return service_peer_frame(r->peer, data, len, why);
    r->stopping = true;
    return ERR_OK;
}

static err poll_serve(struct rank0 *r, bool *busy, struct why *why)
{
    struct control_event ev;
    err e = ERR_OK;
    while (r->o->serve && !e && control_poll(r->o->serve, &ev) == ERR_OK) {
        *busy = true;
        if (ev.kind == CONTROL_FRAME)
            e = on_serve_frame(r, ev.data, ev.len, why);
        else if (ev.kind == CONTROL_LOST)
            e = why_set(why, ERR_PEER, "serve is gone: %s", ev.reason);
        free(ev.data);
    }
    return e;
}

/* Tells every rank; a rank that cannot be told is noticed as lost. */
static void send_rest(struct rank0 *r, bool rest)
{
    Cordee__Rest message = CORDEE__REST__INIT;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    struct buf frame;
    struct why why;
    message.rest = rest;
    env.body_case = CORDEE__ENVELOPE__BODY_REST;
    env.rest = &message;
    buf_init(&frame);
    if (frame_put_body(&frame, &env, &why) == ERR_OK) {
        for (int i = 1; i <= r->assembly.n_stages; i++)
            if (control_send(r->o->hub, i, frame.data, frame.len, &why) != ERR_OK)
                log_debug("to rank %d: %s", i, why.text);
    }
    buf_fini(&frame);
    r->resting = rest;
}

/* An idle pipeline waits on control sockets and burns nothing; work wakes it at once. */
static void follow_load(struct rank0 *r)
{
    if (!engine_idle(r->engine)) {
        r->busy_at_ms = now_ms();
        if (r->resting)
            send_rest(r, false);
    } else if (!r->resting && now_ms() - r->busy_at_ms > REST_AFTER_MS) {
        send_rest(r, true);
    }
}

static void wait_for_work(struct rank0 *r, struct backoff *idle, bool busy)
{
    struct pollfd fds[] = {{.fd = control_fd(r->o->hub), .events = POLLIN},
                           {.fd = r->o->serve ? control_fd(r->o->serve) : -1, .events = POLLIN}};
    if (r->resting && !busy && r->o->serve) /* without serve, requests come through io_turn */
        poll(fds, 2, REST_MS);
    else
        backoff_wait(idle, busy, engine_idle(r->engine) ? IDLE_SLEEP_US : FLIGHT_SLEEP_US);
}

static err turn(struct rank0 *r, bool *busy, struct why *why)
{
    err e;
    TRY(poll_serve(r, busy, why));
    TRY(poll_ranks(r, why));
    if (r->o->io_turn)
        r->o->io_turn(r->o->ctx);
    TRY(engine_turn(r->engine, busy, why));
    if (r->service)
        service_flush(r->service);
out:
    return e;
}

/* Serves until asked to stop, then until nothing is in flight. */
static err serve(struct rank0 *r, struct why *why)
{
    struct backoff idle = {0};
    err e;
    while (!r->stopping || !engine_idle(r->engine)) {
        bool busy = false;
        if (r->o->stop && *r->o->stop)
            r->stopping = true;
        if (r->stopping && r->service) { /* its requests are serve's to replay or drop */
            service_close(r->service);
            r->service = NULL;
        }
        if ((e = turn(r, &busy, why)))
            return e;
        follow_load(r);
        wait_for_work(r, &idle, busy);
    }
    if (r->resting)
        send_rest(r, false); /* STOP comes over MPI */
    return ERR_OK;
}

/* STOP goes down the pipeline; every rank answers Done. */
static err take_down(struct rank0 *r, struct why *why)
{
    struct backoff idle = {0};
    uint64_t until = now_ms() + DONE_WAIT_MS;
    bool sent = false;
    err e;
    while (r->n_done < r->assembly.n_stages) {
        bool busy = false;
        if (now_ms() > until)
            return why_set(why, ERR_TIMEOUT, "%d of %d ranks did not report done",
                           r->assembly.n_stages - r->n_done, r->assembly.n_stages);
        if (!sent) {
            e = engine_stop(r->engine, why);
            if (e && e != ERR_AGAIN)
                return e;
            sent = e == ERR_OK;
        }
        if ((e = engine_turn(r->engine, &busy, why)) || (e = poll_ranks(r, why)))
            return e;
        backoff_wait(&idle, busy, IDLE_SLEEP_US);
    }
    return ERR_OK;
}

err rank0_run(struct transport *t, const struct rank0_options *o, struct why *why)
{
    struct rank0 *r = calloc(1, sizeof *r);
    err e;

    if (!r)
        return why_set(why, ERR_NOMEM, "rank 0");
    r->t = t;
    r->o = o;
    r->started_ms = now_ms();
    struct assembly_options ao = {
        .config = o->config,
        .src = o->src,
        .n_stages = transport_size(t) - 1,
        .epoch = o->epoch,
        .threads = o->threads,
        .isa = o->isa,
        .deadline_ms = o->hello_ms,
        .stop = o->stop,
    };
    TRY(assembly_run(o->hub, &ao, &r->assembly, &r->fault, why));
    TRY(open_engine(r, why));
    if (o->serve)
        TRY(open_service(r, why));
    r->ready = true;
    if (o->on_ready)
        TRY(o->on_ready(o->ctx, r, r->front, why));
    send_ready(r);
    TRY(serve(r, why));
    TRY(take_down(r, why));
out:
    send_done(r, e, why);
    if (o->on_end)
        o->on_end(o->ctx);
    if (r->service)
        service_close(r->service);
    front_close(r->front);
    engine_close(r->engine);
    assembly_fini(&r->assembly);
    free(r);
    return e;
}
