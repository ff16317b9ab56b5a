/* runner.c - see runner.h.
 *
 * Hand-over is two counters: `given` is the owner's, `computed` the runner's. The
 * mutex and the condition only serve to sleep: the runner looks at `given` for a
 * moment before it parks, since in a busy pipeline the next job is near.
 */
#include "worker/runner.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pause.h"

enum { SPIN_NS = 20000 };

_Static_assert(WIRE_MAX_TOP == SAMPLE_MAX_TOP, "as many alternatives on the wire as in a result");
_Static_assert(sizeof(struct wire_top) == sizeof(struct token_logprob) &&
                   offsetof(struct wire_top, logprob) == offsetof(struct token_logprob, logprob),
               "alternatives travel as they are");
_Static_assert(sizeof(struct token_bias) == 8 && offsetof(struct token_bias, bias) == 4,
               "biases are used where they lie in the message");

struct end_list {
    int n;
    int32_t tokens[WIRE_MAX_END];
};

struct runner {
    struct stage *stage;
    struct runner_options o;
    float *hidden;         /* [n_embd] a row's, last stage of an encoder */
    struct end_list *ends; /* [max_slots], last stage: what ends the text of each slot */
    struct job jobs[RUNNER_JOBS];
    unsigned collected; /* owner's */
    atomic_uint given, computed;
    atomic_bool stop;
    atomic_uint_fast64_t busy_us, wait_us;
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

/* ---- computing one job ------------------------------------------------------- */

static err open_slot(struct runner *r, const struct wire_seq *q, struct why *why)
{
    const struct wire_sampler *w = q->sampler;
    if (w->n_end > WIRE_MAX_END)
        return why_set(why, ERR_PEER, "slot %u has %u end tokens", q->slot, w->n_end);
    struct end_list *ends = &r->ends[q->slot];
    ends->n = (int)w->n_end;
    for (int i = 0; i < ends->n; i++)
        ends->tokens[i] = w->end[i];
    struct sample_params params = {
        .temperature = w->temperature, .top_k = w->top_k, .top_p = w->top_p, .min_p = w->min_p,
        .repetition_penalty = w->repetition_penalty, .presence_penalty = w->presence_penalty,
        .frequency_penalty = w->frequency_penalty, .seed = w->seed, .choice = w->choice,
        .min_tokens = w->min_tokens, .n_bias = (int)w->n_bias, .bias = w->bias, .n_end = ends->n, .end = w->end,
    };
    return stage_slot_open(r->stage, q->slot, &params, w->prompt, (int)w->n_prompt, why);
}

static bool ends_text(const struct end_list *ends, int32_t token)
{
    for (int i = 0; i < ends->n; i++)
        if (ends->tokens[i] == token)
            return true;
    return false;
}

/* The hidden states of a text, whose last row is `last`, as one vector. */
static err pool_text(struct runner *r, const struct job *j, int last, float *out, struct why *why)
{
    const struct batch_row *row = &j->rows[last], *first = row - row->pos;
    int n = row->pos + 1, n_embd = r->o.n_embd;
    if (n > last + 1 || first->seq != row->seq || first->pos != 0 || row->target < 0 || row->target >= POOL_COUNT)
        return why_set(why, ERR_PEER, "row %d ends a text that is not here as a whole", last);
    stage_hidden(r->stage, last - row->pos, out);
    for (int i = 1; row->target == POOL_MEAN && i < n; i++) {
        stage_hidden(r->stage, last - row->pos + i, r->hidden);
        for (int k = 0; k < n_embd; k++)
            out[k] += r->hidden[k];
    }
    for (int k = 0; row->target == POOL_MEAN && k < n_embd; k++)
        out[k] /= (float)n;
    for (int k = 0; k < n_embd; k++)
        if (!isfinite(out[k]))
            return why_set(why, ERR_FORMAT, "the hidden states of a text are not numbers");
    return ERR_OK;
}

/* A row without numbers is the misfortune of its sequence: rank 0 fails that one, and the
 * step that may be in flight for it already is dead. */
static void fail_row(struct wire_result *a, const struct why *why)
{
    log_debug("%s", why->text);
    a->flags |= WIRE_ROW_FAILED;
    a->ended = (a->flags & ROW_SAMPLE) != 0;
}

/* One answer for every row that samples, scores or embeds; dead rows have an empty one. */
static err make_answers(struct runner *r, struct job *j, int n_results, struct why *why)
{
    int at = 0, n_pooled = 0;
    j->n_answers = 0;
    for (int i = 0; i < j->batch.n_rows; i++) {
        const struct batch_row *row = &j->rows[i];
        uint32_t slot = j->seqs[row->seq].slot;
        uint8_t asked = row->flags & (ROW_SAMPLE | ROW_SCORE | ROW_EMBED);
        if (!asked)
            continue;
        const struct row_result *got = at < n_results ? &j->results[at] : NULL;
        bool ours = got && got->slot == slot && got->pos == row->pos;
        at += ours;
        struct wire_result *a = &j->answers[j->n_answers++];
        *a = (struct wire_result){.slot = slot, .pos = row->pos, .token = -1, .argmax = -1, .flags = asked};
        if (row->flags & ROW_DEAD) {
            a->flags |= ROW_DEAD;
            continue;
        }
        if (asked & ROW_EMBED) { /* only encoders have such rows, and no others that ask */
            float *pooled = j->pooled + (size_t)n_pooled++ * r->o.limits.n_hidden;
            err e = pool_text(r, j, i, pooled, why);
            if (e == ERR_FORMAT) {
                fail_row(a, why);
                continue;
            }
            if (e != ERR_OK)
                return e;
            a->n_hidden = r->o.limits.n_hidden;
            a->hidden = pooled;
            continue;
        }
        if (!ours)
            return why_set(why, ERR_FORMAT, "no result for slot %u at position %d", slot, row->pos);
        if (isnan(got->logprob)) {
            why_set(why, ERR_FORMAT, "the logits of slot %u at position %d are not numbers", slot, row->pos);
            fail_row(a, why);
            continue;
        }
        a->token = got->token;
        a->argmax = got->argmax;
        a->logprob = got->logprob;
        a->n_top = got->n_top;
        a->top = (const struct wire_top *)got->top;
        a->ended = (asked & ROW_SAMPLE) && ends_text(&r->ends[slot], got->token);
    }
    return ERR_OK;
}

static err compute(struct runner *r, struct job *j, struct why *why)
{
    size_t n = (size_t)j->batch.n_rows * (size_t)r->o.n_embd;
    const float *x = r->o.first ? NULL : j->x ? j->x : j->x_wire;
    float *y = r->o.last ? NULL : j->y ? j->y : j->y_wire;
    int n_results = 0;
    err e = ERR_OK;

    for (uint32_t i = 0; r->o.last && i < j->wire.n_seqs; i++)
        if (j->wire.seqs[i].sampler)
            TRY(open_slot(r, &j->wire.seqs[i], why));
    if (!r->o.first && j->x)
        wire_get_x(j->x, r->o.wire, j->x_wire, n);
    TRY(stage_step(r->stage, &j->batch, x, y, j->results, &n_results, why));
    if (!r->o.last && j->y)
        wire_put_x(j->y_wire, r->o.wire, j->y, n);
    if (r->o.last)
        TRY(make_answers(r, j, n_results, why));
out:
    return e;
}

/* ---- the thread ---------------------------------------------------------------- */

/* False: told to stop. */
static bool wait_for_job(struct runner *r, unsigned computed)
{
    uint64_t since_ns = now_ns();
    while (atomic_load_explicit(&r->given, memory_order_acquire) == computed && !atomic_load(&r->stop)) {
        if (now_ns() - since_ns < SPIN_NS) {
            cpu_pause();
            continue;
        }
        pthread_mutex_lock(&r->lock);
        while (atomic_load(&r->given) == computed && !atomic_load(&r->stop))
            pthread_cond_wait(&r->wake, &r->lock);
        pthread_mutex_unlock(&r->lock);
    }
    atomic_fetch_add(&r->wait_us, (now_ns() - since_ns) / 1000);
    return !atomic_load(&r->stop);
}

static void *run(void *arg)
{
    struct runner *r = arg;
    stage_adopt(r->stage);
    for (unsigned computed = 0; wait_for_job(r, computed);) {
        struct job *j = &r->jobs[computed % RUNNER_JOBS];
        uint64_t t0 = now_us();
        j->e = compute(r, j, &j->why);
        atomic_fetch_add(&r->busy_us, now_us() - t0);
        atomic_store_explicit(&r->computed, ++computed, memory_order_release);
    }
    return NULL;
}

/* ---- the owner's side ------------------------------------------------------------ */

struct job *runner_next(struct runner *r)
{
    assert(runner_out(r) < RUNNER_JOBS);
    return &r->jobs[atomic_load_explicit(&r->given, memory_order_relaxed) % RUNNER_JOBS];
}

void runner_give(struct runner *r)
{
    pthread_mutex_lock(&r->lock);
    atomic_fetch_add(&r->given, 1);
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

struct job *runner_done(struct runner *r)
{
    if (atomic_load_explicit(&r->computed, memory_order_acquire) == r->collected)
        return NULL;
    return &r->jobs[r->collected % RUNNER_JOBS];
}

void runner_collect(struct runner *r)
{
    r->collected++;
}

int runner_out(const struct runner *r)
{
    return (int)(atomic_load_explicit(&r->given, memory_order_relaxed) - r->collected);
}

void runner_times(const struct runner *r, uint64_t *busy_us, uint64_t *wait_us)
{
    *busy_us = atomic_load(&r->busy_us);
    *wait_us = atomic_load(&r->wait_us);
}

/* ---- opening and closing ----------------------------------------------------------- */

static err open_job(struct job *j, const struct runner_options *o, struct why *why)
{
    size_t rows = o->limits.max_rows, n = rows * (size_t)o->n_embd;
    bool convert = o->wire != WIRE_F32;
    j->space = mem_alloc(wire_batch_space(&o->limits), 1);
    j->rows = mem_alloc(rows, sizeof *j->rows);
    j->seqs = mem_alloc(o->limits.max_seqs, sizeof *j->seqs);
    j->answers = o->last ? mem_alloc(rows, sizeof *j->answers) : NULL;
    j->results = o->last ? mem_alloc(rows, sizeof *j->results) : NULL;
    bool pools = o->last && o->limits.n_hidden > 0;
    j->pooled = pools ? mem_alloc(o->limits.max_seqs * (size_t)o->limits.n_hidden, sizeof *j->pooled) : NULL;
    j->x = convert && !o->first ? mem_alloc(n, sizeof *j->x) : NULL;
    j->y = convert && !o->last ? mem_alloc(n, sizeof *j->y) : NULL;
    if (!j->space || !j->rows || !j->seqs || (o->last && (!j->answers || !j->results)) || (pools && !j->pooled) ||
        (convert && !o->first && !j->x) || (convert && !o->last && !j->y))
        return why_set(why, ERR_NOMEM, "a step of %zu rows", rows);
    return ERR_OK;
}

err runner_open(struct stage *s, const struct runner_options *o, struct runner **out, struct why *why)
{
    err e;
    struct runner *r = calloc(1, sizeof *r);
    if (!r)
        FAIL(ERR_NOMEM, "runner");
    r->stage = s;
    r->o = *o;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->wake, NULL);
    for (int i = 0; i < RUNNER_JOBS; i++)
        TRY(open_job(&r->jobs[i], o, why));
    if (o->last && !(r->ends = mem_alloc(o->limits.max_slots, sizeof *r->ends)))
        FAIL(ERR_NOMEM, "%u slots", o->limits.max_slots);
    if (o->last && !(r->hidden = mem_alloc((size_t)o->n_embd, sizeof *r->hidden)))
        FAIL(ERR_NOMEM, "a row");
    if (pthread_create(&r->thread, NULL, run, r))
        FAIL(ERR_IO, "cannot start the thread that computes");
    r->has_thread = true;
    *out = r;
    r = NULL;
    e = ERR_OK;
out:
    runner_close(r);
    return e;
}

void runner_close(struct runner *r)
{
    if (!r)
        return;
    if (r->has_thread) {
        pthread_mutex_lock(&r->lock);
        atomic_store(&r->stop, true);
        pthread_cond_signal(&r->wake);
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    for (int i = 0; i < RUNNER_JOBS; i++) {
        struct job *j = &r->jobs[i];
        free(j->space);
        free(j->rows);
        free(j->seqs);
        free(j->answers);
        free(j->results);
        free(j->pooled);
        free(j->x);
        free(j->y);
    }
    free(r->hidden);
    free(r->ends);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wake);
    free(r);
}
