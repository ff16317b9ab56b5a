/* worker.c - see worker.h.
 *
 * Messages wait in a short queue in the order of arrival; the head of the queue
 * becomes a job once its ring tokens are here (stage 1) and a buffer for what
 * follows is free. Jobs go to the runner and come back in order; then their
 * output leaves. Nothing overtakes anything, which is what rank 0 counts on when
 * it reuses KV pages.
 *
 *   transport -> queue -> job -> (runner) -> job -> transport
 *
 * With one stage, first and last are the same and the ring is a function call.
 */
#include "worker/worker.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kernels/kernels.h"
#include "proto/ring.h"
#include "worker/runner.h"

_Static_assert((int)ROW_GENERATED == (int)WIRE_ROW_GENERATED && (int)ROW_SAMPLE == (int)WIRE_ROW_SAMPLE &&
                   (int)ROW_SCORE == (int)WIRE_ROW_SCORE && (int)ROW_DEAD == (int)WIRE_ROW_DEAD &&
                   (int)ROW_LONG == (int)WIRE_ROW_LONG && (int)ROW_EMBED == (int)WIRE_ROW_EMBED,
               "rows mean the same on the wire and in a stage");
_Static_assert(sizeof(struct batch_row) == sizeof(struct wire_row) &&
                   offsetof(struct batch_row, flags) == offsetof(struct wire_row, flags),
               "rows are copied as they are");

enum { QUEUE = 8 }; /* messages: more than a transport lets one source have unreleased */

struct worker {
    struct transport *t;
    struct worker_options o;
    struct runner *runner;
    enum worker_state state;
    bool first, last;
    struct tbuf *queue[QUEUE];
    int queue_at, n_queue;
    struct job *pending; /* the queue's head, decoded, waiting for tokens or a buffer */
    bool answered;       /* the oldest job's ring message has left already */
    bool stop_sent;
    struct ring ring;    /* stage 1 */
    int ring_due;        /* ring messages that must still come */
    uint32_t sequence_prev, sequence_ring;             /* next expected */
    uint32_t sequence_next, sequence_first, sequence_zero; /* next to send, by receiver */
    uint64_t n_steps, n_rows;
};

/* ---- states ------------------------------------------------------------------- */

#define TO(s) (1u << WORKER_##s)
static const unsigned may_go[WORKER_STATE_COUNT] = {
    [WORKER_JOINING] = TO(LOADING) | TO(GONE),
    [WORKER_LOADING] = TO(READY) | TO(GONE),
    [WORKER_READY] = TO(DRAINING) | TO(GONE),
    [WORKER_DRAINING] = TO(GONE),
};

static const char *state_name(enum worker_state s)
{
    static const char *const names[] = {
#define WORKER_NAME(id, text) #id,
        WORKER_STATES(WORKER_NAME)
#undef WORKER_NAME
    };
    return names[s];
}

/* The only assignment to w->state. */
static void worker_go(struct worker *w, enum worker_state to)
{
    assert(may_go[w->state] & (1u << to));
    log_debug("stage %d: %s -> %s", w->o.stage, state_name(w->state), state_name(to));
    w->state = to;
}

enum worker_state worker_state(const struct worker *w)
{
    return w->state;
}

/* ---- what arrives ----------------------------------------------------------------- */

/* Steps for this stage, or the order to stop. Keeps the buffer of a step. */
static err take_step(struct worker *w, struct tbuf *buf, bool *kept, struct why *why)
{
    const struct msg_head *head;
    err e;
    TRY(wire_check(buf->data, buf->len, w->o.epoch, w->sequence_prev, &head, why));
    w->sequence_prev++;
    if (w->state != WORKER_READY)
        FAIL(ERR_PEER, "a message of kind %s while %s", wire_kind_name(head->kind), state_name(w->state));
    if (head->kind == WIRE_STOP) {
        worker_go(w, WORKER_DRAINING);
    } else if (head->kind != WIRE_ACTS) {
        FAIL(ERR_PEER, "a message of kind %s where steps come", wire_kind_name(head->kind));
    } else if (w->n_queue == QUEUE) {
        FAIL(ERR_PEER, "more than %d steps at once", QUEUE);
    } else {
        w->queue[(w->queue_at + w->n_queue++) % QUEUE] = buf;
        *kept = true;
    }
out:
    return e;
}

