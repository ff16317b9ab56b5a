/* service.c - see service.h.
 *
 * Everything in an Envelope is hostile: counts and sizes are bounded by the frame's
 * cap and the unpacker's allocator, values are checked here or in front_submit().
 * Tokens wait in an arena per request until the owner's turn ends, because
 * protobuf-c packs only whole messages.
 */
#include "coordinator/front/service.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/arena.h"
#include "base/log.h"
#include "coordinator/front/served.h"
#include "coordinator/front/service_query.h"
#include "proto/frame.h"

enum { BATCH_MAX = 512 }; /* tokens in one frame */

struct service_call {
    LIST_ENTRY(service_call) link;
    LIST_ENTRY(service_call) dirty_link;
    struct service_peer *peer;
    uint64_t id;     /* the peer's */
    uint64_t handle; /* the front's */
    bool dirty;
    struct arena arena; /* of the waiting tokens */
    Cordee__Token *waiting[BATCH_MAX];
    size_t n_waiting;
};

struct service_query {
    LIST_ENTRY(service_query) link;
    struct service_peer *peer; /* NULL: it left */
    uint64_t id;
};

struct service_peer {
    LIST_ENTRY(service_peer) link;
    struct service *service;
    void *name;
    int n_calls;
    LIST_HEAD(, service_call) calls;
    LIST_HEAD(, service_query) queries;
};

struct service {
    struct service_options o;
    LIST_HEAD(, service_peer) peers;
    LIST_HEAD(, service_call) dirty;
};

/* ---- answers -------------------------------------------------------------------------- */

void service_answer(struct service_peer *p, uint64_t id, Cordee__Envelope *env)
{
    env->has_id = true;
    env->id = id;
    struct buf body = { 0 };
    struct why why;
    if (frame_put_body(&body, env, &why) == ERR_OK)
        p->service->o.send(p->service->o.ctx, p->name, body.data, body.len);
    else
        log_error("service: an answer is lost: %s", why.text);
    buf_fini(&body);
}

void service_answer_failed(struct service_peer *p, uint64_t id, err code, const char *reason)
{
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Failed m = CORDEE__FAILED__INIT;
    m.code = (uint32_t)code;
    m.reason = (char *)(uintptr_t)reason;
    env.body_case = CORDEE__ENVELOPE__BODY_FAILED;
    env.failed = &m;
    service_answer(p, id, &env);
}

/* ---- tokens of a call -------------------------------------------------------------------- */

static void call_flush(struct service_call *c)
{
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Tokens m = CORDEE__TOKENS__INIT;
    if (c->dirty)
        LIST_REMOVE(c, dirty_link);
    c->dirty = false;
    if (c->n_waiting == 0)
        return;
    m.token = c->waiting;
    m.n_token = c->n_waiting;
    env.body_case = CORDEE__ENVELOPE__BODY_TOKENS;
    env.tokens = &m;
    service_answer(c->peer, c->id, &env);
    c->n_waiting = 0;
    arena_fini(&c->arena);
    arena_init(&c->arena, 0);
}

static void call_drop(struct service_call *c)
{
    if (c->dirty)
        LIST_REMOVE(c, dirty_link);
    LIST_REMOVE(c, link);
    c->peer->n_calls--;
    arena_fini(&c->arena);
    free(c);
}

/* Cancels without a last event: the front sends none. */
static void call_cancel(struct service_call *c)
{
    front_cancel(c->peer->service->o.front, c->handle);
    call_drop(c);
}

static err token_put(struct service_call *c, const struct front_event *ev)
{
    bool text = ev->raw_len > 0 || ev->text_len > 0;
    Cordee__Token *t = arena_alloc(&c->arena, sizeof *t);
    char *shown = arena_strndup(&c->arena, ev->text, ev->text_len);
    char *raw = arena_strndup(&c->arena, ev->raw, ev->raw_len);
    Cordee__TopLogprob *top = arena_array(&c->arena, (size_t)ev->n_top + 1, sizeof *top);
    Cordee__TopLogprob **list = arena_array(&c->arena, (size_t)ev->n_top + 1, sizeof *list);
    if (!t || !shown || !raw || !top || !list)
        return ERR_NOMEM;
    cordee__token__init(t);
    t->token = (uint32_t)ev->token;
    t->has_prompt = t->prompt = ev->prompt;
    t->has_text = t->has_raw = text;
    t->text = service_bytes(shown, ev->text_len);
    t->raw = service_bytes(raw, ev->raw_len);
    t->has_logprob = ev->has_logprob && ev->logprob == ev->logprob; /* not of a prompt's first token */
    t->logprob = t->has_logprob ? ev->logprob : 0;
    for (int i = 0; i < ev->n_top; i++) {
        cordee__top_logprob__init(&top[i]);
        top[i].token = (uint32_t)ev->top[i].token;
        top[i].logprob = ev->top[i].logprob;
        list[i] = &top[i];
    }
    t->top = list;
    t->n_top = (size_t)ev->n_top;
    c->waiting[c->n_waiting++] = t;
    return ERR_OK;
}

