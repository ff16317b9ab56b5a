/* control_loop.c - the control thread: one poll() loop for sockets and timers.
 *
 * Silence is judged by what was readable, not by the clock alone: a peer is lost
 * when it had been silent for too long *before* a poll() that then found nothing
 * of it. So a thread or a machine that was itself suspended first hears what
 * waited in its sockets, and does not call the others dead for its own sleep.
 *
 * Any byte is a sign of life, so a long frame on a slow link needs no heartbeat
 * in between. While the owner leaves too many frames in the queue nothing is
 * read, and a peer that is not read is not judged.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/control_state.h"

enum { CLOSING_TICK_MS = 5 };

void control_wake(struct control *c)
{
    uint64_t one = 1;
    if (write(c->wake_fd, &one, sizeof one) < 0) {
        /* The counter is full: the thread is awake anyway. */
    }
}

bool control_is_full(const struct control *c)
{
    return c->events.bytes > 2 * c->o.frame_max;
}

void control_lose(struct control *c, struct peer *p, enum control_loss loss, const char *reason)
{
    struct event *lost = p->lost;
    if (p->state == PEER_GREETED)
        c->numbers[p->member] = NUMBER_FREE;
    if (p->state != PEER_OPEN) {
        peer_close(p);
        return;
    }
    p->lost = NULL;
    if (c->hub)
        c->numbers[p->member] = NUMBER_GONE;
    lost->ev = (struct control_event){.kind = CONTROL_LOST, .member = p->member, .loss = loss};
    snprintf(lost->ev.reason, sizeof lost->ev.reason, "%s", reason);
    peer_close(p);
    event_push(&c->events, lost);
}

static void deliver(struct control *c, struct peer *p, const struct control_view *m)
{
    struct event *e = calloc(1, sizeof *e);
    uint8_t *data = malloc(m->len ? m->len : 1);
    if (!e || !data) {
        free(e);
        free(data);
        control_lose(c, p, CONTROL_BROKEN, "no memory for a frame");
        return;
    }
    if (m->len)
        memcpy(data, m->body, m->len);
    e->ev = (struct control_event){.kind = CONTROL_FRAME, .member = p->member, .data = data, .len = m->len};
    event_push(&c->events, e);
}

/* One message of an open connection. */
static void on_message(struct control *c, struct peer *p, const struct control_view *m)
{
    switch (m->kind) {
    case CONTROL_MSG_BEAT:
        break;
    case CONTROL_MSG_FRAME:
        deliver(c, p, m);
        break;
    case CONTROL_MSG_BYE:
        control_lose(c, p, CONTROL_CLOSED, "closed");
        break;
    default:
        control_lose(c, p, CONTROL_BROKEN, "broke the protocol");
    }
}

/* All whole messages that have arrived. */
static void on_bytes(struct control *c, struct peer *p, uint64_t now)
{
    size_t at = 0;
    while (p->state != PEER_NONE && p->state != PEER_LEAVING) {
        size_t cap = p->state == PEER_AUTH ? CONTROL_AUTH_CAP : c->o.frame_max;
        struct control_view m;
        long n = control_msg_get((const uint8_t *)p->in.data + at, p->in.len - at, cap, &m);
        if (n == 0)
            break;
        if (n < 0) {
            control_lose(c, p, CONTROL_BROKEN, "broke the protocol: a length or a kind out of range");
            return;
        }
        at += (size_t)n;
        if (p->state == PEER_AUTH) {
            hub_greet(c, p, &m, now);
            continue;
        }
        if (p->state == PEER_GREETED)
            hub_confirm(c, p);
        on_message(c, p, &m);
    }
    if (p->state != PEER_NONE)
        peer_consume(p, at);
}

static void on_readable(struct control *c, struct peer *p, uint64_t now)
{
    struct why why = {""};
    err e = peer_read(p, READ_BUDGET, now, &why);
    if (e == ERR_OK)
        on_bytes(c, p, now);
    else if (e != ERR_AGAIN)
        control_lose(c, p, CONTROL_BROKEN, why.text);
}

static void flush(struct control *c, struct peer *p)
{
    struct why why = {""};
    if (p->state == PEER_NONE || !peer_unsent(p))
        return;
    if (peer_flush(p, &why) != ERR_OK)
        control_lose(c, p, CONTROL_BROKEN, why.text);
}

/* Time's part for one peer. before: when the last poll() began; heard nothing
 * since then if `silent`. */
static void on_time(struct control *c, struct peer *p, bool silent, uint64_t before, uint64_t now)
{
    char text[80];
    switch (p->state) {
    case PEER_AUTH:
    case PEER_GREETED:
        if (now - p->since_ms >= STRANGER_MS)
            control_lose(c, p, CONTROL_BROKEN, "said nothing");
        break;
    case PEER_OPEN:
        if (control_is_full(c)) {
            p->heard_ms = now;
        } else if (silent && before > p->heard_ms && before - p->heard_ms >= c->o.dead_after_ms) {
            snprintf(text, sizeof text, "nothing heard for %llu ms", (unsigned long long)(before - p->heard_ms));
            control_lose(c, p, CONTROL_SILENT, text);
            break;
        }
        /* Ticks are half a heartbeat: sent at the tick nearest to when it is due. */
        if (now - p->said_ms + c->o.heartbeat_ms / 4 >= c->o.heartbeat_ms && !peer_unsent(p))
            peer_put(p, CONTROL_MSG_BEAT, NULL, 0, now);
        break;
    case PEER_LEAVING:
        if (!peer_unsent(p) && !p->shut) {
            p->shut = true;
            shutdown(p->fd, SHUT_WR);
        }
        if (now - p->since_ms >= STRANGER_MS && !c->closing)
            peer_close(p);
        break;
    default:
        break;
    }
}

