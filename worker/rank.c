/* rank.c - one stage rank from Hello to Done.
 *
 * The owner thread runs this file: it is the only caller of the transport. While
 * nothing happens it backs off to 50 us sleeps; when rank 0 says that nothing is in
 * flight (Rest) it waits on the control socket, which wakes it at once, so an idle
 * rank costs next to nothing. The control plane has its own thread (heartbeats go on while
 * weights load), which also fences the process if rank 0 falls silent.
 */
#include "worker/rank.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "base/pool.h"
#include "proto/frame.h"
#include "shard/stage.h"
#include "worker/worker.h"

#define PLAN_SLEEP_US 1000
#define FLIGHT_SLEEP_US 200 /* longest sleep while work is in flight: a long message needs several polls */
#define REST_MS 100 /* between looks at MPI while rank 0 says that nothing is in flight */
#define STATS_EVERY_MS 1000
#define STATS_NEWS_MS 100 /* after a pause, if there were steps since: short runs are told of as well */
#define SEND_BUFFERS 8

struct rank {
    struct transport *t;
    struct control *hub;
    const struct source *src;
    const struct rank_options *o;
    struct kernels kernels;
    struct pool *pool;
    struct stage *stage;
    struct worker *worker;
    struct stage_range range;
    struct stage_bytes bytes;
    uint64_t stats_at_ms, steps_told;
    bool resting;
};

static err send_envelope(struct rank *r, Cordee__Envelope *env, struct why *why)
{
    struct buf frame;
    buf_init(&frame);
    err e = frame_put_body(&frame, env, why);
    if (!e)
        e = control_send(r->hub, -1, frame.data, frame.len, why);
    buf_fini(&frame);
    return e;
}

static err send_hello(struct rank *r, struct why *why)
{
    Cordee__Hello hello = CORDEE__HELLO__INIT;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    hello.rank = (uint32_t)transport_rank(r->t);
    hello.epoch = r->o->epoch;
    hello.host = (char *)(uintptr_t)r->o->host;
    hello.has_pid = 1;
    hello.pid = (uint32_t)getpid();
    hello.has_isa = 1;
    hello.isa = r->o->isa;
    hello.has_cores = 1;
    hello.cores = (uint32_t)cpu_cores();
    hello.has_memory_bytes = 1;
    hello.memory_bytes = cpu_available_bytes();
    hello.model_hash = (char *)(uintptr_t)source_load_hash(r->src);
    env.body_case = CORDEE__ENVELOPE__BODY_HELLO;
    env.hello = &hello;
    return send_envelope(r, &env, why);
}

static void send_done(struct rank *r, err code, const struct why *reason)
{
    Cordee__Done done = CORDEE__DONE__INIT;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    struct why why;
    done.has_code = 1;
    done.code = code;
    done.reason = code ? (char *)(uintptr_t)reason->text : NULL;
    env.body_case = CORDEE__ENVELOPE__BODY_DONE;
    env.done = &done;
    if (send_envelope(r, &env, &why) != ERR_OK)
        log_debug("done not sent: %s", why.text);
}