static void on_token(struct service_call *c, const struct front_event *ev)
{
    struct service *s = c->peer->service;
    if (token_put(c, ev) != ERR_OK) {
        service_answer_failed(c->peer, c->id, ERR_NOMEM, "no memory for a token");
        call_cancel(c);
        return;
    }
    if (c->n_waiting == BATCH_MAX) {
        call_flush(c);
    } else if (!c->dirty) {
        bool first = LIST_EMPTY(&s->dirty);
        c->dirty = true;
        LIST_INSERT_HEAD(&s->dirty, c, dirty_link);
        if (first && s->o.on_dirty)
            s->o.on_dirty(s->o.ctx);
    }
}

static void on_finished(struct service_call *c, const struct front_event *ev)
{
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Finished m = CORDEE__FINISHED__INIT;
    call_flush(c);
    m.reason = ev->finish == FINISH_STOP     ? CORDEE__FINISH_REASON__STOP
               : ev->finish == FINISH_LENGTH ? CORDEE__FINISH_REASON__LENGTH
                                             : CORDEE__FINISH_REASON__CANCELLED;
    m.has_prompt_tokens = m.has_generated_tokens = m.has_cached_tokens = m.has_seed = true;
    m.prompt_tokens = (uint32_t)ev->n_prompt;
    m.generated_tokens = (uint32_t)ev->n_generated;
    m.cached_tokens = (uint32_t)ev->n_cached;
    m.seed = ev->seed;
    m.has_text = ev->text_len > 0;
    m.text = service_bytes(ev->text, ev->text_len);
    m.has_stop = ev->stop != NULL;
    m.stop = service_bytes(ev->stop, ev->stop_len);
    m.has_stop_id = ev->stop_id >= 0;
    m.stop_id = ev->stop_id >= 0 ? (uint32_t)ev->stop_id : 0;
    m.n_embedding = (size_t)ev->n_embedding;
    m.embedding = (float *)(uintptr_t)ev->embedding;
    env.body_case = CORDEE__ENVELOPE__BODY_FINISHED;
    env.finished = &m;
    service_answer(c->peer, c->id, &env);
    call_drop(c);
}

static void on_event(void *ctx, const struct front_event *ev)
{
    struct service_call *c = ctx;
    switch (ev->kind) {
    case FRONT_TOKEN:
        on_token(c, ev);
        break;
    case FRONT_FINISHED:
        on_finished(c, ev);
        break;
    case FRONT_FAILED:
        call_flush(c);
        service_answer_failed(c->peer, c->id, ev->code, ev->reason);
        call_drop(c);
        break;
    }
}

/* ---- Generate --------------------------------------------------------------------------------- */

static struct service_call *call_find(const struct service_peer *p, uint64_t id)
{
    struct service_call *c;
    LIST_FOREACH(c, &p->calls, link)
        if (c->id == id)
            return c;
    return NULL;
}

/* Unsigned numbers of the wire that must fit an int. */
static err small(uint32_t x, const char *name, int *out, struct why *why)
{
    if (x > INT_MAX)
        return why_set(why, ERR_INVAL, "%s is %u", name, x);
    *out = (int)x;
    return ERR_OK;
}

static err sampling_read(const Cordee__Sampling *s, struct arena *arena, struct front_request *out,
                         struct why *why)
{
    static const Cordee__Sampling defaults = CORDEE__SAMPLING__INIT;
    err e = ERR_OK;
    struct sample_params *p = &out->sampling;
    if (!s)
        s = &defaults;
    *p = (struct sample_params){
        .temperature = s->temperature, .top_p = s->top_p, .min_p = s->min_p,
        .repetition_penalty = s->repetition_penalty, .presence_penalty = s->presence_penalty,
        .frequency_penalty = s->frequency_penalty, .seed = s->seed,
    };
    out->have_seed = s->has_seed;
    TRY(small(s->top_k, "top_k", &p->top_k, why));
    if (s->n_bias > INT_MAX)
        FAIL(ERR_INVAL, "%zu biases", s->n_bias);
    struct token_bias *bias = arena_array(arena, s->n_bias + 1, sizeof *bias);
    if (!bias)
        FAIL(ERR_NOMEM, "no memory for %zu biases", s->n_bias);
    for (size_t i = 0; i < s->n_bias; i++)
        bias[i] = (struct token_bias){ (int32_t)s->bias[i]->token, s->bias[i]->bias };
    p->bias = bias;
    p->n_bias = (int)s->n_bias;
out:
    return e;
}

