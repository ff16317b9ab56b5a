/* cmd_generate.c - cordee generate: one prompt, streamed to stdout, statistics to stderr. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cmd.h"
#include "cli/options.h"
#include "cli/sampling.h"
#include "cli/session.h"

enum { KEY_SPECIAL = SAMPLING_OWN };

struct generate {
    struct config config;
    struct session session;
    struct sampling sampling;
    bool json;
    /* as it goes */
    struct buf text;
    uint64_t asked_us, first_us, last_us;
    int n_tokens;
    bool done;
    struct front_event end;
    struct why failed;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct generate *x = ctx;
    struct front_request *r = &x->sampling.req;
    switch (key) {
    case 'p':
        r->text = value;
        r->text_len = strlen(value);
        return ERR_OK;
    case 'j':
        x->json = true;
        return ERR_OK;
    case KEY_SPECIAL:
        r->parse_special = true;
        return ERR_OK;
    case ARGP_KEY_ARG:
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\"; the prompt is given with -p", value);
    default:
        return sampling_take(&x->sampling, key, value, why);
    }
}

static void show(struct generate *x, const char *text, size_t len)
{
    if (x->json)
        buf_put(&x->text, text, len);
    else if (len) {
        fwrite(text, 1, len, stdout);
        fflush(stdout);
    }
}

static void on_event(void *ctx, const struct front_event *ev)
{
    struct generate *x = ctx;
    if (ev->kind == FRONT_FAILED) {
        x->end = *ev;
        why_set(&x->failed, ev->code, "%s", ev->reason ? ev->reason : err_text(ev->code));
        x->done = true;
        return;
    }
    show(x, ev->text ? ev->text : "", ev->text_len);
    if (ev->kind == FRONT_TOKEN) {
        x->last_us = now_us();
        if (!x->n_tokens++)
            x->first_us = x->last_us;
    } else {
        x->end = *ev;
        x->done = true;
    }
}

static const char *finish_name(enum finish f)
{
    return f == FINISH_STOP ? "stop" : f == FINISH_LENGTH ? "length" : "cancelled";
}

static double per_second(int n, uint64_t us)
{
    return n > 0 && us > 0 ? n * 1e6 / (double)us : 0;
}

static void report(struct generate *x)
{
    double prompt = per_second(x->end.n_prompt - x->end.n_cached, x->first_us - x->asked_us);
    double decode = per_second(x->n_tokens - 1, x->last_us - x->first_us);
    if (x->json) {
        printf("{\"text\":");
        struct buf quoted;
        buf_init(&quoted);
        buf_put_json(&quoted, x->text.data ? x->text.data : "", x->text.len, false);
        fputs(quoted.data ? quoted.data : "\"\"", stdout);
        buf_fini(&quoted);
        printf(",\"finish_reason\":\"%s\",\"prompt_tokens\":%d,\"completion_tokens\":%d,"
               "\"prompt_tps\":%.2f,\"decode_tps\":%.2f,\"seed\":%llu}\n",
               finish_name(x->end.finish), x->end.n_prompt, x->end.n_generated, prompt, decode,
               (unsigned long long)x->end.seed);
        return;
    }
    putchar('\n');
    fflush(stdout);
    fprintf(stderr, "%d prompt tokens at %.1f/s, %d generated at %.1f/s, finished by %s\n", x->end.n_prompt,
            prompt, x->end.n_generated, decode, finish_name(x->end.finish));
}

static err run(struct generate *x, struct why *why)
{
    uint64_t handle;
    err e;
    if (!x->sampling.req.text)
        FAIL(ERR_INVAL, "no prompt: use -p TEXT");
    TRY(session_open(&x->session, &x->config, why));
    TRY(session_until_ready(&x->session, why));
    x->asked_us = now_us();
    TRY(front_submit(x->session.front, &x->sampling.req, on_event, x, &handle, why));
    while (!x->done)
        TRY(session_turn(&x->session, why));
    if (x->end.kind == FRONT_FAILED)
        FAIL(x->end.code, "%s", x->failed.text);
    report(x);
out:
    return e;
}

int cmd_generate(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"prompt", 'p', "TEXT", 0, "the text to continue", 1},
        SAMPLING_OPTIONS("64"),
        {"parse-special", KEY_SPECIAL, NULL, 0, "control tokens written in the prompt count", 1},
        {"json", 'j', NULL, 0, "one JSON object instead of a stream", 1},
        {0},
    };
    struct generate *x = calloc(1, sizeof *x);
    struct options o = {"generate", "Continue one prompt.", NULL, own, take, x, false};
    struct why why = {0};
    int code = EXIT_FAILED;

    if (!x)
        return EXIT_FAILED;
    sampling_init(&x->sampling, 64);
    x->sampling.req.add_special = true;
    buf_init(&x->text);
    config_init(&x->config);
    (void)!config_set(&x->config, "log_level", "warn", &why);
    if (options_parse(&o, argc, argv, &x->config, &code) == 0) {
        err e = run(x, &why);
        code = e ? cmd_fail("generate", e, &why, EXIT_USAGE) : EXIT_DONE;
    }
    session_close(&x->session);
    config_fini(&x->config);
    buf_fini(&x->text);
    free(x);
    return code;
}
