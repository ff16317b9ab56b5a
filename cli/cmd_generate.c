/* cmd_generate.c - cordee generate: one prompt, streamed to stdout, statistics to stderr. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cmd.h"
#include "cli/options.h"
#include "cli/session.h"

enum { KEY_TEMPERATURE = 256, KEY_TOP_P, KEY_TOP_K, KEY_MIN_P, KEY_SEED, KEY_STOP, KEY_IGNORE_EOS, KEY_SPECIAL,
       KEY_ADAPTER };
#define MAX_STOP 16

struct generate {
    struct config config;
    struct session session;
    struct front_request req;
    struct stop_string stop[MAX_STOP];
    bool json;
    /* as it goes */
    struct buf text;
    uint64_t asked_us, first_us, last_us;
    int n_tokens;
    bool done;
    struct front_event end;
    struct why failed;
};

static err number(const char *name, const char *text, double least, double most, double *out, struct why *why)
{
    char *tail;
    errno = 0;
    *out = strtod(text, &tail);
    if (tail == text || *tail || errno || !(*out >= least && *out <= most))
        return why_set(why, ERR_INVAL, "--%s: \"%.40s\" is not a number in %g..%g", name, text, least, most);
    return ERR_OK;
}

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct generate *x = ctx;
    struct front_request *r = &x->req;
    double v = 0;
    err e = ERR_OK;
    switch (key) {
    case 'p':
        r->text = value;
        r->text_len = strlen(value);
        break;
    case 'n':
        e = number("max-tokens", value, 0, 1e9, &v, why);
        r->max_tokens = (int)v;
        break;
    case 'j':
        x->json = true;
        break;
    case KEY_TEMPERATURE:
        e = number("temperature", value, 0, 100, &v, why);
        r->sampling.temperature = (float)v;
        break;
    case KEY_TOP_P:
        e = number("top-p", value, 0, 1, &v, why);
        r->sampling.top_p = (float)v;
        break;
    case KEY_TOP_K:
        e = number("top-k", value, 0, 1e9, &v, why);
        r->sampling.top_k = (int)v;
        break;
    case KEY_MIN_P:
        e = number("min-p", value, 0, 1, &v, why);
        r->sampling.min_p = (float)v;
        break;
    case KEY_SEED:
        e = number("seed", value, 0, 9007199254740992.0, &v, why);
        r->sampling.seed = (uint64_t)v;
        r->have_seed = true;
        break;
    case KEY_STOP:
        if (r->n_stop == MAX_STOP)
            return why_set(why, ERR_INVAL, "more than %d stop strings", MAX_STOP);
        x->stop[r->n_stop++] = (struct stop_string){value, strlen(value)};
        break;
    case KEY_IGNORE_EOS:
        r->ignore_eos = true;
        break;
    case KEY_ADAPTER:
        r->adapter = value;
        break;
    case KEY_SPECIAL:
        r->parse_special = true;
        break;
    default:
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\"; the prompt is given with -p", value);
    }
    return e;
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
    if (!x->req.text)
        FAIL(ERR_INVAL, "no prompt: use -p TEXT");
    TRY(session_open(&x->session, &x->config, why));
    TRY(session_until_ready(&x->session, why));
    x->req.stop = x->stop;
    x->asked_us = now_us();
    TRY(front_submit(x->session.front, &x->req, on_event, x, &handle, why));
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
        {"max-tokens", 'n', "N", 0, "tokens to generate (default 64)", 1},
        {"temperature", KEY_TEMPERATURE, "T", 0, "0: the most likely token (default 0)", 1},
        {"top-p", KEY_TOP_P, "P", 0, "nucleus (default 1: off)", 1},
        {"top-k", KEY_TOP_K, "K", 0, "best K only (default 0: off)", 1},
        {"min-p", KEY_MIN_P, "P", 0, "at least P times the best (default 0: off)", 1},
        {"seed", KEY_SEED, "N", 0, "same seed, same text (default: drawn)", 1},
        {"stop", KEY_STOP, "TEXT", 0, "end before this text (may be repeated)", 1},
        {"ignore-eos", KEY_IGNORE_EOS, NULL, 0, "go on past the model's end token", 1},
        {"adapter", KEY_ADAPTER, "NAME", 0, "use one of the --lora adapters", 1},
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
    x->req = (struct front_request){
        .add_special = true,
        .n_choices = 1,
        .max_tokens = 64,
        .sampling = {.top_p = 1, .repetition_penalty = 1},
    };
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
