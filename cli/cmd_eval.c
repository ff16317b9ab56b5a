/* cmd_eval.c - cordee eval: multiple-choice accuracy and perplexity, without Python.
 *
 *   cordee eval -i ITEMS.jsonl -o RESULTS ...       a result an item, in their order
 *   cordee eval --perplexity TEXT -o RESULTS ...    a result a window
 *   cordee eval compare A B                         two files of results (cmd_eval_compare.c)
 *
 * RESULTS holds nothing that depends on time or on the cluster: two runs can be compared
 * with cmp. RESULTS.summary.json has the scores, RESULTS.report.json what the run did.
 */
#include "cli/cmd_eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/batch_run.h"
#include "cli/cmd.h"
#include "cli/options.h"
#include "coordinator/batch/eval_item.h"
#include "coordinator/batch/eval_score.h"
#include "coordinator/batch/eval_text.h"
#include "model/source.h"

enum { KEY_PERPLEXITY = 256, KEY_WINDOW, KEY_STRIDE, KEY_NO_SPECIAL, KEY_AT_ONCE };

struct eval_command {
    struct config config;
    struct batch_run run;
    const char *in, *text;
    int window, stride, at_once;
    bool no_special;
    struct lines *lines;
    struct chat *chat;
    struct eval_items items;
    struct eval_text windows;
};

static err number(const char *name, const char *text, int *out, struct why *why)
{
    char *tail;
    long v = strtol(text, &tail, 10);
    if (tail == text || *tail || v < 1 || v > 1 << 24)
        return why_set(why, ERR_INVAL, "--%s: \"%.40s\" is not in 1..%d", name, text, 1 << 24);
    *out = (int)v;
    return ERR_OK;
}

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct eval_command *x = ctx;
    switch (key) {
    case 'i':
        x->in = value;
        return ERR_OK;
    case 'o':
        x->run.out = value;
        return ERR_OK;
    case KEY_PERPLEXITY:
        x->text = value;
        return ERR_OK;
    case KEY_NO_SPECIAL:
        x->no_special = true;
        return ERR_OK;
    case KEY_WINDOW:
        return number("window", value, &x->window, why);
    case KEY_STRIDE:
        return number("stride", value, &x->stride, why);
    case KEY_AT_ONCE:
        return number("at-once", value, &x->at_once, why);
    default:
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\"", value);
    }
}

/* ---- scores ---------------------------------------------------------------------------- */

static err items_summary(struct eval_command *x, struct buf *json, struct buf *text, struct why *why)
{
    struct eval_score score = { 0 };
    struct buf line = { 0 };
    bool ok;
    err e = ERR_OK;
    for (int64_t i = 0; i < lines_count(x->lines); i++) {
        TRY(batch_get(x->run.batch, i, &ok, &line, why));
        TRY(eval_score_add(&score, line.data ? line.data : "", line.len, why));
    }
    eval_score_json(&score, json);
    eval_score_text(&score, text);
out:
    eval_score_fini(&score);
    buf_fini(&line);
    return e;
}

static err summarise(struct eval_command *x, struct why *why)
{
    struct buf json = { 0 }, text = { 0 };
    char *path = NULL;
    err e;
    if (asprintf(&path, "%s.summary.json", x->run.out) < 0) {
        path = NULL;
        FAIL(ERR_NOMEM, "summary");
    }
    if (x->text) {
        TRY(eval_text_summary(&x->windows, x->run.batch, &json, why));
        buf_put(&text, json.data, json.len);
    } else {
        TRY(items_summary(x, &json, &text, why));
    }
    TRY(batch_run_write(path, &json, why));
    if (text.failed || fwrite(text.data, 1, text.len, stdout) != text.len)
        FAIL(ERR_IO, "stdout");
out:
    free(path);
    buf_fini(&json);
    buf_fini(&text);
    return e;
}

/* ---- the run ------------------------------------------------------------------------------ */

