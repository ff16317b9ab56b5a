/* pipeline.c - see pipeline.h. */
#include "coordinator/engine/pipeline.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "model/batch.h"

_Static_assert((int)ROW_GENERATED == (int)WIRE_ROW_GENERATED && (int)ROW_SAMPLE == (int)WIRE_ROW_SAMPLE &&
                   (int)ROW_SCORE == (int)WIRE_ROW_SCORE && (int)ROW_DEAD == (int)WIRE_ROW_DEAD &&
                   (int)ROW_LONG == (int)WIRE_ROW_LONG && (int)ROW_EMBED == (int)WIRE_ROW_EMBED,
               "rows mean the same on the wire and in a stage");

enum { ASKED = WIRE_ROW_SAMPLE | WIRE_ROW_SCORE | WIRE_ROW_EMBED }; /* rows that are answered */

struct expected { /* one result record */
    struct seq *seq;
    int32_t pos, target;
    uint8_t flags; /* one of ASKED, and WIRE_ROW_RING */
};

struct flight {
    uint32_t step;
    uint64_t sent_ms;
    int n_parts, n_expected;
    struct seq **parts;        /* [max_parts] */
    struct expected *expected; /* [max_rows] */
};

struct pipeline {
    struct transport *t;
    struct pipeline_options o;
    struct pipeline_sink sink;
    struct flight *flights; /* ring of o.max_flight */
    int oldest, n_flights;
    struct tbuf *buf; /* got by pipeline_has_room(), not yet used */
    uint32_t next_step, sequence_out, sequence_in;
    uint64_t n_steps, n_rows;
    uint64_t heard_ms; /* of the last results */
    struct wire_row *rows;         /* [max_rows], scratch */
    struct wire_seq *seqs;         /* [max_parts], scratch */
    struct wire_sampler *samplers; /* [max_parts], scratch */
    struct seq **parts;            /* [max_flight][max_parts] */
    struct expected *expected;     /* [max_flight][max_rows] */
};

err pipeline_open(struct transport *t, const struct pipeline_options *o, const struct pipeline_sink *sink,
                  struct pipeline **out, struct why *why)
{
    err e;
    size_t flights = (size_t)o->max_flight, parts = (size_t)o->max_parts, rows = o->lim.max_rows;
    struct pipeline *p = calloc(1, sizeof *p);
    if (!p)
        FAIL(ERR_NOMEM, "pipeline");
    p->t = t;
    p->o = *o;
    p->sink = *sink;
    p->flights = mem_alloc(flights, sizeof *p->flights);
    p->rows = mem_alloc(rows, sizeof *p->rows);
    p->seqs = mem_alloc(parts, sizeof *p->seqs);
    p->samplers = mem_alloc(parts, sizeof *p->samplers);
    p->parts = mem_alloc(flights * parts, sizeof *p->parts);
    p->expected = mem_alloc(flights * rows, sizeof *p->expected);
    if (!p->flights || !p->rows || !p->seqs || !p->samplers || !p->parts || !p->expected)
        FAIL(ERR_NOMEM, "pipeline of %d micro-batches of %zu rows", o->max_flight, rows);
    for (size_t i = 0; i < flights; i++) {
        p->flights[i].parts = p->parts + i * parts;
        p->flights[i].expected = p->expected + i * rows;
    }
    *out = p;
    p = NULL;
    e = ERR_OK;
out:
    pipeline_close(p);
    return e;
}

void pipeline_close(struct pipeline *p)
{
    if (!p)
        return;
    free(p->flights);
    free(p->rows);
    free(p->seqs);
    free(p->samplers);
    free(p->parts);
    free(p->expected);
    free(p);
}

int pipeline_flights(const struct pipeline *p)
{
    return p->n_flights;
}

uint32_t pipeline_next_step(const struct pipeline *p)
{
    return p->next_step;
}

uint64_t pipeline_steps(const struct pipeline *p)
{
    return p->n_steps;
}

uint64_t pipeline_rows(const struct pipeline *p)
{
    return p->n_rows;
}

bool pipeline_has_room(struct pipeline *p)
{
    if (p->n_flights == p->o.max_flight)
        return false;
    if (!p->buf)
        p->buf = transport_buf(p->t);
    return p->buf != NULL;
}

/* ---- out ---------------------------------------------------------------------- */

