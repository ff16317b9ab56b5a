/* cmd_template.c - cordee template --file T.jinja: chat requests to text.
 *
 * One JSON object a line in: `messages`, `tools`, `add_generation_prompt`, `bos_token`,
 * `eos_token`, `now` (ISO time, for strftime_now), further keys are variables. A line
 * out: {"text": ...}, or {"error": ...} with the line of the template; --spans adds
 * which bytes of the text the user wrote. A request that fails does not end the run.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/jinja_chat.h"
#include "cli/cmd.h"
#include "cli/options.h"

struct template_args {
    const char *file;
    bool spans;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct template_args *x = ctx;
    switch (key) {
    case 'f':
        x->file = value;
        return ERR_OK;
    case 's':
        x->spans = true;
        return ERR_OK;
    default:
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\" (requests are read from stdin)", value);
    }
}

static err read_file(const char *path, struct buf *out, struct why *why)
{
    char part[65536];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f)
        return why_set(why, ERR_NOTFOUND, "%s: %m", path);
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        buf_put(out, part, n);
    err e = ferror(f)     ? why_set(why, ERR_IO, "%s: %m", path)
            : out->failed ? why_set(why, ERR_NOMEM, "%s", path)
                          : ERR_OK;
    fclose(f);
    return e;
}

/* Takes what the model, and not its user, says out of a request. */
static err split_request(json_t *request, json_t *model, struct jinja_options *o, struct why *why)
{
    static const char *const names[] = {"bos_token", "eos_token"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *v = json_object_get(request, names[i]);
        if (v && json_object_set(model, names[i], v))
            return why_set(why, ERR_NOMEM, "request");
        json_object_del(request, names[i]);
    }
    o->now = jinja_now();
    const json_t *now = json_object_get(request, "now");
    if (json_is_string(now)) {
        err e = jinja_parse_time(json_string_value(now), &o->now, why);
        if (e)
            return e;
    }
    json_object_del(request, "now");
    return ERR_OK;
}

static void put_text(const struct jinja_text *x, bool spans, struct buf *out)
{
    buf_puts(out, "{\"text\":");
    buf_put_json(out, x->text.data ? x->text.data : "", x->text.len, true);
    if (spans) {
        const char *comma = "";
        buf_puts(out, ",\"user\":[");
        for (size_t i = 0; i < x->n_spans; i++)
            if (x->spans[i].from_user) {
                buf_printf(out, "%s[%zu,%zu]", comma, x->spans[i].start, x->spans[i].end);
                comma = ",";
            }
        buf_putc(out, ']');
    }
    buf_puts(out, "}\n");
}

static void put_error(const struct why *why, int line, struct buf *out)
{
    buf_puts(out, "{\"error\":");
    buf_put_json(out, why->text, strlen(why->text), true);
    if (line)
        buf_printf(out, ",\"line\":%d", line);
    buf_puts(out, "}\n");
}

/* One request; whatever is wrong with it becomes its answer. */
static void answer(const struct jinja *t, const char *text, size_t len, bool spans, struct buf *out)
{
    struct jinja_options o = {0};
    struct jinja_text rendered = {0};
    struct why why = {0};
    json_error_t at;
    int line = 0;
    json_t *model = json_object(), *request = json_loadb(text, len, JSON_ALLOW_NUL, &at);
    err e = request ? split_request(request, model, &o, &why)
                    : why_set(&why, ERR_FORMAT, "column %d: %s", at.column, at.text);
    if (!e)
        e = jinja_render_chat(t, request, model, &o, &rendered, &line, &why);
    if (e)
        put_error(&why, line, out);
    else
        put_text(&rendered, spans, out);
    jinja_text_fini(&rendered);
    json_decref(request);
    json_decref(model);
}

static err answer_all(const struct jinja *t, bool spans, struct why *why)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    struct buf out;
    err e = ERR_OK;
    buf_init(&out);
    while (!e && (len = getline(&line, &cap, stdin)) >= 0) {
        buf_clear(&out);
        answer(t, line, (size_t)len, spans, &out);
        if (out.failed)
            e = why_set(why, ERR_NOMEM, "output line");
        else if (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout))
            e = why_set(why, ERR_IO, "stdout");
    }
    buf_fini(&out);
    free(line);
    return e;
}

/* A template that does not parse answers every request with that error: the caller
 * asked what the template does, and this is it. */
static err refuse_all(const struct why *reason, int at_line, struct why *why)
{
    struct buf out;
    err e = ERR_OK;
    int c, last = '\n';
    buf_init(&out);
    put_error(reason, at_line, &out);
    while (!e && (c = getchar()) != EOF) {
        if (last == '\n' && fwrite(out.data, 1, out.len, stdout) != out.len)
            e = why_set(why, ERR_IO, "stdout");
        last = c;
    }
    buf_fini(&out);
    return e;
}

int cmd_template(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"file", 'f', "T.jinja", 0, "the template", 1},
        {"spans", 's', NULL, 0, "add \"user\": the byte ranges that came from the request", 1},
        {0},
    };
    struct template_args x = {0};
    struct options o = {
        "template", "Chat requests on stdin, one JSON object a line, to text on stdout.", NULL, own, take, &x,
        true};
    struct jinja *t = NULL;
    struct config c;
    struct buf source;
    struct why why = {0}, reason = {0};
    int code, line = 0;

    config_init(&c);
    buf_init(&source);
    if (options_parse(&o, argc, argv, &c, &code))
        goto out;
    if (!x.file) {
        why_set(&why, ERR_INVAL, "which template? usage: cordee template --file T.jinja");
        code = cmd_fail("template", ERR_INVAL, &why, EXIT_USAGE);
        goto out;
    }
    err e = read_file(x.file, &source, &why);
    if (!e)
        e = jinja_open(source.data ? source.data : "", source.len, &t, &line, &reason)
                ? refuse_all(&reason, line, &why)
                : answer_all(t, x.spans, &why);
    if (!e && fflush(stdout))
        e = why_set(&why, ERR_IO, "stdout");
    code = e ? cmd_fail("template", e, &why, EXIT_FAILED) : EXIT_DONE;
out:
    jinja_close(t);
    buf_fini(&source);
    config_fini(&c);
    return code;
}