/* Tokens for the ring rows of steps that are here or will come. */
static err take_tokens(struct worker *w, const struct tbuf *buf, struct why *why)
{
    const struct msg_head *head;
    size_t at = 0;
    err e;
    TRY(wire_check(buf->data, buf->len, w->o.epoch, w->sequence_ring, &head, why));
    w->sequence_ring++;
    if (head->kind != WIRE_TOKENS || w->ring_due == 0)
        FAIL(ERR_PEER, "a message of kind %s that was not due", wire_kind_name(head->kind));
    w->ring_due--;
    for (uint32_t i = 0; i < head->n_rows; i++) {
        struct wire_result r;
        TRY(wire_get_result(head + 1, head->body_bytes, &at, &w->o.limits, &r, why));
        ring_put(&w->ring, head->step, &r);
    }
    if (at != head->body_bytes)
        FAIL(ERR_PEER, "%zu bytes after the tokens", (size_t)head->body_bytes - at);
out:
    return e;
}

static err take_messages(struct worker *w, bool *busy, struct why *why)
{
    struct transport_event ev;
    err e;
    while ((e = transport_poll(w->t, &ev, why)) == ERR_OK) {
        bool kept = false;
        *busy = true;
        if (ev.from == w->o.prev_rank)
            e = take_step(w, ev.buf, &kept, why);
        else if (w->first && !w->last && ev.from == w->o.last_rank)
            e = take_tokens(w, ev.buf, why);
        else
            e = why_set(why, ERR_PEER, "unexpected message");
        if (!kept)
            transport_release(w->t, ev.buf);
        if (e)
            return why_prefix(why, ERR_PEER, "rank %d", ev.from);
    }
    return e == ERR_AGAIN ? ERR_OK : e;
}

/* ---- queue to job ------------------------------------------------------------------- */

/* Decodes the message at the head of the queue into w->pending. */
static err decode_step(struct worker *w, struct why *why)
{
    struct tbuf *in = w->queue[w->queue_at];
    const struct msg_head *head = in->data;
    struct job *j = runner_next(w->runner);
    err e;
    TRY(wire_get_batch(head + 1, head->desc_bytes, &w->o.limits, j->space, wire_batch_space(&w->o.limits), &j->wire,
                       why));
    size_t x_bytes = w->first ? 0 : wire_x_bytes(w->o.wire, (size_t)j->wire.n_rows * (size_t)w->o.n_embd);
    if (head->n_rows != j->wire.n_rows || wire_x_len(head) != x_bytes ||
        (!w->first && head->x_type != (uint32_t)w->o.wire))
        FAIL(ERR_FORMAT, "step %u: activations do not fit its %u rows", head->step, j->wire.n_rows);

    memcpy(j->rows, j->wire.rows, j->wire.n_rows * sizeof *j->rows);
    for (uint32_t i = 0; i < j->wire.n_seqs; i++) {
        const struct wire_seq *q = &j->wire.seqs[i];
        j->seqs[i] = (struct batch_seq){q->slot, q->n_pages, q->pages, q->adapter};
        if (w->first && q->sampler)
            ring_open(&w->ring, q->slot, head->step);
    }
    j->batch = (struct batch){
        .step = head->step, .n_rows = (int)j->wire.n_rows, .n_gen = (int)j->wire.n_gen,
        .n_seqs = (int)j->wire.n_seqs, .rows = j->rows, .seqs = j->seqs,
    };
    j->x_wire = w->first ? NULL : wire_x(head);
    j->in = in;
    j->out = NULL;
    w->pending = j;
    w->queue_at = (w->queue_at + 1) % QUEUE;
    w->n_queue--;
out:
    return e ? why_prefix(why, ERR_PEER, "rank %d", w->o.prev_rank) : ERR_OK;
}

/* Fills in ring tokens, in the job and in the bytes that travel on. False: some
 * are not here yet (those that are stay filled in). */