static struct wire_row make_row(const struct seq *s, int pos, int part)
{
    struct wire_row row = {.token = -1, .pos = pos, .target = -1, .seq = (uint16_t)part};
    if (pos < s->n_known)
        row.token = s->tokens[pos];
    else
        row.flags |= WIRE_ROW_RING;
    if (pos >= s->n_prompt)
        row.flags |= WIRE_ROW_GENERATED;
    if (s->is_long)
        row.flags |= WIRE_ROW_LONG;
    if (s->embed) {
        row.flags |= pos + 1 == s->n_prompt ? WIRE_ROW_EMBED : 0;
        row.target = s->pooling;
    } else if (pos + 1 == s->n_known + s->n_pending && pos + 1 < s->max_tokens) {
        row.flags |= WIRE_ROW_SAMPLE;
        row.n_top = s->logprobs ? (uint8_t)s->n_top : 0;
    } else if (s->score && pos + 1 >= s->score_from && pos + 1 < s->n_prompt) {
        row.flags |= WIRE_ROW_SCORE;
        row.target = s->tokens[pos + 1];
        row.n_top = (uint8_t)s->n_top;
    }
    return row;
}

static void expect(struct flight *f, struct seq *s, const struct wire_row *row)
{
    if (row->flags & ASKED)
        f->expected[f->n_expected++] = (struct expected){s, row->pos, row->target, row->flags};
}

/* Everything that sending the part changes about its sequence. */
static void move_on(struct seq *s, const struct pipeline_part *part, const struct wire_row *last, uint32_t step)
{
    s->next = part->first + part->n;
    s->n_pending += (last->flags & WIRE_ROW_SAMPLE) != 0;
    s->n_flight++;
    s->last_step = step;
    s->opened = true;
    if (s->key)
        s->key->served += (uint64_t)part->n;
}

err pipeline_send(struct pipeline *p, const struct pipeline_part *parts, int n, struct why *why)
{
    err e;
    struct tbuf *buf = p->buf;
    struct flight *f = &p->flights[(p->oldest + p->n_flights) % p->o.max_flight];
    struct wire_batch b = {.n_seqs = (uint32_t)n, .rows = p->rows, .seqs = p->seqs};
    assert(buf && p->n_flights < p->o.max_flight && n > 0 && n <= p->o.max_parts);

    f->step = p->next_step;
    f->n_parts = n;
    f->n_expected = 0;
    for (int i = 0; i < n; i++) {
        struct seq *s = parts[i].seq;
        for (int k = 0; k < parts[i].n; k++) {
            assert(b.n_rows < p->o.lim.max_rows);
            struct wire_row *row = &p->rows[b.n_rows++];
            *row = make_row(s, parts[i].first + k, i);
            b.n_gen += (row->flags & WIRE_ROW_GENERATED) != 0;
            expect(f, s, row);
        }
        f->parts[i] = s;
        p->samplers[i] = seq_sampler(s);
        p->seqs[i] = (struct wire_seq){
            .slot = (uint32_t)s->slot, .n_pages = (uint32_t)s->n_pages, .pages = s->pages,
            .sampler = s->opened ? NULL : &p->samplers[i], .adapter = s->adapter,
        };
        move_on(s, &parts[i], &p->rows[b.n_rows - 1], f->step);
    }

    size_t desc_bytes = wire_batch_bytes(&b);
    struct msg_head *head = buf->data;
    if (sizeof *head + desc_bytes > buf->cap)
        FAIL(ERR_INVAL, "a descriptor of %zu bytes does not fit the transport's buffers of %zu", desc_bytes, buf->cap);
    *head = (struct msg_head){
        .kind = WIRE_ACTS, .step = f->step, .n_rows = b.n_rows, .desc_bytes = (uint32_t)desc_bytes,
    };
    wire_put_batch(head + 1, &b);
    buf->len = sizeof *head + desc_bytes;
    wire_seal(buf->data, buf->len, p->o.epoch, p->sequence_out);

    p->buf = NULL;
    TRY(transport_send(p->t, p->o.first_rank, buf, why));
    f->sent_ms = now_ms();
    p->sequence_out++;
    p->next_step++;
    p->n_flights++;
    p->n_steps++;
    p->n_rows += b.n_rows;
out:
    return e;
}

err pipeline_stop(struct pipeline *p, struct why *why)
{
    assert(p->n_flights == 0);
    if (!pipeline_has_room(p))
        return why_set(why, ERR_AGAIN, "no free buffer for the stop message");
    struct tbuf *buf = p->buf;
    struct msg_head *head = buf->data;
    *head = (struct msg_head){.kind = WIRE_STOP, .step = p->next_step};
    buf->len = sizeof *head;
    wire_seal(buf->data, buf->len, p->o.epoch, p->sequence_out++);
    p->buf = NULL;
    return transport_send(p->t, p->o.first_rank, buf, why);
}

/* ---- back ---------------------------------------------------------------------- */

