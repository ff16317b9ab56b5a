/* control_queue.c - see control_queue.h. */
#include "transport/control_queue.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

err event_queue_init(struct event_queue *q, struct why *why)
{
    *q = (struct event_queue){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    q->last = &q->first;
    if (q->fd < 0)
        return why_set(why, ERR_IO, "control: eventfd: %s", strerror(errno));
    return ERR_OK;
}

void event_queue_fini(struct event_queue *q)
{
    struct event *e;
    while (q->last && (e = event_pop(q))) {
        free(e->ev.data);
        free(e);
    }
    if (q->fd >= 0)
        close(q->fd);
}

void event_push(struct event_queue *q, struct event *e)
{
    uint64_t one = 1;
    if (!q->first && write(q->fd, &one, sizeof one) < 0) {
        /* Cannot happen: the counter is 0 while the queue is empty. */
    }
    e->next = NULL;
    *q->last = e;
    q->last = &e->next;
    q->bytes += e->ev.len;
}

struct event *event_pop(struct event_queue *q)
{
    struct event *e = q->first;
    uint64_t count;
    if (!e)
        return NULL;
    q->bytes -= e->ev.len;
    q->first = e->next;
    if (!q->first) {
        q->last = &q->first;
        if (read(q->fd, &count, sizeof count) < 0) {
            /* Cannot happen: see event_push. */
        }
    }
    return e;
}
