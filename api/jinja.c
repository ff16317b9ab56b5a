/* jinja.c - opening a template and rendering it. */
#include "api/jinja.h"

#include <stdlib.h>
#include <string.h>

#include "api/jinja_eval.h"
#include "api/jinja_json.h"
#include "api/jinja_parse.h"

enum {
    SOURCE_MAX = 4 << 20,
    PARSE_BYTES = 512 << 20, /* a token and a node for every byte or two of the largest source */
    PARSE_DEPTH = 200,
    STEPS = 50 * 1000 * 1000,
    OUTPUT_BYTES = 16 << 20,
    DEPTH = 2000,
};
#define RENDER_BYTES ((size_t)512 << 20)

err jinja_open(const char *source, size_t len, struct jinja **out, int *line, struct why *why)
{
    struct jinja *t = calloc(1, sizeof *t);
    struct jrun r = {
        .why = why, .max_steps = SIZE_MAX, .max_depth = PARSE_DEPTH, .max_output = SOURCE_MAX, .line = 1};
    struct jtoken *tokens;
    err e;
    arena_init(&r.arena, PARSE_BYTES);
    if (!t)
        FAIL(ERR_NOMEM, "chat template");
    if (len > SOURCE_MAX)
        FAIL(ERR_LIMIT, "a chat template of %zu bytes; at most %d", len, SOURCE_MAX);
    TRY(jlex(&r, source, len, &tokens));
    TRY(jparse(&r, tokens, t));
    t->arena = r.arena;
    *out = t;
    return ERR_OK;
out:
    if (line)
        *line = r.line;
    arena_fini(&r.arena);
    free(t);
    return e;
}

void jinja_close(struct jinja *t)
{
    if (!t)
        return;
    arena_fini(&t->arena);
    free(t);
}

static err load_vars(struct jrun *r, const struct jinja_var *vars, size_t n)
{
    JTRY(jdict_open(r, n, &r->vars));
    for (size_t i = 0; i < n; i++) {
        struct jval name, value;
        JTRY(jstr_own(r, vars[i].name, strlen(vars[i].name), &name));
        JTRY(jjson_get(r, vars[i].value, vars[i].from_user, &value));
        JTRY(jdict_set(r, r->vars, name, value));
    }
    return ERR_OK;
}

static err run(struct jrun *r, const struct jinja_var *vars, size_t n_vars, struct jval *out)
{
    struct jscope *root;
    JTRY(load_vars(r, vars, n_vars));
    JTRY(jscope_open(r, NULL, &root));
    JTRY(jexec_capture(r, root, r->tmpl->body, out));
    return r->flow == JFLOW_ON ? ERR_OK : jfail(r, "'break' outside loop");
}

/* The marks as spans. */
static err copy_out(const struct jstr *s, struct jinja_text *out, struct why *why)
{
    size_t n = 0;
    for (size_t i = 0; i < s->len; i++)
        n += i == 0 || jstr_user_at(s, i) != jstr_user_at(s, i - 1);
    struct jinja_text x = {.spans = calloc(n ? n : 1, sizeof *x.spans)};
    buf_init(&x.text);
    buf_put(&x.text, s->text, s->len);
    if (!x.spans || x.text.failed) {
        jinja_text_fini(&x);
        return why_set(why, ERR_NOMEM, "rendered template of %zu bytes", s->len);
    }
    for (size_t i = 0; i < s->len; i++) {
        if (i == 0 || jstr_user_at(s, i) != jstr_user_at(s, i - 1))
            x.spans[x.n_spans++] = (struct jinja_span){.start = i, .from_user = jstr_user_at(s, i)};
        x.spans[x.n_spans - 1].end = i + 1;
    }
    *out = x;
    return ERR_OK;
}

err jinja_render(const struct jinja *t, const struct jinja_var *vars, size_t n_vars,
                 const struct jinja_options *options, struct jinja_text *out, int *line, struct why *why)
{
    const struct jinja_limits *lim = &options->limits;
    struct jrun r = {.why = why,
                     .tmpl = t,
                     .now = options->now,
                     .max_steps = lim->max_steps ? lim->max_steps : STEPS,
                     .max_depth = lim->max_depth ? lim->max_depth : DEPTH,
                     .max_output = lim->max_output ? lim->max_output : OUTPUT_BYTES};
    struct jval text;
    arena_init(&r.arena, lim->max_bytes ? lim->max_bytes : RENDER_BYTES);
    err e = run(&r, vars, n_vars, &text);
    if (!e)
        e = copy_out(text.s, out, why);
    if (e && line)
        *line = r.line;
    arena_fini(&r.arena);
    return e;
}

void jinja_text_fini(struct jinja_text *x)
{
    buf_fini(&x->text);
    free(x->spans);
    *x = (struct jinja_text){0};
}

struct tm jinja_now(void)
{
    time_t t = time(NULL);
    struct tm now;
    localtime_r(&t, &now);
    return now;
}

err jinja_parse_time(const char *iso, struct tm *out, struct why *why)
{
    struct tm t = {0};
    const char *rest = strptime(iso, "%Y-%m-%d", &t);
    if (rest && (*rest == 'T' || *rest == ' '))
        rest = strptime(rest + 1, "%H:%M:%S", &t);
    if (rest && *rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    if (!rest || *rest)
        return why_set(why, ERR_INVAL, "\"%s\" is no time like 2024-07-26T12:34:56", iso);
    struct tm full = t;
    timegm(&full); /* the day of the week and of the year */
    t.tm_wday = full.tm_wday;
    t.tm_yday = full.tm_yday;
    *out = t;
    return ERR_OK;
}
