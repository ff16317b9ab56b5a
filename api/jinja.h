/* jinja.h - chat templates: the Jinja subset that model files carry, rendered as
 * transformers' render_jinja_template does.
 *
 * A template is parsed once into a tree that is never changed afterwards and may
 * be rendered by any number of threads at a time. A rendering owns one arena; it
 * is bounded in steps, bytes, output and nesting, so a hostile template (it came
 * with a downloaded model) costs a bounded amount and can reach nothing outside.
 *
 * Input marking: every byte of the output knows whether it was written by the
 * template or came from the request. The answer says so in spans; the tokenizer
 * recognises control tokens only in the template's bytes, so a user who types
 * <|im_end|> sends nine characters and not the end of a turn. Marks survive
 * concatenation, slicing, filters, tojson and formatting.
 *
 * What is understood and what is not: docs/chat-templates.md.
 */
#ifndef CORDEE_API_JINJA_H
#define CORDEE_API_JINJA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"

struct jinja;

/* One variable of the template. `value` is borrowed during the call. */
struct jinja_var {
    const char *name;
    const json_t *value;
    bool from_user; /* the strings inside are marked */
};

/* 0 takes the default. */
struct jinja_limits {
    size_t max_steps;  /* nodes evaluated and, in units of 16, bytes moved; 50 million */
    size_t max_bytes;  /* of memory; 512 MiB */
    size_t max_output; /* bytes of text; 16 MiB */
    int max_depth;     /* of nesting, macro calls included; 2000 */
};

struct jinja_options {
    struct tm now; /* strftime_now(); jinja_now() and jinja_parse_time() fill it */
    struct jinja_limits limits;
};

/* [start, end) in bytes. */
struct jinja_span {
    size_t start, end;
    bool from_user;
};

struct jinja_text {
    struct buf text;
    struct jinja_span *spans; /* [n_spans], in order, without gaps; neighbours differ */
    size_t n_spans;
};

/* Parses a template; `source` is copied.
 *
 * line  of the mistake, when there is one; NULL is fine
 *
 * ERR_FORMAT       not a template
 * ERR_UNSUPPORTED  include, import, extends and other things that need a loader
 * ERR_LIMIT        larger than 4 MiB or nested too deeply
 */
MUST_CHECK err jinja_open(const char *source, size_t len, struct jinja **out, int *line, struct why *why);
void jinja_close(struct jinja *t); /* NULL is fine */

/* Renders. *out is initialised by the call and released with jinja_text_fini();
 * untouched on failure.
 *
 * line  of the statement that failed; NULL is fine
 *
 * ERR_INVAL  the template called raise_exception() (`why` is its message, bare) or
 *            the request does not suit it (Python's message for it)
 * ERR_LIMIT  a limit of `options`; ERR_NOMEM likewise for the system's memory
 */
MUST_CHECK err jinja_render(const struct jinja *t, const struct jinja_var *vars, size_t n_vars,
                            const struct jinja_options *options, struct jinja_text *out, int *line,
                            struct why *why);
void jinja_text_fini(struct jinja_text *x);

/* Local time. */
struct tm jinja_now(void);
/* "2024-07-26T12:34:56", also "2024-07-26" and with fractions of a second (dropped). */
MUST_CHECK err jinja_parse_time(const char *iso, struct tm *out, struct why *why);

#endif
