/* pipe.c - see pipe.h. */
#include "tests/cluster/pipe.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "kernels/kernels.h"

_Static_assert(ENGINE_PAGE_ROWS == KV_PAGE, "engine and kernels agree on a page");

struct rank_thread {
    pthread_t thread;
    struct transport *t;
    struct stage *stage;
    struct worker_options o;
    atomic_bool *stop;
    err e;
    struct why why;
};

struct pipe {
    struct transport *planes[PIPE_MAX_STAGES + 1];
    struct rank_thread ranks[PIPE_MAX_STAGES];
    int n_stages;
    struct engine *engine;
    atomic_bool stop;
    bool failed;
};

static void *run_rank(void *arg)
{
    struct rank_thread *r = arg;
    struct worker *w = NULL;
    struct backoff idle = {0};
    r->e = worker_open(r->t, r->stage, &r->o, &w, &r->why);
    while (r->e == ERR_OK && !atomic_load(r->stop)) {
        bool busy = false;
        r->e = worker_turn(w, &busy, &r->why);
        backoff_wait(&idle, busy, 500);
    }
    if (r->e == ERR_CANCELLED)
        r->e = ERR_OK;
    worker_close(w);
    return NULL;
}

static void must(err e, const struct why *why)
{
    if (e) {
        fprintf(stderr, "%s: %s\n", err_name(e), why->text);
        abort();
    }
}

static void start_rank(struct pipe *p, const struct pipe_options *o, int i, size_t max_bytes)
{
    struct why why = {""};
    int n = o->n_stages, rank = i + 1;
    struct rank_thread *r = &p->ranks[i];
    const struct engine_options *eo = &o->engine;
    r->t = p->planes[rank];
    r->stage = o->stages[i];
    r->stop = &p->stop;
    r->o = (struct worker_options){
        .epoch = 7, .stage = rank, .n_stages = n, .prev_rank = rank - 1, .next_rank = rank < n ? rank + 1 : -1,
        .first_rank = 1, .last_rank = n, .wire = o->wire, .n_embd = eo->n_embd,
        .limits = {.max_rows = (uint32_t)eo->max_rows, .max_seqs = (uint32_t)eo->max_slots,
                   .max_slots = (uint32_t)eo->max_slots, .n_pages = eo->n_pages,
                   .max_context = (uint32_t)eo->max_context, .n_vocab = eo->n_vocab, .page_rows = KV_PAGE},
    };
    int from[2] = {rank - 1, n}, n_from = rank == 1 && n > 1 ? 2 : 1;
    must(transport_start(r->t, from, n_from, max_bytes, 4, &why), &why);
}

struct pipe *pipe_open(const struct pipe_options *o)
{
    struct why why = {""};
    struct pipe *p = calloc(1, sizeof *p);
    struct engine_options eo = o->engine;
    eo.epoch = 7;
    eo.n_stages = o->n_stages;
    eo.first_rank = 1;
    eo.last_rank = p->n_stages = o->n_stages;
    must(transport_loop_open(o->n_stages + 1, p->planes, &why), &why);
    if (o->fault_rank >= 0) {
        struct transport **t = &p->planes[o->fault_rank];
        must(transport_fault_open(*t, &o->fault, 1, t, &why), &why);
    }
    size_t max_bytes = engine_max_message(eo.max_rows, eo.max_slots, eo.max_context, eo.n_pages, eo.n_embd, 0,
                                          o->wire);
    must(transport_start(p->planes[0], &eo.last_rank, 1, max_bytes, engine_send_bufs(&eo), &why), &why);
    must(engine_open(p->planes[0], &eo, &p->engine, &why), &why);
    for (int i = 0; i < o->n_stages; i++)
        start_rank(p, o, i, max_bytes);
    for (int i = 0; i < o->n_stages; i++)
        if (pthread_create(&p->ranks[i].thread, NULL, run_rank, &p->ranks[i]))
            abort();
    return p;
}

struct engine *pipe_engine(struct pipe *p)
{
    return p->engine;
}

err pipe_close(struct pipe *p, struct why *why)
{
    err e = ERR_OK;
    if (!p->failed && engine_idle(p->engine)) {
        bool busy;
        must(engine_stop(p->engine, why), why);
        while (transport_unsent(p->planes[0]) > 0)
            must(engine_turn(p->engine, &busy, why), why);
    } else {
        sleep_us(20000); /* a worker that sees the damage says so */
        atomic_store(&p->stop, true);
    }
    for (int i = 0; i < p->n_stages; i++) {
        pthread_join(p->ranks[i].thread, NULL);
        if (!e && p->ranks[i].e) {
            e = p->ranks[i].e;
            *why = p->ranks[i].why;
        }
    }
    engine_close(p->engine);
    for (int i = 0; i <= p->n_stages; i++)
        transport_close(p->planes[i]);
    free(p);
    return e;
}

void take_event(void *ctx, const struct gen_event *ev)
{
    struct taken *t = ctx;
    assert(!t->over);
    t->n_top_last = ev->n_top;
    if (ev->kind == GEN_PROMPT) {
        assert(t->n_tokens == 0 && ev->pos == t->n_scores);
        t->score_tokens[t->n_scores] = ev->token;
        t->scores[t->n_scores++] = ev->logprob;
    } else if (ev->kind == GEN_TOKEN) {
        t->tokens[t->n_tokens] = ev->token;
        t->logprobs[t->n_tokens++] = ev->logprob;
        if (t->cancel_with && t->n_tokens == t->cancel_after)
            backend_cancel(t->cancel_with, t->handle);
    } else {
        t->over = true;
        t->last = *ev;
    }
}

void pipe_submit(struct pipe *p, const struct gen_request *req, struct taken *t)
{
    struct why why = {""};
    *t = (struct taken){.cancel_with = t->cancel_with, .cancel_after = t->cancel_after, .n_scores = req->score_from};
    must(backend_submit(engine_backend(p->engine), req, take_event, t, &t->handle, &why), &why);
}

err pipe_run(struct pipe *p, struct taken *t, int n, struct why *why)
{
    struct backoff idle = {0};
    err e;
    for (;;) {
        bool busy = false;
        if ((e = engine_turn(p->engine, &busy, why))) {
            p->failed = true;
            return e;
        }
        int over = 0;
        for (int i = 0; i < n; i++)
            over += t[i].over;
        if (over == n && engine_idle(p->engine))
            return ERR_OK;
        backoff_wait(&idle, busy, 500);
    }
}
