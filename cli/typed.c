/* typed.c - see typed.h. */
#include "cli/typed.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 65536, MAX_LINE = 16 << 20 };

/* One read; it does not block because the descriptor was readable, or is a file. */
static void read_some(struct typed *t)
{
    int n = evbuffer_read(t->in, STDIN_FILENO, CHUNK);
    t->end = n == 0;
    t->failed = n < 0 && errno != EAGAIN && errno != EINTR;
}

static void readable_cb(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    read_some(ctx);
}

err typed_open(struct typed *t, struct session *s, struct why *why)
{
    struct stat st;
    *t = (struct typed){.in = evbuffer_new()};
    if (fstat(STDIN_FILENO, &st) != 0)
        return why_set(why, ERR_IO, "stdin: %m");
    if (!S_ISREG(st.st_mode))
        t->readable = event_new(s->base, STDIN_FILENO, EV_READ, readable_cb, t);
    if (!t->in || (!t->readable && !S_ISREG(st.st_mode)))
        return why_set(why, ERR_NOMEM, "stdin");
    return ERR_OK;
}

void typed_close(struct typed *t)
{
    if (t->readable)
        event_free(t->readable);
    if (t->in)
        evbuffer_free(t->in);
    *t = (struct typed){0};
}

/* A whole line, or what is left at the end. */
static char *take_line(struct typed *t, size_t *len)
{
    char *line = evbuffer_readln(t->in, len, EVBUFFER_EOL_CRLF);
    size_t left = evbuffer_get_length(t->in);
    if (line || !t->end || left == 0)
        return line;
    line = malloc(left + 1);
    if (!line)
        return NULL;
    evbuffer_remove(t->in, line, left);
    line[left] = 0;
    *len = left;
    return line;
}

err typed_line(struct typed *t, struct session *s, char **line, size_t *len, struct why *why)
{
    err e = ERR_OK;
    while (!(*line = take_line(t, len)) && !t->end) {
        if (!t->readable)
            read_some(t);
        else if (event_add(t->readable, NULL) != 0)
            return why_set(why, ERR_IO, "stdin cannot be waited for");
        else
            TRY(session_turn(s, why));
        if (t->failed)
            FAIL(ERR_IO, "stdin: %m");
        if (evbuffer_get_length(t->in) > MAX_LINE)
            FAIL(ERR_LIMIT, "a line is longer than %d MiB", MAX_LINE >> 20);
    }
out:
    return e;
}
