/* typed.h - lines from stdin, on an event loop that must go on turning meanwhile.
 *
 * Terminals, pipes and files; a file cannot be waited for (epoll refuses it), and need
 * not be.
 */
#ifndef CORDEE_CLI_TYPED_H
#define CORDEE_CLI_TYPED_H

#include "cli/session.h"

struct evbuffer;

struct typed {
    struct evbuffer *in;
    struct event *readable; /* NULL: a file */
    bool end;
    bool failed;
};

MUST_CHECK err typed_open(struct typed *t, struct session *s, struct why *why);
void typed_close(struct typed *t);

/* The next line without its end; *line NULL at the end of the input, else free() it.
 * It may contain NUL. Turns the session while it waits; ERR: the session is over. */
MUST_CHECK err typed_line(struct typed *t, struct session *s, char **line, size_t *len, struct why *why);

#endif
