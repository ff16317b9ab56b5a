/* transport_fault.c - breaks messages on purpose, by count, so that a test fails
 * the same way every time.
 *
 * Each rule counts the messages that it matches; rules are tried in order and
 * all that fire apply. Every message passes through one queue on its way to the
 * inner transport: a delayed one makes later ones to the same rank wait, so
 * delay never reorders, and a duplicate waits for a buffer to be copied into.
 *
 * One inner buffer more than asked for is kept as the spare of duplicates.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "transport/plane.h"

struct held {
    int to;
    struct tbuf *buf;
    uint64_t due_ms;
    bool twice;
};

struct rule {
    struct fault_rule is;
    unsigned n_seen;
};

struct fault {
    struct transport base;
    struct transport *inner; /* owned */
    struct tbuf *spare;
    struct held *held; /* [n_held], in order of sending; room for every send buffer */
    int n_held;
    int n_rules;
    struct rule rules[];
};

static struct fault *fault_of(const struct transport *t)
{
    return (struct fault *)t;
}

static err fault_start(struct transport *t, const int *from, int n_from, size_t max_bytes, int n_send_bufs,
                       struct why *why)
{
    struct fault *f = fault_of(t);
    struct held *held = calloc((size_t)n_send_bufs + 1, sizeof *held);
    err e;
    if (!held)
        FAIL(ERR_NOMEM, "fault queue");
    TRY(transport_start(f->inner, from, n_from, max_bytes, n_send_bufs + 1, why));
    f->spare = transport_buf(f->inner);
    f->held = held;
    return ERR_OK;
out:
    free(held);
    return e;
}

static void refill_spare(struct fault *f)
{
    if (!f->spare)
        f->spare = transport_buf(f->inner);
}

static struct tbuf *fault_buf(struct transport *t)
{
    struct fault *f = fault_of(t);
    refill_spare(f);
    return f->spare ? transport_buf(f->inner) : NULL;
}

/* Damages a message at a place that its number chooses. */
static void corrupt(struct tbuf *buf, unsigned n)
{
    if (buf->len)
        ((unsigned char *)buf->data)[(size_t)n * 2654435761u % buf->len] ^= 0x40;
}

/* Does what the rules say with a message; true: it is to be dropped. */
static bool apply_rules(struct fault *f, struct held *h, uint64_t now)
{
    bool drop = false;
    for (int i = 0; i < f->n_rules; i++) {
        struct rule *r = &f->rules[i];
        unsigned every = r->is.every ? r->is.every : 1;
        if (r->is.to >= 0 && r->is.to != h->to)
            continue;
        unsigned n = ++r->n_seen;
        bool due = r->is.kind == FAULT_CUT ? n >= every : n % every == 0;
        if (!due)
            continue;
        switch (r->is.kind) {
        case FAULT_DROP:
        case FAULT_CUT:
            drop = true;
            break;
        case FAULT_DELAY:
            h->due_ms = now + r->is.delay_ms;
            break;
        case FAULT_CORRUPT:
            corrupt(h->buf, n);
            break;
        case FAULT_DUPLICATE:
            h->twice = true;
            break;
        }
    }
    return drop;
}

/* Passes on one message, its copy first. ERR_AGAIN: no buffer for the copy yet. */
static err pass_on(struct fault *f, struct held *h, struct why *why)
{
    err e = ERR_OK;
    if (h->twice) {
        refill_spare(f);
        struct tbuf *copy = f->spare;
        if (!copy)
            return ERR_AGAIN;
        f->spare = NULL;
        h->twice = false;
        memcpy(copy->data, h->buf->data, h->buf->len);
        copy->len = h->buf->len;
        e = transport_send(f->inner, h->to, copy, why);
    }
    err again = transport_send(f->inner, h->to, h->buf, why);
    return e == ERR_OK ? again : e;
}

static bool waits_behind(const struct fault *f, int n, int to)
{
    for (int i = 0; i < n; i++)
        if (f->held[i].to == to)
            return true;
    return false;
}

/* Passes on all that is due; what stays keeps its order. */
static err flush(struct fault *f, struct why *why)
{
    uint64_t now = now_ms();
    int kept = 0;
    err e = ERR_OK;
    for (int i = 0; i < f->n_held; i++) {
        struct held h = f->held[i];
        err sent = ERR_AGAIN;
        if (h.due_ms <= now && !waits_behind(f, kept, h.to))
            sent = pass_on(f, &h, why);
        if (sent == ERR_AGAIN)
            f->held[kept++] = h;
        else if (sent != ERR_OK)
            e = sent;
    }
    f->n_held = kept;
    return e;
}

static err fault_send(struct transport *t, int to, struct tbuf *buf, struct why *why)
{
    struct fault *f = fault_of(t);
    struct held h = {.to = to, .buf = buf};
    if (apply_rules(f, &h, now_ms()))
        transport_release(f->inner, buf);
    else
        f->held[f->n_held++] = h;
    return flush(f, why);
}

static err fault_poll(struct transport *t, struct transport_event *ev, struct why *why)
{
    struct fault *f = fault_of(t);
    err e = flush(f, why);
    return e == ERR_OK ? transport_poll(f->inner, ev, why) : e;
}

static void fault_release(struct transport *t, struct tbuf *buf)
{
    transport_release(fault_of(t)->inner, buf);
}

static int fault_unsent(const struct transport *t)
{
    const struct fault *f = fault_of(t);
    return transport_unsent(f->inner) + f->n_held;
}

static void fault_close(struct transport *t)
{
    struct fault *f = fault_of(t);
    transport_close(f->inner);
    free(f->held);
    free(f);
}

static const struct transport_ops fault_ops = {
    .start = fault_start,
    .buf = fault_buf,
    .send = fault_send,
    .poll = fault_poll,
    .release = fault_release,
    .unsent = fault_unsent,
    .close = fault_close,
};

err transport_fault_open(struct transport *inner, const struct fault_rule *rules, int n, struct transport **out,
                         struct why *why)
{
    assert(n >= 0);
    struct fault *f = calloc(1, sizeof *f + (size_t)n * sizeof f->rules[0]);
    if (!f)
        return why_set(why, ERR_NOMEM, "fault transport with %d rules", n);
    f->base = (struct transport){.ops = &fault_ops, .rank = inner->rank, .size = inner->size};
    f->inner = inner;
    f->n_rules = n;
    for (int i = 0; i < n; i++)
        f->rules[i].is = rules[i];
    *out = &f->base;
    return ERR_OK;
}
