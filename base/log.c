/* log.c - one line a message, whole or not at all.
 *
 * A line is built on the caller's stack and leaves in one write(2), so lines of
 * several threads and of several ranks on one terminal do not mix. Control bytes
 * in the text are blanked: a client must not be able to forge a log line with a
 * newline in its request.
 *
 * The mutex covers the sink and the write. log_set_sink() takes it too, so once
 * that returns, the old sink is not running and its context may be freed.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

enum { TEXT_MAX = 2048, LINE_MAX_BYTES = TEXT_MAX + 96 };

static const char *const level_names[LOG_LEVEL_COUNT] = {"debug", "info", "warn", "error"};

static struct {
    pthread_mutex_t lock;
    log_sink_fn *sink;
    void *sink_ctx;
    char who[32];
    bool json;
    _Atomic int least;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .who = "cordee", .least = LOG_INFO};

void log_init(const char *who, enum log_level least, bool json)
{
    pthread_mutex_lock(&state.lock);
    snprintf(state.who, sizeof state.who, "%s", who);
    state.json = json;
    atomic_store_explicit(&state.least, (int)least, memory_order_relaxed);
    pthread_mutex_unlock(&state.lock);
}

void log_set_sink(log_sink_fn *sink, void *ctx)
{
    pthread_mutex_lock(&state.lock);
    state.sink = sink;
    state.sink_ctx = ctx;
    pthread_mutex_unlock(&state.lock);
}

err log_level_parse(const char *name, enum log_level *out, struct why *why)
{
    for (int i = 0; i < LOG_LEVEL_COUNT; i++)
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return ERR_OK;
        }
    return why_set(why, ERR_INVAL, "log level \"%.32s\": expected debug, info, warn or error", name);
}

/* "HH:MM:SS.mmm LEVEL who: text" in local time, as an operator reads it. */
static void format_text(char *line, size_t size, enum log_level level, const char *text)
{
    static const char *const upper[LOG_LEVEL_COUNT] = {"DEBUG", "INFO ", "WARN ", "ERROR"};
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    localtime_r(&t.tv_sec, &tm);
    int head = snprintf(line, size, "%02d:%02d:%02d.%03d %s %s: ", tm.tm_hour, tm.tm_min, tm.tm_sec,
                        (int)(t.tv_nsec / 1000000), upper[level], state.who);
    size_t at = (size_t)head;
    for (const char *p = text; *p && at + 1 < size; p++)
        line[at++] = (unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p;
    line[at] = '\0';
}

/* One object in UTC, as a log collector wants it. */
static void format_json(struct buf *b, enum log_level level, const char *text)
{
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    buf_printf(b, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\",\"level\":\"%s\",\"who\":",
               tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
               (int)(t.tv_nsec / 1000000), level_names[level]);
    buf_put_json(b, state.who, strlen(state.who), false);
    buf_puts(b, ",\"text\":");
    buf_put_json(b, text, strlen(text), false);
    buf_putc(b, '}');
}

/* line has room for one more byte. There is nowhere to report a failure to. */
static void write_line(char *line)
{
    size_t len = strlen(line);
    line[len++] = '\n';
    for (size_t at = 0; at < len;) {
        ssize_t n = write(STDERR_FILENO, line + at, len - at);
        if (n > 0)
            at += (size_t)n;
        else if (errno != EINTR)
            break;
    }
}

void log_at(enum log_level level, const char *fmt, ...)
{
    if ((int)level < atomic_load_explicit(&state.least, memory_order_relaxed))
        return;
    int saved_errno = errno; /* logging between a failure and its report is harmless */
    char text[TEXT_MAX], plain[LINE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0)
        text[0] = '\0';
    va_end(args);

    struct buf json;
    buf_init(&json);
    pthread_mutex_lock(&state.lock);
    char *line = plain;
    if (state.json) {
        format_json(&json, level, text);
        buf_putc(&json, '\n'); /* reserves write_line()'s byte */
        if (!json.failed) {
            line = json.data;
            line[json.len - 1] = '\0';
        }
    }
    if (line == plain)
        format_text(plain, sizeof plain - 1, level, text);
    if (state.sink)
        state.sink(state.sink_ctx, level, line);
    else
        write_line(line);
    pthread_mutex_unlock(&state.lock);
    buf_fini(&json);
    errno = saved_errno;
}
