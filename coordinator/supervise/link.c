/* link.c - see link.h.
 *
 * Any callback may cancel any request, its own included, so nothing here keeps an
 * entry over a callback: it is looked up again by its wire number.
 */
#include "coordinator/supervise/link.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/supervise/journal.h"
#include "coordinator/supervise/link_encode.h"
#include "proto/frame.h"

enum { RETRY_MS = 100 }; /* after rank 0 had no room */
/* A request that takes this many epochs down in a row without a token coming of it is
 * no victim but the cause: it fails, so that the others can live. */
#define LOST_MOST 5
#define QUERY_IDS (UINT64_C(1) << 63) /* wires never get there */

struct stats_wait {
    TAILQ_ENTRY(stats_wait) link;
    uint64_t id;
    stats_done_fn *done;
    void *ctx;
};

struct link {
    struct backend backend; /* first: the backend's address is the link's */
    struct link_options o;
    struct journal journal;
    TAILQ_HEAD(, stats_wait) stats;
    uint64_t n_queries;
    uint32_t epoch;
    bool ready;
};

static struct link *link_of(struct backend *b)
{
    return (struct link *)b;
}

/* ---- envelopes out ---------------------------------------------------------------------- */

static err envelope_send(struct link *l, const Cordee__Envelope *env, struct why *why)
{
    struct buf body = { 0 };
    err e = frame_put_body(&body, env, why);
    if (e == ERR_OK)
        e = l->o.send(l->o.ctx, body.data, body.len, why);
    buf_fini(&body);
    return e;
}

/* Asks rank 0. On failure the entry waits. */
static void entry_send(struct link *l, struct journal_entry *en)
{
    struct why why;
    struct buf body = { 0 };
    journal_renew(&l->journal, en);
    err e = link_encode(en, &body, &why);
    if (e == ERR_OK)
        e = l->o.send(l->o.ctx, body.data, body.len, &why);
    if (e == ERR_OK) {
        en->state = JOURNAL_SENT;
        en->since_ms = now_ms();
    } else {
        log_debug("link: request waits: %s", why.text);
    }
    buf_fini(&body);
}

static void cancel_send(struct link *l, uint64_t wire)
{
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Cancel body = CORDEE__CANCEL__INIT;
    env.has_id = true;
    env.id = wire;
    env.body_case = CORDEE__ENVELOPE__BODY_CANCEL;
    env.cancel = &body;
    if (envelope_send(l, &env, NULL) != ERR_OK)
        log_debug("link: a cancel was not sent; its epoch is gone");
}

/* ---- last events ---------------------------------------------------------------------------- */

static struct gen_event event_make(const struct journal_entry *en, enum gen_kind kind)
{
    return (struct gen_event){
        .kind = kind, .token = -1, .argmax = -1, .logprob = NAN, .n_prompt = en->req.n_ids,
        .n_generated = en->n_tokens, .n_cached = en->n_cached,
    };
}

/* m: with an embedding; NULL: without */
static void entry_finish_as(struct link *l, struct journal_entry *en, enum finish finish, const Cordee__Finished *m)
{
    struct gen_event ev = event_make(en, GEN_FINISHED);
    gen_event_fn *fn = en->fn;
    void *ctx = en->ctx;
    ev.finish = finish;
    if (m) {
        ev.embedding = m->embedding;
        ev.n_embedding = (int)m->n_embedding;
    }
    journal_drop(&l->journal, en);
    fn(ctx, &ev);
}

static void entry_finish(struct link *l, struct journal_entry *en, enum finish finish)
{
    entry_finish_as(l, en, finish, NULL);
}

static void entry_fail(struct link *l, struct journal_entry *en, err code, const char *reason)
{
    struct gen_event ev = event_make(en, GEN_FAILED);
    gen_event_fn *fn = en->fn;
    void *ctx = en->ctx;
    ev.code = code;
    ev.reason = reason;
    journal_drop(&l->journal, en);
    fn(ctx, &ev);
}

static void entry_wait(struct journal_entry *en)
{
    if (en->state != JOURNAL_WAITING)
        en->since_ms = now_ms();
    en->state = JOURNAL_WAITING;
}

/* ---- the backend ------------------------------------------------------------------------------ */