static err generate_read(const struct service *s, const Cordee__Generate *g, struct arena *arena,
                         struct front_request *r, struct why *why)
{
    err e = ERR_OK;
    const struct model_facts *facts = &front_backend(s->o.front)->facts;
    TRY(served_find(facts, g->model, g->model ? strlen(g->model) : 0, &r->adapter, why));
    if (g->adapter && g->adapter[0])
        r->adapter = g->adapter;
    if (g->has_text == (g->n_ids > 0))
        FAIL(ERR_INVAL, "a request needs either text or ids");
    if (g->n_ids > INT_MAX || g->n_stop_ids > INT_MAX || g->n_resume > INT_MAX || g->n_stop > STOP_MAX_BYTES)
        FAIL(ERR_LIMIT, "a list in the request is too long");
    TRY(sampling_read(g->sampling, arena, r, why));
    TRY(small(g->max_tokens, "max_tokens", &r->max_tokens, why));
    TRY(small(g->min_tokens, "min_tokens", &r->min_tokens, why));
    TRY(small(g->logprobs, "logprobs", &r->n_top, why));
    if (g->has_text) {
        r->text = g->text.data ? (const char *)g->text.data : "";
        r->text_len = g->text.len;
    }
    struct stop_string *stop = arena_array(arena, g->n_stop + 1, sizeof *stop);
    if (!stop)
        FAIL(ERR_NOMEM, "no memory for stop strings");
    for (size_t i = 0; i < g->n_stop; i++)
        stop[i] = (struct stop_string){ (const char *)g->stop[i].data, g->stop[i].len };
    r->stop = stop;
    r->n_stop = (int)g->n_stop;
    r->ids = service_ids(g->ids);
    r->n_ids = (int)g->n_ids;
    r->stop_ids = service_ids(g->stop_ids);
    r->n_stop_ids = (int)g->n_stop_ids;
    r->resume = service_ids(g->resume);
    r->n_resume = (int)g->n_resume;
    r->sampling.choice = g->choice;
    r->n_choices = 1;
    r->add_special = g->add_special;
    r->parse_special = g->parse_special;
    r->ignore_eos = g->ignore_eos;
    r->logprobs = g->has_logprobs;
    r->echo = g->echo;
    r->echo_from = (int)g->echo_from;
    r->priority = g->priority;
    r->key = g->key;
    r->no_text = g->no_text;
    r->embed = g->embed;
    if (r->n_resume > 0 && !r->no_text)
        FAIL(ERR_INVAL, "resume goes only with no_text");
out:
    return e;
}

static void on_generate(struct service_peer *p, uint64_t id, const Cordee__Generate *g)
{
    err e;
    struct service *s = p->service;
    struct why reason, *why = &reason;
    struct front_request r = { 0 };
    struct arena arena;
    struct service_call *c = NULL;
    int max = s->o.max_calls ? s->o.max_calls : 4096;
    arena_init(&arena, 0);
    if (call_find(p, id))
        FAIL(ERR_INVAL, "a request with this id is still running");
    if (p->n_calls >= max)
        FAIL(ERR_FULL, "%d requests of this connection are running, the limit", p->n_calls);
    TRY(generate_read(s, g, &arena, &r, why));
    c = calloc(1, sizeof *c);
    if (!c)
        FAIL(ERR_NOMEM, "no memory for a request");
    c->peer = p;
    c->id = id;
    arena_init(&c->arena, 0);
    TRY(front_submit(s->o.front, &r, on_event, c, &c->handle, why));
    LIST_INSERT_HEAD(&p->calls, c, link);
    p->n_calls++;
    c = NULL;
out:
    free(c);
    arena_fini(&arena);
    if (e != ERR_OK)
        service_answer_failed(p, id, e, reason.text);
}

