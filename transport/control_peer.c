/* control_peer.c - see control_peer.h. */
#include "transport/control_peer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CHUNK = 64 << 10,
    KEEP = 1 << 20, /* an empty buffer larger than this, after a long frame, is given back */
};

#define TO(state) (1u << PEER_##state)
static const unsigned may_go[PEER_STATE_COUNT] = {
    [PEER_NONE] = TO(AUTH),
    [PEER_AUTH] = TO(GREETED) | TO(OPEN) | TO(LEAVING) | TO(NONE),
    [PEER_GREETED] = TO(OPEN) | TO(NONE),
    [PEER_OPEN] = TO(LEAVING) | TO(NONE),
    [PEER_LEAVING] = TO(NONE),
};

void peer_go(struct peer *p, enum peer_state to)
{
    assert(may_go[p->state] & (1u << to));
    p->state = to;
}

void peer_open(struct peer *p, int fd, uint64_t now)
{
    peer_go(p, PEER_AUTH);
    p->fd = fd;
    p->member = -1;
    p->since_ms = p->heard_ms = p->said_ms = now;
    p->shut = false;
    p->out_at = 0;
    p->auth = (struct control_auth){0};
    buf_init(&p->in);
    buf_init(&p->out);
}

void peer_close(struct peer *p)
{
    if (p->state == PEER_NONE)
        return;
    close(p->fd);
    buf_fini(&p->in);
    buf_fini(&p->out);
    free(p->joined);
    free(p->lost);
    p->joined = p->lost = NULL;
    p->fd = -1;
    peer_go(p, PEER_NONE);
}

err peer_read(struct peer *p, size_t budget, uint64_t now, struct why *why)
{
    char chunk[CHUNK];
    size_t got = 0;
    while (got < budget) {
        size_t room = sizeof chunk < budget - got ? sizeof chunk : budget - got;
        if (p->state == PEER_AUTH) {
            if (p->in.len >= CONTROL_AUTH_MAX)
                return got ? ERR_OK : ERR_AGAIN;
            room = CONTROL_AUTH_MAX - p->in.len;
        }
        ssize_t n = recv(p->fd, chunk, room, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return why_set(why, ERR_PEER, "connection broken: %s", strerror(errno));
        if (n == 0 && !got)
            return why_set(why, ERR_PEER, "connection ended without a good-bye");
        if (n <= 0)
            break; /* an end after data is met again by the next read */
        p->heard_ms = now;
        got += (size_t)n;
        if (p->state != PEER_LEAVING)
            buf_put(&p->in, chunk, (size_t)n);
        if (p->in.failed)
            return why_set(why, ERR_NOMEM, "no memory for a frame");
        if ((size_t)n < room)
            break;
    }
    return got ? ERR_OK : ERR_AGAIN;
}

static void trim(struct buf *b)
{
    if (!b->len && b->cap > KEEP)
        buf_fini(b);
}

void peer_consume(struct peer *p, size_t n)
{
    buf_drop(&p->in, n);
    trim(&p->in);
}

size_t peer_unsent(const struct peer *p)
{
    return p->out.len - p->out_at;
}

err peer_flush(struct peer *p, struct why *why)
{
    if (p->out.failed)
        return why_set(why, ERR_NOMEM, "no memory for a frame");
    while (peer_unsent(p)) {
        ssize_t n = send(p->fd, p->out.data + p->out_at, peer_unsent(p), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0)
            return why_set(why, ERR_PEER, "connection broken: %s", strerror(errno));
        p->out_at += (size_t)n;
    }
    /* Moved to the front rarely enough to cost one copy a byte in all. */
    if (p->out_at == p->out.len || p->out_at > p->out.len / 2) {
        buf_drop(&p->out, p->out_at);
        p->out_at = 0;
        trim(&p->out);
    }
    return ERR_OK;
}

void peer_put(struct peer *p, enum control_msg kind, const void *body, size_t len, uint64_t now)
{
    control_msg_put(&p->out, kind, body, len);
    p->said_ms = now;
}
