/* log.h - leveled log lines to stderr, text or JSON, safe from any thread.
 *
 * A line is "HH:MM:SS.mmm LEVEL who: text". `who` is set once per process
 * ("serve", "rank 2"). A sink may be installed to carry lines elsewhere (ranks
 * send theirs to rank 0 over the control plane); it must not log itself.
 */
#ifndef CORDEE_BASE_LOG_H
#define CORDEE_BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_LEVEL_COUNT };

typedef void log_sink_fn(void *ctx, enum log_level level, const char *line);

/* who: copied (cut to 31 bytes). json: one JSON object a line instead of text. */
void log_init(const char *who, enum log_level least, bool json);
void log_set_sink(log_sink_fn *sink, void *ctx); /* NULL: back to stderr */

/* "debug" | "info" | "warn" | "error" -> level; ERR_INVAL otherwise. */
MUST_CHECK err log_level_parse(const char *name, enum log_level *out, struct why *why);

void log_at(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)

#endif