static bool patch_tokens(struct worker *w, struct job *j)
{
    char *desc = (char *)j->in->data + sizeof(struct msg_head);
    bool all = true;
    for (int i = 0; i < j->batch.n_gen; i++) {
        struct batch_row *row = &j->rows[i];
        int32_t token = 0;
        if (!(row->flags & WIRE_ROW_RING))
            continue;
        enum ring_answer got = ring_get(&w->ring, j->seqs[row->seq].slot, row->pos, &token);
        if (got == RING_ABSENT) {
            all = false;
            continue;
        }
        bool dead = got == RING_DEAD;
        wire_batch_patch(desc, (uint32_t)i, token, dead);
        row->token = dead ? 0 : token;
        row->flags = (uint8_t)((row->flags & ~WIRE_ROW_RING) | (dead ? ROW_DEAD : 0));
    }
    return all;
}

/* The message for the next stage, complete but for its activations. */
static bool begin_output(struct worker *w, struct job *j)
{
    const struct msg_head *in = j->in->data;
    size_t desc_bytes = in->desc_bytes;
    size_t x_bytes = wire_x_bytes(w->o.wire, (size_t)j->batch.n_rows * (size_t)w->o.n_embd);
    if (!(j->out = transport_buf(w->t)))
        return false;
    struct msg_head *head = j->out->data;
    *head = (struct msg_head){
        .kind = WIRE_ACTS, .step = in->step, .n_rows = in->n_rows, .desc_bytes = in->desc_bytes,
        .x_type = (uint32_t)w->o.wire,
    };
    memcpy(head + 1, in + 1, desc_bytes);
    j->y_wire = (char *)(head + 1) + desc_bytes;
    j->out->len = sizeof *head + desc_bytes + x_bytes;
    assert(j->out->len <= j->out->cap);
    return true;
}

/* Does somebody wait for tokens of this step? */
static bool samples(const struct job *j)
{
    for (int i = 0; i < j->batch.n_rows; i++)
        if ((j->rows[i].flags & (ROW_SAMPLE | ROW_DEAD)) == ROW_SAMPLE)
            return true;
    return false;
}

static err give_jobs(struct worker *w, bool *busy, struct why *why)
{
    err e;
    while (runner_out(w->runner) < RUNNER_JOBS && (w->pending || w->n_queue > 0)) {
        if (!w->pending && (e = decode_step(w, why)))
            return e;
        struct job *j = w->pending;
        if ((w->first && !patch_tokens(w, j)) || (!w->last && !begin_output(w, j)))
            return ERR_OK;
        w->ring_due += w->first && !w->last && samples(j);
        w->n_steps++;
        w->n_rows += (uint64_t)j->batch.n_rows;
        w->pending = NULL;
        runner_give(w->runner);
        *busy = true;
    }
    return ERR_OK;
}

/* ---- job to output --------------------------------------------------------------------- */

/* Results as a TOKENS message: everything for rank 0, bare tokens for the ring.
 * ERR_AGAIN: no buffer. */
static err send_answers(struct worker *w, const struct job *j, int to, bool all, uint32_t *sequence, struct why *why)
{
    struct tbuf *buf = transport_buf(w->t);
    if (!buf)
        return ERR_AGAIN;
    struct msg_head *head = buf->data;
    *head = (struct msg_head){.kind = WIRE_TOKENS, .step = j->batch.step};
    size_t at = sizeof *head;
    for (int i = 0; i < j->n_answers; i++) {
        struct wire_result a = j->answers[i];
        if (!all && (a.flags & (ROW_SAMPLE | ROW_DEAD)) != ROW_SAMPLE)
            continue;
        if (!all)
            a.n_top = 0;
        assert(at + wire_result_bytes(&a) <= buf->cap);
        at += wire_put_result((char *)buf->data + at, &a);
        head->n_rows++;
    }
    buf->len = at;
    wire_seal(buf->data, buf->len, w->o.epoch, (*sequence)++);
    return transport_send(w->t, to, buf, why);
}

static err send_results(struct worker *w, const struct job *j, struct why *why)
{
    err e = ERR_OK;
    if (!w->answered) { /* the ring first: stage 1 waits for it */
        if (w->first)
            for (int i = 0; i < j->n_answers; i++)
                ring_put(&w->ring, j->batch.step, &j->answers[i]);
        else if (samples(j))
            TRY(send_answers(w, j, w->o.first_rank, false, &w->sequence_first, why));
        w->answered = true;
    }
    TRY(send_answers(w, j, 0, true, &w->sequence_zero, why));
    w->answered = false;
out:
    return e;
}