static void on_cancel(struct service_peer *p, uint64_t id)
{
    struct service_call *c = call_find(p, id);
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Finished m = CORDEE__FINISHED__INIT;
    if (!c)
        return; /* it ended meanwhile */
    call_flush(c);
    call_cancel(c);
    m.reason = CORDEE__FINISH_REASON__CANCELLED;
    env.body_case = CORDEE__ENVELOPE__BODY_FINISHED;
    env.finished = &m;
    service_answer(p, id, &env);
}

/* ---- statistics: the one question whose answer may come later ---------------------------------- */

static void stats_done(void *ctx, const Cordee__Stats *stats)
{
    struct service_query *q = ctx;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    if (q->peer && stats) {
        env.body_case = CORDEE__ENVELOPE__BODY_STATS;
        env.stats = (Cordee__Stats *)(uintptr_t)stats;
        service_answer(q->peer, q->id, &env);
    } else if (q->peer) {
        service_answer_failed(q->peer, q->id, ERR_PEER, "no statistics at the moment");
    }
    if (q->peer)
        LIST_REMOVE(q, link);
    free(q);
}

static void on_stats(struct service_peer *p, uint64_t id)
{
    struct service *s = p->service;
    struct service_query *q = s->o.stats ? calloc(1, sizeof *q) : NULL;
    if (!q) {
        service_answer_failed(p, id, ERR_UNSUPPORTED, "no statistics here");
        return;
    }
    q->peer = p;
    q->id = id;
    LIST_INSERT_HEAD(&p->queries, q, link);
    s->o.stats(s->o.stats_ctx, stats_done, q);
}

err service_peer_frame(struct service_peer *p, const void *body, size_t len, struct why *why)
{
    Cordee__Envelope *env;
    err e = frame_get(body, len, &env, why);
    if (e != ERR_OK)
        return e;
    switch (env->body_case) {
    case CORDEE__ENVELOPE__BODY_GENERATE:
        on_generate(p, env->id, env->generate);
        break;
    case CORDEE__ENVELOPE__BODY_CANCEL:
        on_cancel(p, env->id);
        break;
    case CORDEE__ENVELOPE__BODY_TOKENIZE:
        service_tokenize(p, env->id, env->tokenize);
        break;
    case CORDEE__ENVELOPE__BODY_DETOKENIZE:
        service_detokenize(p, env->id, env->detokenize);
        break;
    case CORDEE__ENVELOPE__BODY_MODELS_QUERY:
        service_models(p, env->id);
        break;
    case CORDEE__ENVELOPE__BODY_HEALTH_QUERY:
        service_health(p, env->id);
        break;
    case CORDEE__ENVELOPE__BODY_STATS_QUERY:
        on_stats(p, env->id);
        break;
    default:
        service_answer_failed(p, env->id, ERR_UNSUPPORTED, "this kind of message is not a request");
    }
    frame_free(env);
    return ERR_OK;
}

const struct service_options *service_peer_options(const struct service_peer *p)
{
    return &p->service->o;
}

/* ---- open and close ---------------------------------------------------------------------------------- */

err service_peer_open(struct service *s, void *peer, struct service_peer **out, struct why *why)
{
    struct service_peer *p = calloc(1, sizeof *p);
    if (!p)
        return why_set(why, ERR_NOMEM, "no memory for a connection");
    p->service = s;
    p->name = peer;
    LIST_INSERT_HEAD(&s->peers, p, link);
    *out = p;
    return ERR_OK;
}

void service_peer_close(struct service_peer *p)
{
    struct service_query *q;
    while (!LIST_EMPTY(&p->calls))
        call_cancel(LIST_FIRST(&p->calls));
    while ((q = LIST_FIRST(&p->queries))) {
        LIST_REMOVE(q, link);
        q->peer = NULL;
    }
    LIST_REMOVE(p, link);
    free(p);
}

void service_flush(struct service *s)
{
    while (!LIST_EMPTY(&s->dirty))
        call_flush(LIST_FIRST(&s->dirty));
}

err service_open(const struct service_options *o, struct service **out, struct why *why)
{
    struct service *s = calloc(1, sizeof *s);
    if (!s)
        return why_set(why, ERR_NOMEM, "no memory for the framed API");
    s->o = *o;
    *out = s;
    return ERR_OK;
}

void service_close(struct service *s)
{
    if (!s)
        return;
    while (!LIST_EMPTY(&s->peers))
        service_peer_close(LIST_FIRST(&s->peers));
    free(s);
}