/* ---- the loop --------------------------------------------------------------- */

/* polls: wake, listener, then one per place. */
static void fill_polls(struct control *c)
{
    bool full = control_is_full(c);
    c->polls[0] = (struct pollfd){.fd = c->wake_fd, .events = POLLIN};
    c->polls[1] = (struct pollfd){.fd = c->closing ? -1 : c->listen_fd, .events = POLLIN};
    int n_strangers = 0;
    for (int i = 0; i < c->n_places; i++) {
        const struct peer *p = &c->peers[i];
        struct pollfd *f = &c->polls[2 + i];
        *f = (struct pollfd){.fd = p->state == PEER_NONE ? -1 : p->fd};
        n_strangers += p->state != PEER_NONE && p->state != PEER_OPEN;
        if (p->state == PEER_OPEN && full)
            f->fd = peer_unsent(p) ? p->fd : -1; /* a hang-up cannot be masked: do not look */
        else
            f->events = POLLIN;
        if (p->state != PEER_NONE && peer_unsent(p))
            f->events |= POLLOUT;
    }
    if (n_strangers >= STRANGERS_MAX || now_ms() < c->accept_after_ms)
        c->polls[1].fd = -1;
}

static void serve_peers(struct control *c, uint64_t before)
{
    uint64_t now = now_ms();
    bool full = control_is_full(c);
    if (c->polls[1].fd >= 0 && c->polls[1].revents)
        hub_accept(c, now);
    for (int i = 0; i < c->n_places; i++) {
        struct peer *p = &c->peers[i];
        const struct pollfd *f = &c->polls[2 + i];
        /* A place may have changed hands since poll(): reading then just says "not yet". */
        bool readable = f->fd >= 0 && f->fd == p->fd && f->revents & (POLLIN | POLLHUP | POLLERR);
        if (p->state != PEER_NONE && readable && !(full && p->state == PEER_OPEN))
            on_readable(c, p, now);
        flush(c, p);
        on_time(c, p, !readable, before, now);
        flush(c, p);
    }
}

/* True once, when a member has not heard its hub for too long. */
static bool fence_due(struct control *c, uint64_t before)
{
    const struct peer *p = &c->peers[0];
    if (c->hub || c->fenced || c->closing || !c->o.fence_after_ms || !c->o.on_fence)
        return false;
    if (before < p->heard_ms || before - p->heard_ms < c->o.fence_after_ms)
        return false;
    return c->fenced = true;
}

/* At closing: true when nobody is left or the time is over. */
static bool all_gone(struct control *c, uint64_t now)
{
    bool waiting = false;
    for (int i = 0; i < c->n_places; i++) {
        struct peer *p = &c->peers[i];
        if (p->state == PEER_AUTH || p->state == PEER_GREETED)
            control_lose(c, p, CONTROL_BROKEN, "closing");
        if (p->state == PEER_OPEN) {
            peer_put(p, CONTROL_MSG_BYE, NULL, 0, now);
            peer_go(p, PEER_LEAVING);
            flush(c, p);
        }
        waiting |= p->state != PEER_NONE;
    }
    return !waiting || now >= c->close_until_ms;
}

void *control_loop(void *arg)
{
    struct control *c = arg;
    uint64_t count;
    unsigned tick = c->o.heartbeat_ms / 2 ? c->o.heartbeat_ms / 2 : 1;
    pthread_mutex_lock(&c->lock);
    if (!c->hub)
        on_bytes(c, &c->peers[0], now_ms()); /* what came right behind the welcome */
    pthread_mutex_unlock(&c->lock);
    for (;;) {
        pthread_mutex_lock(&c->lock);
        bool done = c->closing && all_gone(c, now_ms());
        unsigned wait_ms = c->closing ? CLOSING_TICK_MS : tick;
        fill_polls(c);
        pthread_mutex_unlock(&c->lock);
        if (done)
            return NULL;

        uint64_t before = now_ms();
        int n = poll(c->polls, (nfds_t)c->n_places + 2, (int)wait_ms);
        if (n < 0)
            for (int i = 0; i < c->n_places + 2; i++)
                c->polls[i].revents = 0;

        pthread_mutex_lock(&c->lock);
        if (c->polls[0].revents && read(c->wake_fd, &count, sizeof count) < 0) {
            /* Nothing to read: woken for another reason. */
        }
        serve_peers(c, before);
        bool fence = fence_due(c, before);
        struct why complaint = c->complaint;
        c->complaint.text[0] = '\0';
        pthread_mutex_unlock(&c->lock);
        /* Not under the lock: where log lines go may be a control plane again. */
        if (complaint.text[0])
            log_warn("control: a connection was refused: %s", complaint.text);
        if (fence)
            c->o.on_fence(c->o.fence_ctx);
    }
}