static err link_submit(struct backend *b, const struct gen_request *req, gen_event_fn *fn, void *ctx,
                       uint64_t *handle, struct why *why)
{
    struct link *l = link_of(b);
    struct journal_entry *en;
    int context = b->facts.max_context;
    if (l->journal.n >= l->o.max_requests)
        return why_set(why, ERR_FULL, "%d requests are waiting or running, the limit", l->journal.n);
    if (context > 0 && req->n_ids + (req->max_tokens > 0) > context)
        return why_set(why, ERR_LIMIT, "the prompt has %d tokens, the context is %d", req->n_ids, context);
    err e = journal_put(&l->journal, req, fn, ctx, &en, why);
    if (e != ERR_OK)
        return e;
    en->since_ms = now_ms();
    *handle = en->handle;
    if (l->ready)
        entry_send(l, en);
    return ERR_OK;
}

static void link_cancel(struct backend *b, uint64_t handle)
{
    struct link *l = link_of(b);
    struct journal_entry *en = journal_by_handle(&l->journal, handle);
    if (!en)
        return;
    if (en->state == JOURNAL_SENT)
        cancel_send(l, en->wire);
    entry_finish(l, en, FINISH_CANCELLED);
}

static bool link_ready(const struct backend *b)
{
    return ((const struct link *)b)->ready;
}

static const struct backend_ops link_ops = { link_submit, link_cancel, link_ready };

/* ---- epochs ------------------------------------------------------------------------------------ */

/* Sends everything that waits, oldest first. Entries that end on the way are
 * finished afterwards: their callbacks may change the list. */
static void waiting_send(struct link *l)
{
    struct journal_entry *en;
    enum finish finish;
    bool found = true;
    while (found) {
        found = false;
        TAILQ_FOREACH(en, &l->journal.entries, link)
            if (en->state == JOURNAL_WAITING && journal_complete(en, &finish)) {
                found = true;
                entry_finish(l, en, finish);
                break;
            }
    }
    TAILQ_FOREACH(en, &l->journal.entries, link)
        if (en->state == JOURNAL_WAITING)
            entry_send(l, en);
}

static void models_ask(struct link *l)
{
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__ModelsQuery body = CORDEE__MODELS_QUERY__INIT;
    env.has_id = true;
    env.id = QUERY_IDS | ++l->n_queries;
    env.body_case = CORDEE__ENVELOPE__BODY_MODELS_QUERY;
    env.models_query = &body;
    if (envelope_send(l, &env, NULL) != ERR_OK)
        log_debug("link: rank 0 could not be asked for its model");
}

void link_on_ready(struct link *l, uint32_t epoch)
{
    link_on_lost(l);
    l->ready = true;
    l->epoch = epoch;
    if (l->journal.n > 0)
        log_info("link: epoch %u is up, %d requests go on", epoch, l->journal.n);
    models_ask(l); /* the kernel set, and so the fingerprint, is the epoch's */
    waiting_send(l);
}

/* Answers all questions with "nobody can say". */
static void stats_give_up(struct link *l)
{
    struct stats_wait *w;
    while ((w = TAILQ_FIRST(&l->stats))) {
        TAILQ_REMOVE(&l->stats, w, link);
        w->done(w->ctx, NULL);
        free(w);
    }
}

void link_on_lost(struct link *l)
{
    struct journal_entry *en, *next;
    l->ready = false;
    for (en = TAILQ_FIRST(&l->journal.entries); en; en = next) {
        next = TAILQ_NEXT(en, link);
        en->n_lost += en->state == JOURNAL_SENT;
        entry_wait(en);
        if (en->n_lost < LOST_MOST)
            continue;
        entry_fail(l, en, ERR_PEER, "the cluster was lost again and again while it computed this request");
        next = TAILQ_FIRST(&l->journal.entries); /* the callback may have changed the list */
    }
    stats_give_up(l);
}

void link_tick(struct link *l)
{
    struct journal_entry *en;
    uint64_t now = now_ms();
    bool found = true;
    while (found) {
        found = false;
        TAILQ_FOREACH(en, &l->journal.entries, link)
            if (en->state == JOURNAL_WAITING && now - en->since_ms >= l->o.patience_ms) {
                found = true;
                entry_fail(l, en, ERR_TIMEOUT, "no cluster was ready for the request in time");
                break;
            }
    }
    if (l->ready)
        waiting_send(l);
}

