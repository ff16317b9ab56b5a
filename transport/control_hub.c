/* control_hub.c - what a hub does with strangers.
 *
 * A stranger may hold one of STRANGERS_MAX places for STRANGER_MS and a hundred
 * bytes of memory; while all places are taken the listener is not looked at, so
 * the rest waits in the kernel's queue. Whoever does not know the key learns
 * only that it was wrong. A member whose number is taken, was lost before, or is
 * of another epoch is told so.
 *
 * A member that ran out of patience just when it was welcomed dials again, so a
 * number is spent only when its member has confirmed the welcome; until then its
 * latest attempt counts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/control_socket.h"
#include "transport/control_state.h"

enum {
    COMPLAIN_MS = 1000, /* strangers cannot fill the log */
    ACCEPT_PAUSE_MS = 100,
};

static struct peer *free_place(struct control *c)
{
    int n_strangers = 0;
    struct peer *place = NULL;
    for (int i = 0; i < c->n_places; i++) {
        struct peer *p = &c->peers[i];
        if (p->state == PEER_NONE)
            place = p;
        else if (p->state != PEER_OPEN)
            n_strangers++;
    }
    return n_strangers < STRANGERS_MAX ? place : NULL;
}

void hub_accept(struct control *c, uint64_t now)
{
    struct peer *p;
    int fd;
    err e = ERR_OK;
    while ((p = free_place(c)) && (e = control_socket_accept(c->listen_fd, &fd)) == ERR_OK) {
        peer_open(p, fd, now);
        if (control_put_challenge(&p->out, &p->auth, NULL) != ERR_OK)
            peer_close(p);
    }
    if (e == ERR_IO)
        c->accept_after_ms = now + ACCEPT_PAUSE_MS;
}

static void refuse(struct control *c, struct peer *p, const char *reason, uint64_t now)
{
    if (now - c->complained_ms >= COMPLAIN_MS) {
        c->complained_ms = now;
        why_set(&c->complaint, ERR_PEER, "%s", reason);
    }
    peer_put(p, CONTROL_MSG_REFUSE, reason, strlen(reason), now);
    peer_go(p, PEER_LEAVING);
}

/* An earlier attempt of the same member that it has given up by now. */
static void drop_unconfirmed(struct control *c, uint32_t member)
{
    for (int i = 0; i < c->n_places; i++)
        if (c->peers[i].state == PEER_GREETED && (uint32_t)c->peers[i].member == member)
            control_lose(c, &c->peers[i], CONTROL_BROKEN, "came again");
}

/* NULL: it may come in. */
static const char *objection(const struct control *c, const struct control_auth *a, char text[REFUSE_TEXT_MAX])
{
    if (a->epoch != c->o.epoch)
        snprintf(text, REFUSE_TEXT_MAX, "epoch %u, this is epoch %u", a->epoch, c->o.epoch);
    else if (a->member >= (uint32_t)c->o.max_members)
        snprintf(text, REFUSE_TEXT_MAX, "member %u, there are %d", a->member, c->o.max_members);
    else if (c->numbers[a->member] == NUMBER_IN)
        snprintf(text, REFUSE_TEXT_MAX, "member %u is here already", a->member);
    else if (c->numbers[a->member] == NUMBER_GONE)
        snprintf(text, REFUSE_TEXT_MAX, "member %u was lost and may not come back in this epoch", a->member);
    else if (c->closing)
        snprintf(text, REFUSE_TEXT_MAX, "the hub is closing");
    else
        return NULL;
    return text;
}

void hub_greet(struct control *c, struct peer *p, const struct control_view *m, uint64_t now)
{
    char text[REFUSE_TEXT_MAX];
    struct why why;
    if (control_get_hello(m, &p->auth, c->key, &why) != ERR_OK) {
        refuse(c, p, why.text, now);
        return;
    }
    drop_unconfirmed(c, p->auth.member);
    const char *no = objection(c, &p->auth, text);
    if (no) {
        refuse(c, p, no, now);
        return;
    }
    struct event *joined = calloc(1, sizeof *joined), *lost = calloc(1, sizeof *lost);
    if (!joined || !lost || control_put_welcome(&p->out, &p->auth, c->key, &why) != ERR_OK) {
        free(joined);
        free(lost);
        refuse(c, p, "the hub is out of memory", now);
        return;
    }
    p->joined = joined;
    p->lost = lost;
    p->member = (int)p->auth.member;
    p->since_ms = p->said_ms = now;
    c->numbers[p->member] = NUMBER_IN;
    peer_go(p, PEER_GREETED);
}

void hub_confirm(struct control *c, struct peer *p)
{
    peer_go(p, PEER_OPEN);
    p->joined->ev = (struct control_event){.kind = CONTROL_JOINED, .member = p->member};
    event_push(&c->events, p->joined);
    p->joined = NULL;
}