static uint64_t resident_bytes(void)
{
    unsigned long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f) {
        if (fscanf(f, "%lu %lu", &total, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ready: as the answer to the plan; else the periodic report. */
static err send_stats(struct rank *r, bool ready, struct why *why)
{
    Cordee__StageStats s = CORDEE__STAGE_STATS__INIT;
    Cordee__Ready answer = CORDEE__READY__INIT;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    struct worker_stats w;
    char set[64];

    worker_stats(r->worker, &w);
    r->steps_told = w.steps;
    kernels_name(&r->kernels, set, sizeof set);
#define PUT(name, value) s.has_##name = 1, s.name = (value)
    PUT(rank, (uint32_t)transport_rank(r->t));
    PUT(first, (uint32_t)r->range.first);
    PUT(last, (uint32_t)r->range.last);
    PUT(embed, r->range.embed);
    PUT(head, r->range.head);
    PUT(weight_bytes, r->bytes.weights);
    PUT(kv_bytes, r->bytes.kv);
    PUT(scratch_bytes, r->bytes.scratch);
    PUT(threads, (uint32_t)pool_threads(r->pool));
    PUT(steps, w.steps);
    PUT(rows, w.rows);
    PUT(busy_us, w.busy_us);
    PUT(wait_us, w.wait_us);
    PUT(sent_bytes, transport_sent_bytes(r->t));
    PUT(received_bytes, transport_received_bytes(r->t));
    PUT(rss_bytes, resident_bytes());
#undef PUT
    s.host = (char *)(uintptr_t)r->o->host;
    s.kernels = set;
    if (ready) {
        answer.stats = &s;
        env.body_case = CORDEE__ENVELOPE__BODY_READY;
        env.ready = &answer;
    } else {
        env.body_case = CORDEE__ENVELOPE__BODY_STAGE_STATS;
        env.stage_stats = &s;
    }
    r->stats_at_ms = now_ms();
    return send_envelope(r, &env, why);
}

/* Everything in a plan that this rank will index or allocate by. */
static err check_plan(const struct rank *r, const Cordee__Plan *p, const Cordee__StagePlan **mine,
                      int *stage, struct why *why)
{
    const struct hparams *hp = source_hparams(r->src);
    int rank = transport_rank(r->t), size = transport_size(r->t);
    *mine = NULL;
    if ((int)p->n_stage != size - 1)
        return why_set(why, ERR_PEER, "the plan has %zu stages for %d ranks", p->n_stage, size - 1);
    for (size_t i = 0; i < p->n_stage; i++)
        if (p->stage[i]->rank == (uint32_t)rank) {
            *mine = p->stage[i];
            *stage = (int)i + 1;
        }
    if (!*mine || (*mine)->first > (*mine)->last || (*mine)->last > (uint32_t)hp->n_layer)
        return why_set(why, ERR_PEER, "the plan has no valid stage for rank %d", rank);
    if (p->precision >= PREC_COUNT || p->kv_type >= KV_TYPE_COUNT || p->wire >= WIRE_TYPE_COUNT ||
        (p->isa & ~r->o->isa) || !p->max_rows || !p->max_slots || !p->n_pages || !p->max_context)
        return why_set(why, ERR_PEER, "the plan asks for what this rank cannot do");
    return ERR_OK;
}

static err start_data_plane(struct rank *r, const Cordee__Plan *p, int stage, struct why *why)
{
    const struct hparams *hp = source_hparams(r->src);
    int n = (int)p->n_stage, sources[3], n_sources = 0;
    struct worker_options w = {
        .epoch = r->o->epoch,
        .stage = stage,
        .n_stages = n,
        .prev_rank = stage == 1 ? 0 : (int)p->stage[stage - 2]->rank,
        .next_rank = stage == n ? -1 : (int)p->stage[stage]->rank,
        .first_rank = (int)p->stage[0]->rank,
        .last_rank = (int)p->stage[n - 1]->rank,
        .wire = (enum wire_type)p->wire,
        .n_embd = hp->n_embd,
        .limits = {.max_rows = p->max_rows,
                   .max_seqs = p->max_slots,
                   .max_slots = p->max_slots,
                   .n_pages = p->n_pages,
                   .max_context = p->max_context,
                   .n_vocab = hp->n_vocab,
                   .page_rows = KV_PAGE,
                   .n_adapters = (uint32_t)source_n_adapters(r->src),
                   .n_hidden = hp->causal ? 0 : (uint32_t)hp->n_embd},
    };
    sources[n_sources++] = w.prev_rank;
    if (stage == 1 && n > 1)
        sources[n_sources++] = w.last_rank; /* the ring */
    err e = transport_start(r->t, sources, n_sources, worker_max_message(&w), SEND_BUFFERS, why);
    return e ? e : worker_open(r->t, r->stage, &w, &r->worker, why);
}

static err follow_plan(struct rank *r, const Cordee__Plan *p, struct why *why)
{
    err e;
    int stage = 0;
    const Cordee__StagePlan *mine;
    uint64_t t0 = now_ms();

    TRY(check_plan(r, p, &mine, &stage, why));
    kernels_init(&r->kernels, p->isa, (enum precision)p->precision);
    r->range = (struct stage_range){(int)mine->first, (int)mine->last, mine->embed, mine->head};
    struct stage_limits lim = {(int)p->max_rows, (int)p->max_slots, (int)p->max_context, p->n_pages,
                               (enum kv_type)p->kv_type};
    TRY(stage_measure(r->src, r->range, &lim, &r->kernels, r->o->threads, &r->bytes, why));
    TRY(stage_open(r->src, r->range, &lim, &r->kernels, r->pool, &r->stage, why));
    TRY(start_data_plane(r, p, stage, why));
    TRY(send_stats(r, true, why));
    log_info("stage %d of %d: layers %d..%d%s%s, %.1f MiB weights%s, %.1f MiB KV, ready in %.1f s", stage,
             (int)p->n_stage, r->range.first, r->range.last, r->range.embed ? ", embedding" : "",
             r->range.head ? ", head" : "", (double)r->bytes.weights / 1048576,
             stage_mapped(r->stage) ? " (mapped)" : "", (double)r->bytes.kv / 1048576,
             (double)(now_ms() - t0) / 1000);
out:
    return e;
}

/* One event of the control plane. *plan: set when the plan came (caller frees). */
static err on_control(struct rank *r, struct control_event *ev, Cordee__Envelope **plan, struct why *why)
{
    Cordee__Envelope *env = NULL;
    err e;
    if (ev->kind == CONTROL_LOST)
        return why_set(why, ERR_PEER, "rank 0 is gone: %s", ev->reason);
    if (ev->kind != CONTROL_FRAME)
        return ERR_OK;
    e = frame_get(ev->data, ev->len, &env, why);
    free(ev->data);
    if (e)
        return e;
    if (env->body_case == CORDEE__ENVELOPE__BODY_PLAN && plan && !*plan) {
        *plan = env;
        return ERR_OK;
    }
    if (env->body_case == CORDEE__ENVELOPE__BODY_REST)
        r->resting = env->rest->rest;
    else if (env->body_case != CORDEE__ENVELOPE__BODY_SHUTDOWN)
        log_warn("unexpected control message %d", (int)env->body_case);
    frame_free(env);
    return ERR_OK;
}

static err wait_for_plan(struct rank *r, Cordee__Envelope **plan, struct why *why)
{
    struct control_event ev;
    uint64_t until = now_ms() + r->o->plan_ms;
    err e;
    while (!*plan) {
        if (now_ms() > until)
            return why_set(why, ERR_TIMEOUT, "no plan from rank 0 within %u ms", r->o->plan_ms);
        if (control_poll(r->hub, &ev) == ERR_AGAIN)
            sleep_us(PLAN_SLEEP_US);
        else if ((e = on_control(r, &ev, plan, why)))
            return e;
    }
    return ERR_OK;
}

static void wait_for_work(struct rank *r, struct backoff *idle, bool busy)
{
    struct pollfd fd = {.fd = control_fd(r->hub), .events = POLLIN};
    if (r->resting && !busy && transport_unsent(r->t) == 0)
        poll(&fd, 1, REST_MS);
    else
        backoff_wait(idle, busy, FLIGHT_SLEEP_US);
}

/* Steps that rank 0 has not been told of. */
static bool news(const struct rank *r)
{
    struct worker_stats w;
    worker_stats(r->worker, &w);
    return w.steps != r->steps_told;
}

static err serve_steps(struct rank *r, struct why *why)
{
    struct control_event ev;
    struct backoff idle = {0};
    err e;
    for (;;) {
        bool busy = false;
        if ((e = worker_turn(r->worker, &busy, why)))
            return e == ERR_CANCELLED ? ERR_OK : e;
        while (control_poll(r->hub, &ev) != ERR_AGAIN)
            if ((e = on_control(r, &ev, NULL, why)))
                return e;
        uint64_t since_ms = now_ms() - r->stats_at_ms;
        bool tell = since_ms > STATS_EVERY_MS || (since_ms > STATS_NEWS_MS && !busy && news(r));
        if (tell && (e = send_stats(r, false, why)))
            return e;
        wait_for_work(r, &idle, busy);
    }
}

err rank_run(struct transport *t, struct control *hub, const struct source *src,
             const struct rank_options *o, struct why *why)
{
    struct rank r = {.t = t, .hub = hub, .src = src, .o = o};
    Cordee__Envelope *plan = NULL;
    err e;

    TRY(pool_open_on(o->threads, o->cpus, &r.pool, why));
    TRY(send_hello(&r, why));
    TRY(wait_for_plan(&r, &plan, why));
    TRY(follow_plan(&r, plan->plan, why));
    TRY(serve_steps(&r, why));
out:
    if (e != ERR_PEER)
        send_done(&r, e, why);
    if (plan)
        frame_free(plan);
    worker_close(r.worker);
    stage_close(r.stage);
    pool_close(r.pool);
    return e;
}