int link_wait_ms(const struct link *l)
{
    const struct journal_entry *en;
    uint64_t now = now_ms(), least = UINT64_MAX;
    TAILQ_FOREACH(en, &l->journal.entries, link) {
        if (en->state != JOURNAL_WAITING)
            continue;
        uint64_t due = en->since_ms + l->o.patience_ms, left = due > now ? due - now : 0;
        if (l->ready && left > RETRY_MS)
            left = RETRY_MS;
        least = left < least ? left : least;
    }
    return least == UINT64_MAX ? -1 : least > 3600000 ? 3600000 : (int)least;
}

/* ---- envelopes in --------------------------------------------------------------------------------- */

static err token_deliver(struct link *l, struct journal_entry *en, const Cordee__Token *t, struct why *why)
{
    struct token_logprob top[SAMPLE_MAX_TOP];
    bool prompt = t->has_prompt && t->prompt;
    if (t->token > INT32_MAX || t->n_top > SAMPLE_MAX_TOP)
        return why_set(why, ERR_FORMAT, "rank 0 sent token %u with %zu alternatives", t->token, t->n_top);
    if (prompt && (en->n_prompt_seen >= en->req.n_ids || t->token != (uint32_t)en->req.ids[en->n_prompt_seen]))
        return why_set(why, ERR_FORMAT, "rank 0 scored prompt token %u, which was not asked", t->token);
    struct gen_event ev = event_make(en, prompt ? GEN_PROMPT : GEN_TOKEN);
    if (!prompt || en->n_prompt_seen >= en->n_prompt_told)
        en->n_lost = 0;
    ev.token = (int32_t)t->token;
    ev.logprob = t->has_logprob ? t->logprob : NAN;
    for (size_t i = 0; i < t->n_top; i++)
        top[i] = (struct token_logprob){ (int32_t)t->top[i]->token, t->top[i]->logprob };
    ev.top = top;
    ev.n_top = (int)t->n_top;
    ev.argmax = ev.n_top > 0 ? top[0].token : -1;
    if (prompt) {
        ev.pos = en->n_prompt_seen++;
        if (ev.pos < en->n_prompt_told)
            return ERR_OK; /* told in an earlier epoch */
        en->n_prompt_told++;
    } else {
        err e = journal_token(en, ev.token, why);
        if (e != ERR_OK) {
            cancel_send(l, en->wire);
            entry_fail(l, en, e, why->text);
            return ERR_OK;
        }
        ev.pos = en->req.n_ids + en->n_tokens - 1;
        ev.n_generated = en->n_tokens;
    }
    en->fn(en->ctx, &ev);
    return ERR_OK;
}