static err prepare_items(struct eval_command *x, struct batch_options *o, struct manifest *m, struct why *why)
{
    struct session *s = &x->run.session;
    err e = chat_open(source_chat_template(s->src), s->tok, &x->chat, why);
    if (e != ERR_OK)
        return e;
    x->items = (struct eval_items){ .front = s->front, .chat = x->chat, .lines = x->lines,
                                    .add_special = !x->no_special };
    o->n_items = lines_count(x->lines);
    o->work = eval_items_work(&x->items);
    manifest_put(m, "input_sha256", lines_sha256(x->lines));
    manifest_put(m, "add_special", x->no_special ? "false" : "true");
    return ERR_OK;
}

static err prepare_text(struct eval_command *x, struct batch_options *o, struct manifest *m, struct why *why)
{
    err e = eval_text_open(&x->windows, x->text, x->run.session.front, x->window, x->stride, why);
    if (e != ERR_OK)
        return e;
    o->n_items = eval_text_windows(&x->windows);
    o->work = eval_text_work(&x->windows);
    manifest_put(m, "input_sha256", x->windows.sha256);
    manifest_put_int(m, "window", x->windows.window);
    manifest_put_int(m, "stride", x->windows.stride);
    return ERR_OK;
}

static err run(struct eval_command *x, struct why *why)
{
    struct batch_options o = { .ordered = true };
    struct manifest m;
    err e;
    manifest_init(&m);
    if (!x->run.out || !x->in == !x->text)
        FAIL(ERR_INVAL, "-o FILE and either -i ITEMS or --perplexity TEXT are needed");
    TRY(config_check(&x->config, why));
    if (x->in)
        TRY(lines_open(x->in, "id", &x->lines, why));
    if (x->in && lines_count(x->lines) == 0)
        FAIL(ERR_INVAL, "%s: there is no item in it", x->in);
    TRY(batch_run_open(&x->run, why));
    manifest_put(&m, "command", x->text ? "eval --perplexity" : "eval");
    manifest_put(&m, "results", "1"); /* changes when the same input would give other bytes */
    TRY(x->text ? prepare_text(x, &o, &m, why) : prepare_items(x, &o, &m, why));
    manifest_put_model(&m, &x->config, &x->run.session.backend->facts, x->run.session.tok);
    o.window = x->at_once ? x->at_once : (int)x->config.slots;
    TRY(batch_run_go(&x->run, &o, &m, why));
    TRY(summarise(x, why));
    TRY(batch_run_report(&x->run, why));
out:
    manifest_fini(&m);
    return e;
}

static int eval_main(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"input", 'i', "FILE", 0, "JSONL: {\"id\", \"context\"|\"messages\", \"choices\", \"answer\", \"group\"} a line", 1},
        {"perplexity", KEY_PERPLEXITY, "FILE", 0, "score this text instead", 1},
        {"output", 'o', "FILE", 0, "results; also FILE.summary.json, FILE.report.json, FILE.journal", 1},
        {"window", KEY_WINDOW, "N", 0, "perplexity: tokens of a window (default: what the context allows)", 1},
        {"stride", KEY_STRIDE, "N", 0, "perplexity: tokens that a window scores (default: the window)", 1},
        {"no-special", KEY_NO_SPECIAL, NULL, 0, "no BOS before a context", 1},
        {"at-once", KEY_AT_ONCE, "N", 0, "items at work at once (default: the slots)", 1},
        {0},
    };
    struct eval_command *x = calloc(1, sizeof *x);
    struct options o = {"eval",
                        "Score questions or a text. Killed or stopped (exit code 75), the same command goes on.",
                        NULL, own, take, x, false};
    struct why why = {0};
    int code = EXIT_FAILED;

    if (!x)
        return EXIT_FAILED;
    x->run.command = "eval";
    x->run.config = &x->config;
    config_init(&x->config);
    (void)!config_set(&x->config, "log_level", "warn", &why);
    if (options_parse(&o, argc, argv, &x->config, &code) == 0)
        code = batch_run_exit(&x->run, run(x, &why), &why);
    batch_run_close(&x->run);
    eval_items_fini(&x->items);
    eval_text_fini(&x->windows);
    chat_close(x->chat);
    lines_close(x->lines);
    config_fini(&x->config);
    free(x);
    return code;
}

int cmd_eval(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "compare") == 0)
        return eval_compare_main(argc - 1, argv + 1);
    return eval_main(argc, argv);
}
