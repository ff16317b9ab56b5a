/* cmd_chat.c - cordee chat: lines from stdin, answers to stdout as they come.
 *
 * The conversation is kept and goes through the model's template anew for each
 * answer; the KV cache makes that cheap. What goes wrong with one line (a context
 * that is full, a template that refuses) is said on stderr and takes that line back;
 * the conversation goes on.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cmd.h"
#include "cli/options.h"
#include "cli/sampling.h"
#include "cli/session.h"
#include "cli/typed.h"
#include "coordinator/front/chat.h"
#include "model/source.h"

enum { KEY_SYSTEM = SAMPLING_OWN };

struct talk {
    struct config config;
    struct session session;
    struct sampling sampling;
    const char *system; /* NULL: none */
    struct chat *chat;
    struct typed typed;
    json_t *messages;
    bool terminal;
    bool refused; /* some line got no answer */
    /* the answer that is coming */
    struct buf text;
    bool done;
    err code;
    struct why reason;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct talk *x = ctx;
    switch (key) {
    case KEY_SYSTEM:
        x->system = value;
        return ERR_OK;
    case ARGP_KEY_ARG:
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\"; messages are read from stdin", value);
    default:
        return sampling_take(&x->sampling, key, value, why);
    }
}

/* ---- the conversation --------------------------------------------------------------- */

static err say(struct talk *x, const char *role, const char *text, size_t len, struct why *why)
{
    json_t *content = json_stringn(text, len);
    if (!content)
        return why_set(why, ERR_INVAL, "that is not UTF-8");
    if (json_array_append_new(x->messages, json_pack("{ssso}", "role", role, "content", content)))
        return why_set(why, ERR_NOMEM, "no memory for the conversation");
    return ERR_OK;
}

static err reset(struct talk *x, struct why *why)
{
    json_array_clear(x->messages);
    return x->system ? say(x, "system", x->system, strlen(x->system), why) : ERR_OK;
}

static void take_back(struct talk *x)
{
    json_array_remove(x->messages, json_array_size(x->messages) - 1);
}

/* ---- one answer ------------------------------------------------------------------------ */

static void on_event(void *ctx, const struct front_event *ev)
{
    struct talk *x = ctx;
    if (ev->kind == FRONT_FAILED) {
        x->code = why_set(&x->reason, ev->code, "%s", ev->reason);
        x->done = true;
        return;
    }
    buf_put(&x->text, ev->text, ev->text_len);
    fwrite(ev->text, 1, ev->text_len, stdout);
    fflush(stdout);
    if (ev->kind == FRONT_FINISHED) {
        x->done = true;
        if (ev->finish == FINISH_CANCELLED)
            x->code = why_set(&x->reason, ERR_CANCELLED, "the cluster gave the answer up");
    }
}

/* The prompt's ids; they live in req. */
static err prompt(struct talk *x, struct openai_chat *req, struct why *why)
{
    struct fault fault = {0};
    *req = (struct openai_chat){
        .variables = json_pack("{sOsb}", "messages", x->messages, "add_generation_prompt", 1)};
    arena_init(&req->completion.arena, 0);
    err e = req->variables ? chat_prompt(x->chat, req, &fault) : why_set(&fault.why, ERR_NOMEM, "no memory");
    *why = fault.why;
    return e;
}

/* Answers what the messages end with. `lost`: the session is over, too. */
static err answer(struct talk *x, bool *lost, struct why *why)
{
    struct openai_chat req = {0};
    uint64_t handle;
    err e;
    buf_clear(&x->text);
    x->done = false;
    x->code = ERR_OK;
    TRY(prompt(x, &req, why));
    x->sampling.req.ids = req.completion.prompts[0].ids;
    x->sampling.req.n_ids = req.completion.prompts[0].n_ids;
    TRY(front_submit(x->session.front, &x->sampling.req, on_event, x, &handle, why));
    while (!x->done && !*lost) {
        e = session_turn(&x->session, why);
        *lost = e != ERR_OK;
    }
    if (x->text.len)
        putchar('\n');
    fflush(stdout);
    if (*lost) {
        front_cancel(x->session.front, handle);
        goto out;
    }
    if (x->code)
        FAIL(x->code, "%s", x->reason.text);
    if (x->text.failed)
        FAIL(ERR_NOMEM, "no memory for the answer");
    e = say(x, "assistant", x->text.data ? x->text.data : "", x->text.len, why);
out:
    openai_chat_fini(&req);
    return e;
}