static err on_tokens(struct link *l, uint64_t wire, const Cordee__Tokens *m, struct why *why)
{
    for (size_t i = 0; i < m->n_token; i++) {
        struct journal_entry *en = journal_by_wire(&l->journal, wire);
        if (!en)
            return ERR_OK; /* cancelled, or of an earlier sending */
        err e = token_deliver(l, en, m->token[i], why);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* Rank 0 cancels what its own end cuts short; that is not the asker's end. */
static void on_finished(struct link *l, struct journal_entry *en, const Cordee__Finished *m)
{
    if (m->has_cached_tokens && m->cached_tokens <= (uint32_t)en->req.n_ids && en->n_cached == 0)
        en->n_cached = (int)m->cached_tokens;
    if (m->reason == CORDEE__FINISH_REASON__CANCELLED)
        entry_wait(en);
    else if (en->req.embed && (m->n_embedding == 0 || m->n_embedding > INT_MAX))
        entry_fail(l, en, ERR_PEER, "an embedding came back empty");
    else
        entry_finish_as(l, en, m->reason == CORDEE__FINISH_REASON__STOP ? FINISH_STOP : FINISH_LENGTH, m);
}

static void on_failed(struct link *l, struct journal_entry *en, const Cordee__Failed *m)
{
    err code = m->code > ERR_OK && m->code < ERR_COUNT ? (err)m->code : ERR_PEER;
    switch (code) {
    case ERR_FULL:      /* sent again soon */
    case ERR_AGAIN:
    case ERR_PEER:      /* the epoch is dying */
    case ERR_CANCELLED:
    case ERR_TIMEOUT:
        entry_wait(en);
        break;
    default:
        entry_fail(l, en, code, m->reason && m->reason[0] ? m->reason : err_text(code));
    }
}

/* For fixed char arrays of the facts. */
#define COPY(to, from) snprintf((to), sizeof(to), "%s", (from) ? (from) : "")

static void on_models(struct link *l, const Cordee__Models *m)
{
    struct model_facts *f = &l->backend.facts;
    if (m->n_model == 0)
        return;
    const Cordee__Model *model = m->model[0];
    if (f->name[0] && model->hash && strcmp(f->hash, model->hash) != 0)
        log_error("link: the engine serves another model file (hash %s, here %s)", model->hash, f->hash);
    COPY(f->fingerprint, model->fingerprint);
    f->max_context = model->context <= INT32_MAX ? (int)model->context : 0;
    f->n_adapters = 0;
    for (size_t i = 0; i < model->n_adapter && i < FACTS_MAX_ADAPTERS; i++)
        COPY(f->adapters[f->n_adapters++], model->adapter[i]);
    if (f->name[0])
        return; /* the rest is the owner's own */
    COPY(f->name, model->name);
    COPY(f->family, model->family);
    COPY(f->hash, model->hash);
    f->n_params = model->parameters;
    f->n_vocab = model->vocab <= INT32_MAX ? (int)model->vocab : 0;
}

static void on_stats(struct link *l, uint64_t id, const Cordee__Stats *stats)
{
    struct stats_wait *w;
    TAILQ_FOREACH(w, &l->stats, link)
        if (w->id == id) {
            TAILQ_REMOVE(&l->stats, w, link);
            w->done(w->ctx, stats);
            free(w);
            return;
        }
}

err link_on_frame(struct link *l, const void *body, size_t len, struct why *why)
{
    Cordee__Envelope *env;
    err e = frame_get(body, len, &env, why);
    if (e != ERR_OK)
        return e;
    struct journal_entry *en = journal_by_wire(&l->journal, env->id);
    switch (env->body_case) {
    case CORDEE__ENVELOPE__BODY_TOKENS:
        e = on_tokens(l, env->id, env->tokens, why);
        break;
    case CORDEE__ENVELOPE__BODY_FINISHED:
        if (en)
            on_finished(l, en, env->finished);
        break;
    case CORDEE__ENVELOPE__BODY_FAILED:
        if (en)
            on_failed(l, en, env->failed);
        else
            on_stats(l, env->id, NULL);
        break;
    case CORDEE__ENVELOPE__BODY_MODELS:
        on_models(l, env->models);
        break;
    case CORDEE__ENVELOPE__BODY_STATS:
        on_stats(l, env->id, env->stats);
        break;
    default:
        break; /* control-plane messages are the supervisor's */
    }
    frame_free(env);
    return e;
}

/* ---- the rest ----------------------------------------------------------------------------------------- */

void link_query_stats(void *link, stats_done_fn *done, void *done_ctx)
{
    struct link *l = link;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__StatsQuery body = CORDEE__STATS_QUERY__INIT;
    struct stats_wait *w = l->ready ? calloc(1, sizeof *w) : NULL;
    env.has_id = true;
    env.id = QUERY_IDS | ++l->n_queries;
    env.body_case = CORDEE__ENVELOPE__BODY_STATS_QUERY;
    env.stats_query = &body;
    if (!w || envelope_send(l, &env, NULL) != ERR_OK) {
        free(w);
        done(done_ctx, NULL);
        return;
    }
    *w = (struct stats_wait){ .id = env.id, .done = done, .ctx = done_ctx };
    TAILQ_INSERT_TAIL(&l->stats, w, link);
}

err link_open(const struct link_options *o, struct link **out, struct why *why)
{
    struct link *l = calloc(1, sizeof *l);
    if (!l)
        return why_set(why, ERR_NOMEM, "no memory for the link");
    l->o = *o;
    l->o.max_requests = o->max_requests ? o->max_requests : 4096;
    l->o.patience_ms = o->patience_ms ? o->patience_ms : 300000;
    l->backend.ops = &link_ops;
    l->backend.facts = o->facts;
    journal_init(&l->journal);
    TAILQ_INIT(&l->stats);
    *out = l;
    return ERR_OK;
}

void link_close(struct link *l)
{
    if (!l)
        return;
    link_on_lost(l);
    while (!TAILQ_EMPTY(&l->journal.entries))
        entry_fail(l, TAILQ_FIRST(&l->journal.entries), ERR_CANCELLED, "the server is shutting down");
    journal_fini(&l->journal);
    free(l);
}

struct backend *link_backend(struct link *l)
{
    return &l->backend;
}

int link_pending(const struct link *l)
{
    return l->journal.n;
}
