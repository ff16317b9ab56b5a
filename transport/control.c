/* control.c - what the owner of a control plane calls. See control_state.h for
 * the parts.
 *
 * Sending tries the socket at once, on the owner's thread: a frame leaves without
 * waiting for the control thread to wake. What the socket does not take, and any
 * trouble with it, is left to the thread.
 */
#include "transport/control.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/control_socket.h"
#include "transport/control_state.h"

static void set_defaults(struct control_options *o)
{
    if (!o->heartbeat_ms)
        o->heartbeat_ms = 250;
    if (!o->dead_after_ms)
        o->dead_after_ms = 1000;
    if (!o->connect_ms)
        o->connect_ms = 5000;
    if (!o->frame_max)
        o->frame_max = 64u << 20;
}

static void unlink_socket(const struct control *c)
{
    if (c->hub && c->address.data && strncmp(c->address.data, "unix:", 5) == 0)
        unlink(c->address.data + 5);
}

/* Frees everything; the thread does not run (any more). */
static void control_free(struct control *c)
{
    for (int i = 0; c->peers && i < c->n_places; i++)
        peer_close(&c->peers[i]);
    if (c->listen_fd >= 0) {
        close(c->listen_fd);
        unlink_socket(c);
    }
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    event_queue_fini(&c->events);
    pthread_mutex_destroy(&c->lock);
    if (c->key)
        OPENSSL_cleanse(c->key, strlen(c->key));
    free(c->key);
    buf_fini(&c->address);
    free(c->peers);
    free(c->polls);
    free(c->numbers);
    free(c);
}

static err control_alloc(const struct control_options *o, bool hub, struct control **out, struct why *why)
{
    struct control *c = NULL;
    err e;
    if (!o->key || !*o->key)
        FAIL(ERR_INVAL, "control: no key");
    if (!(c = calloc(1, sizeof *c)))
        FAIL(ERR_NOMEM, "control");
    pthread_mutex_init(&c->lock, NULL);
    c->o = *o;
    c->hub = hub;
    c->wake_fd = c->listen_fd = c->events.fd = -1;
    set_defaults(&c->o);
    buf_init(&c->address);
    c->n_places = hub ? c->o.max_members + STRANGERS_MAX : 1;
    c->peers = calloc((size_t)c->n_places, sizeof *c->peers);
    c->polls = calloc((size_t)c->n_places + 2, sizeof *c->polls);
    c->numbers = calloc(hub ? (size_t)c->o.max_members : 1, sizeof *c->numbers);
    c->key = strdup(o->key);
    if (!c->peers || !c->polls || !c->numbers || !c->key)
        FAIL(ERR_NOMEM, "control plane of %d members", c->o.max_members);
    c->o.key = c->key;
    TRY(event_queue_init(&c->events, why));
    if ((c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        FAIL(ERR_IO, "control: eventfd: %s", strerror(errno));
    *out = c;
    return ERR_OK;
out:
    if (c)
        control_free(c);
    return e;
}

/* The thread takes no signals: they are the main thread's. */
static err start_thread(struct control *c, struct why *why)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int code = pthread_create(&c->thread, NULL, control_loop, c);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code != 0)
        return why_set(why, ERR_IO, "control: thread: %s", strerror(code));
    return ERR_OK;
}

err control_listen(const struct control_options *o, struct control **out, struct why *why)
{
    struct control *c = NULL;
    err e;
    assert(o->max_members > 0);
    TRY(control_alloc(o, true, &c, why));
    TRY(control_socket_listen(o->interface, o->port_first, o->port_last, &c->listen_fd, &c->address, why));
    TRY(start_thread(c, why));
    *out = c;
    c = NULL;
out:
    if (c)
        control_free(c);
    return e;
}

err control_join(const struct control_options *o, const char *address, struct control **out, struct why *why)
{
    struct control *c = NULL;
    err e;
    assert(o->member >= 0);
    TRY(control_alloc(o, false, &c, why));
    TRY(member_dial(c, address, why));
    TRY(start_thread(c, why));
    *out = c;
    c = NULL;
out:
    if (c)
        control_free(c);
    return e;
}

const char *control_address(const struct control *c)
{
    return c->address.data ? c->address.data : "";
}

int control_fd(const struct control *c)
{
    return c->events.fd;
}

static struct peer *find_member(struct control *c, int member)
{
    for (int i = 0; i < c->n_places; i++)
        if (c->peers[i].state == PEER_OPEN && c->peers[i].member == member)
            return &c->peers[i];
    return NULL;
}

err control_send(struct control *c, int to, const void *data, size_t len, struct why *why)
{
    bool wake = false;
    err e = ERR_OK;
    if (len > c->o.frame_max)
        return why_set(why, ERR_LIMIT, "control: a frame of %zu bytes, at most %zu", len, c->o.frame_max);
    pthread_mutex_lock(&c->lock);
    struct peer *p = find_member(c, to);
    if (!p)
        FAIL(ERR_PEER, "control: member %d is not connected", to);
    if (peer_unsent(p) > 2 * c->o.frame_max)
        FAIL(ERR_FULL, "control: member %d does not read", to);
    peer_put(p, CONTROL_MSG_FRAME, data, len, now_ms());
    wake = peer_flush(p, NULL) != ERR_OK || peer_unsent(p);
out:
    pthread_mutex_unlock(&c->lock);
    if (wake)
        control_wake(c);
    return e;
}

err control_poll(struct control *c, struct control_event *ev)
{
    pthread_mutex_lock(&c->lock);
    bool was_full = control_is_full(c);
    struct event *e = event_pop(&c->events);
    bool wake = was_full && !control_is_full(c);
    pthread_mutex_unlock(&c->lock);
    if (wake)
        control_wake(c);
    if (!e)
        return ERR_AGAIN;
    *ev = e->ev;
    free(e);
    return ERR_OK;
}

void control_close(struct control *c, unsigned flush_ms)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->closing = true;
    c->close_until_ms = now_ms() + flush_ms;
    pthread_mutex_unlock(&c->lock);
    control_wake(c);
    pthread_join(c->thread, NULL);
    control_free(c);
}
