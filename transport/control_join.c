/* control_join.c - how a member finds its hub.
 *
 * The hub names all its addresses and only some of them may be reachable from
 * here; an unreachable one often just never answers. So the list is tried in
 * turn, each address for a short while, and round again with more patience,
 * until the deadline. Only a refusal by the hub ends the search at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "transport/control_socket.h"
#include "transport/control_state.h"

enum {
    FIRST_TRY_MS = 250, /* doubled each round */
    HANDSHAKE_MS = 1000,
    PAUSE_MS = 20,      /* between rounds */
    NAME_MAX_BYTES = 256,
};

/* A reason from the other side, made safe to print. */
static void copy_reason(char out[REFUSE_TEXT_MAX], const struct control_view *m)
{
    size_t n = m->len < REFUSE_TEXT_MAX - 1 ? m->len : REFUSE_TEXT_MAX - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = m->body[i] >= 0x20 && m->body[i] < 0x7f ? (char)m->body[i] : '?';
    out[n] = '\0';
}

/* The next whole message of the handshake; *taken bytes of p->in hold it. */
static err next_message(struct peer *p, uint64_t until_ms, struct control_view *m, long *taken, struct why *why)
{
    err e;
    for (;;) {
        *taken = control_msg_get((const uint8_t *)p->in.data, p->in.len, CONTROL_AUTH_CAP, m);
        if (*taken > 0)
            return ERR_OK;
        if (*taken < 0)
            FAIL(ERR_FORMAT, "this is no control plane");
        TRY(control_socket_wait(p->fd, POLLIN, until_ms, why));
        e = peer_read(p, CONTROL_AUTH_MAX, now_ms(), why);
        if (e != ERR_OK && e != ERR_AGAIN)
            goto out;
    }
out:
    return e;
}

static err send_hello(struct peer *p, const struct control *c, uint64_t until_ms, struct why *why)
{
    err e;
    TRY(control_put_hello(&p->out, &p->auth, c->key, why));
    for (;;) {
        TRY(peer_flush(p, why));
        if (!peer_unsent(p))
            break;
        TRY(control_socket_wait(p->fd, POLLOUT, until_ms, why));
    }
out:
    return e;
}

/* ERR_PEER with *refused set: the hub's own decision, asking again is useless. */
static err shake_hands(struct peer *p, const struct control *c, uint64_t until_ms, bool *refused, struct why *why)
{
    struct control_view m;
    long taken;
    err e;
    p->auth.member = (uint32_t)c->o.member;
    p->auth.epoch = c->o.epoch;
    TRY(next_message(p, until_ms, &m, &taken, why));
    if (!control_get_challenge(&m, &p->auth))
        FAIL(ERR_FORMAT, "this is no control plane");
    buf_drop(&p->in, (size_t)taken);
    TRY(send_hello(p, c, until_ms, why));
    TRY(next_message(p, until_ms, &m, &taken, why));
    if (m.kind == CONTROL_MSG_REFUSE) {
        char reason[REFUSE_TEXT_MAX];
        copy_reason(reason, &m);
        *refused = true;
        FAIL(ERR_PEER, "the hub refused: %s", reason);
    }
    TRY(control_get_welcome(&m, &p->auth, c->key, why));
    buf_drop(&p->in, (size_t)taken);
out:
    return e;
}

static err try_address(struct control *c, const char *address, uint64_t until_ms, uint64_t patience_ms, bool *refused,
                       struct why *why)
{
    struct peer *p = &c->peers[0];
    uint64_t now = now_ms(), dial_until = now + patience_ms, shake_until;
    int fd = -1;
    err e;
    TRY(control_socket_dial(address, dial_until < until_ms ? dial_until : until_ms, &fd, why));
    now = now_ms();
    shake_until = now + (patience_ms > HANDSHAKE_MS ? patience_ms : HANDSHAKE_MS);
    peer_open(p, fd, now);
    e = shake_hands(p, c, shake_until < until_ms ? shake_until : until_ms, refused, why);
    if (e == ERR_OK && !(p->lost = calloc(1, sizeof *p->lost)))
        e = why_set(why, ERR_NOMEM, "control connection");
    if (e != ERR_OK) {
        peer_close(p);
        return why_prefix(why, e, "%s", address);
    }
    p->heard_ms = now_ms();
    peer_go(p, PEER_OPEN);
    peer_put(p, CONTROL_MSG_BEAT, NULL, 0, p->heard_ms);
    e = peer_flush(p, why);
    if (e != ERR_OK)
        peer_close(p);
out:
    return e;
}

/* Copies the address that starts at *at and moves past its comma. */
static bool next_address(const char **at, char out[NAME_MAX_BYTES])
{
    while (**at) {
        size_t len = strcspn(*at, ",");
        const char *from = *at;
        *at += len + (from[len] == ',');
        if (len > 0 && len < NAME_MAX_BYTES) {
            memcpy(out, from, len);
            out[len] = '\0';
            return true;
        }
    }
    return false;
}

err member_dial(struct control *c, const char *addresses, struct why *why)
{
    uint64_t until_ms = now_ms() + c->o.connect_ms;
    struct why last = {""};
    char address[NAME_MAX_BYTES];
    bool refused = false;
    for (uint64_t patience_ms = FIRST_TRY_MS;; patience_ms *= 2) {
        const char *at = addresses;
        bool any = false;
        while (next_address(&at, address)) {
            any = true;
            err e = try_address(c, address, until_ms, patience_ms, &refused, &last);
            if (e == ERR_OK)
                return ERR_OK;
            if (refused || e == ERR_INVAL || e == ERR_NOMEM)
                return why_set(why, e, "control: %s", last.text);
            if (now_ms() >= until_ms)
                return why_set(why, ERR_TIMEOUT, "control: no hub within %u ms; last: %s", c->o.connect_ms, last.text);
        }
        if (!any)
            return why_set(why, ERR_INVAL, "control: \"%s\" names no address", addresses);
        sleep_us(PAUSE_MS * 1000);
    }
}