/* ---- lines ----------------------------------------------------------------------------- */

enum verdict { LINE_GO_ON, LINE_EXIT };

static err line_take(struct talk *x, const char *line, size_t len, enum verdict *verdict, struct why *why)
{
    bool lost = false;
    err e;
    if (len == 0)
        return ERR_OK;
    if (!strcmp(line, "/exit")) {
        *verdict = LINE_EXIT;
        return ERR_OK;
    }
    if (!strcmp(line, "/reset"))
        return reset(x, why);
    if (!strcmp(line, "/help")) {
        fputs("/reset forgets the conversation, /exit ends; everything else goes to the model\n", stderr);
        return ERR_OK;
    }
    e = say(x, "user", line, len, why);
    if (!e) {
        e = answer(x, &lost, why);
        if (e && !lost)
            take_back(x);
    }
    if (!e || lost)
        return e;
    fprintf(stderr, "cordee: chat: %s%s\n", why->text, e == ERR_LIMIT ? " (/reset begins anew)" : "");
    x->refused = true;
    return ERR_OK;
}

static err talk(struct talk *x, struct why *why)
{
    enum verdict verdict = LINE_GO_ON;
    err e = ERR_OK;
    if (x->terminal)
        fputs("/reset forgets the conversation, /exit ends\n", stderr);
    while (!e && verdict == LINE_GO_ON) {
        char *line;
        size_t len;
        if (x->terminal)
            fputs("> ", stderr);
        TRY(typed_line(&x->typed, &x->session, &line, &len, why));
        if (!line)
            break;
        e = line_take(x, line, len, &verdict, why);
        free(line);
    }
out:
    return e;
}

static err run(struct talk *x, struct why *why)
{
    err e;
    TRY(session_open(&x->session, &x->config, why));
    TRY(chat_open(source_chat_template(x->session.src), x->session.tok, &x->chat, why));
    TRY(chat_check(x->chat, why));
    x->messages = json_array();
    if (!x->messages)
        FAIL(ERR_NOMEM, "no memory for the conversation");
    TRY(reset(x, why));
    TRY(typed_open(&x->typed, &x->session, why));
    TRY(session_until_ready(&x->session, why));
    e = talk(x, why);
out:
    return e == ERR_CANCELLED && x->session.drive.stopping ? ERR_OK : e;
}

int cmd_chat(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"system", KEY_SYSTEM, "TEXT", 0, "the system message (default: none)", 1},
        SAMPLING_OPTIONS("512"),
        {0},
    };
    struct talk *x = calloc(1, sizeof *x);
    struct options o = {"chat", "Talk to a model through its chat template, a line a message.", NULL, own, take, x,
                        false};
    struct why why = {0};
    int code = EXIT_FAILED;

    if (!x)
        return EXIT_FAILED;
    sampling_init(&x->sampling, 512);
    x->terminal = isatty(STDIN_FILENO);
    buf_init(&x->text);
    config_init(&x->config);
    (void)!config_set(&x->config, "log_level", "warn", &why);
    if (options_parse(&o, argc, argv, &x->config, &code) == 0) {
        err e = run(x, &why);
        code = e            ? cmd_fail("chat", e, &why, EXIT_USAGE)
               : x->refused ? EXIT_FAILED
                            : EXIT_DONE;
    }
    typed_close(&x->typed);
    session_close(&x->session);
    chat_close(x->chat);
    json_decref(x->messages);
    config_fini(&x->config);
    buf_fini(&x->text);
    free(x);
    return code;
}
