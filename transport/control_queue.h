/* control_queue.h - events on their way to the owner, and the descriptor that
 * says so. Not thread-safe: the control's lock guards it. */
#ifndef CORDEE_TRANSPORT_CONTROL_QUEUE_H
#define CORDEE_TRANSPORT_CONTROL_QUEUE_H

#include <stddef.h>

#include "base/err.h"
#include "transport/control.h"

struct event {
    struct control_event ev;
    struct event *next;
};

struct event_queue {
    struct event *first, **last;
    size_t bytes; /* of the frames in it */
    int fd;       /* eventfd: readable while events wait */
};

MUST_CHECK err event_queue_init(struct event_queue *q, struct why *why);
void event_queue_fini(struct event_queue *q);
/* Takes the event. */
void event_push(struct event_queue *q, struct event *e);
/* NULL: none. The caller frees the event, and its data. */
struct event *event_pop(struct event_queue *q);

#endif