/* NULL, or how the record differs from what was asked for. */
static const char *mismatch(const struct expected *x, const struct wire_result *r)
{
    const struct seq *s = x->seq;
    uint8_t asked = x->flags & ASKED;
    if (r->slot != (uint32_t)s->slot || r->pos != x->pos)
        return "is of another row";
    if ((r->flags & ASKED) != asked)
        return "is of another kind";
    if (r->flags & WIRE_ROW_DEAD)
        return x->flags & WIRE_ROW_RING ? NULL : "is dead without a reason";
    if (asked == WIRE_ROW_EMBED || r->flags & WIRE_ROW_FAILED)
        return NULL;
    if (asked == WIRE_ROW_SCORE)
        return r->token != x->target ? "prices another token" : NULL;
    return r->ended != seq_is_end(s, r->token) ? "disagrees about the end of the text" : NULL;
}

static err take_results(struct pipeline *p, const struct msg_head *head, struct why *why)
{
    err e;
    const void *body = head + 1;
    size_t at = 0;
    if (head->kind != WIRE_TOKENS)
        FAIL(ERR_PEER, "the last stage sent a message of kind %u", head->kind);
    if (p->n_flights == 0)
        FAIL(ERR_PEER, "results of step %u, but nothing is in flight", head->step);
    struct flight *f = &p->flights[p->oldest];
    if (head->step != f->step || head->n_rows != (uint32_t)f->n_expected)
        FAIL(ERR_PEER, "%u results of step %u instead of %d of step %u", head->n_rows, head->step, f->n_expected,
             f->step);

    for (int i = 0; i < f->n_expected; i++) {
        struct expected *x = &f->expected[i];
        struct wire_result r;
        TRY(wire_get_result(body, head->body_bytes, &at, &p->o.lim, &r, why));
        const char *fault = mismatch(x, &r);
        if (fault)
            FAIL(ERR_PEER, "result %d of step %u %s (slot %u, position %d)", i, f->step, fault, r.slot, r.pos);
        if (r.flags & WIRE_ROW_FAILED)
            p->sink.failed(p->sink.ctx, x->seq, &r);
        else if (x->flags & WIRE_ROW_EMBED)
            p->sink.embedding(p->sink.ctx, x->seq, &r);
        else if (x->flags & WIRE_ROW_SCORE)
            p->sink.score(p->sink.ctx, x->seq, &r);
        else if (!(r.flags & WIRE_ROW_DEAD))
            p->sink.sample(p->sink.ctx, x->seq, &r);
    }
    if (at != head->body_bytes)
        FAIL(ERR_PEER, "results of step %u have %zu bytes too many", f->step, (size_t)head->body_bytes - at);

    p->oldest = (p->oldest + 1) % p->o.max_flight;
    p->n_flights--;
    for (int i = 0; i < f->n_parts; i++) {
        f->parts[i]->n_flight--;
        p->sink.landed(p->sink.ctx, f->parts[i]);
    }
    e = ERR_OK;
out:
    return e;
}

static err take_message(struct pipeline *p, const struct transport_event *ev, struct why *why)
{
    err e;
    const struct msg_head *head;
    if (ev->from != p->o.last_rank)
        FAIL(ERR_PEER, "unexpected message");
    TRY(wire_check(ev->buf->data, ev->buf->len, p->o.epoch, p->sequence_in, &head, why));
    p->sequence_in++;
    p->heard_ms = now_ms();
    TRY(take_results(p, head, why));
out:
    /* Whatever is wrong with a message from a peer, the epoch is over. */
    return e == ERR_OK ? e : why_prefix(why, ERR_PEER, "rank %d", ev->from);
}

err pipeline_poll(struct pipeline *p, bool *busy, struct why *why)
{
    err e;
    struct transport_event ev;
    while ((e = transport_poll(p->t, &ev, why)) == ERR_OK) {
        *busy = true;
        TRY(take_message(p, &ev, why));
        transport_release(p->t, ev.buf);
    }
    if (e != ERR_AGAIN)
        return e;
    if (p->o.timeout_ms && p->n_flights > 0) {
        const struct flight *f = &p->flights[p->oldest];
        uint64_t since_ms = f->sent_ms > p->heard_ms ? f->sent_ms : p->heard_ms;
        uint64_t waited_ms = now_ms() - since_ms;
        if (waited_ms > p->o.timeout_ms)
            FAIL(ERR_TIMEOUT, "no results of step %u for %llu ms", f->step, (unsigned long long)waited_ms);
    }
    return ERR_OK;
out:
    if (e == ERR_PEER)
        transport_release(p->t, ev.buf);
    return e;
}