static err send_output(struct worker *w, struct job *j, struct why *why)
{
    wire_seal(j->out->data, j->out->len, w->o.epoch, w->sequence_next++);
    return transport_send(w->t, w->o.next_rank, j->out, why);
}

static err collect_jobs(struct worker *w, bool *busy, struct why *why)
{
    struct job *j;
    err e;
    while ((j = runner_done(w->runner))) {
        *busy = true;
        if (j->e) {
            *why = j->why;
            return why_prefix(why, j->e, "stage %d, step %u", w->o.stage, j->batch.step);
        }
        e = w->last ? send_results(w, j, why) : send_output(w, j, why);
        if (e)
            return e == ERR_AGAIN ? ERR_OK : e;
        transport_release(w->t, j->in);
        runner_collect(w->runner);
    }
    return ERR_OK;
}

/* ---- the end ------------------------------------------------------------------------------ */

/* ERR_CANCELLED once nothing is left to do or to send. */
static err drain(struct worker *w, struct why *why)
{
    err e;
    if (w->n_queue > 0 || w->pending || runner_out(w->runner) > 0 || w->ring_due > 0)
        return ERR_OK;
    if (!w->last && !w->stop_sent) {
        struct tbuf *buf = transport_buf(w->t);
        if (!buf)
            return ERR_OK;
        *(struct msg_head *)buf->data = (struct msg_head){.kind = WIRE_STOP};
        buf->len = sizeof(struct msg_head);
        wire_seal(buf->data, buf->len, w->o.epoch, w->sequence_next++);
        w->stop_sent = true;
        if ((e = transport_send(w->t, w->o.next_rank, buf, why)))
            return e;
    }
    if (transport_unsent(w->t) > 0)
        return ERR_OK;
    worker_go(w, WORKER_GONE);
    return why_set(why, ERR_CANCELLED, "stage %d: stopped", w->o.stage);
}

err worker_turn(struct worker *w, bool *busy, struct why *why)
{
    err e;
    if (w->state == WORKER_GONE)
        return why_set(why, ERR_CANCELLED, "stage %d: stopped", w->o.stage);
    TRY(take_messages(w, busy, why));
    TRY(give_jobs(w, busy, why));
    TRY(collect_jobs(w, busy, why));
    TRY(give_jobs(w, busy, why)); /* a job came back: there is room, and with one stage its token */
    if (w->state == WORKER_DRAINING)
        TRY(drain(w, why));
out:
    return e;
}

/* ---- opening and closing --------------------------------------------------------------------- */

size_t worker_max_message(const struct worker_options *o)
{
    return wire_max_message(&o->limits, o->n_embd, o->wire);
}

err worker_open(struct transport *t, struct stage *s, const struct worker_options *o, struct worker **out,
                struct why *why)
{
    err e;
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        FAIL(ERR_NOMEM, "worker");
    if (o->stage < 1 || o->stage > o->n_stages || o->n_embd < 1 || (o->stage < o->n_stages) != (o->next_rank >= 0) ||
        o->limits.page_rows != KV_PAGE)
        FAIL(ERR_INVAL, "worker: stage %d of %d, next rank %d, pages of %u", o->stage, o->n_stages, o->next_rank,
             o->limits.page_rows);
    w->t = t;
    w->o = *o;
    w->first = o->stage == 1;
    w->last = o->stage == o->n_stages;
    w->o.limits.no_ring = !w->first;
    worker_go(w, WORKER_LOADING);
    TRY(ring_init(&w->ring, o->limits.max_slots, why));
    struct runner_options ro = {w->o.limits, o->n_embd, o->wire, w->first, w->last};
    TRY(runner_open(s, &ro, &w->runner, why));
    worker_go(w, WORKER_READY);
    *out = w;
    w = NULL;
out:
    worker_close(w);
    return e;
}

void worker_close(struct worker *w)
{
    if (!w)
        return;
    runner_close(w->runner);
    ring_fini(&w->ring);
    free(w);
}

void worker_stats(const struct worker *w, struct worker_stats *out)
{
    *out = (struct worker_stats){.steps = w->n_steps, .rows = w->n_rows};
    runner_times(w->runner, &out->busy_us, &out->wait_us);
}
