/* cmd_eval.c - cordee eval: multiple-choice accuracy and perplexity, without Python.
 *
 *   cordee eval -i ITEMS.jsonl -o RESULTS ...       a result an item, in their order
 *   cordee eval --perplexity TEXT -o RESULTS ...    a result a window
 *   cordee eval compare A B                         two files of results (cmd_eval_compare.c)
 *
 * RESULTS holds nothing that depends on time or on the cluster: two runs can be compared
 * with cmp. RESULTS.summary.json has the scores; the rest is batch_run.h's.
 */
#include "cli/cmd_eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/batch_run.h"
#include "cli/cmd.h"
#include "coordinator/batch/eval_item.h"
#include "coordinator/batch/eval_score.h"
#include "coordinator/batch/eval_text.h"
#include "coordinator/front/served.h"

enum { KEY_PERPLEXITY = 256, KEY_WINDOW, KEY_STRIDE, KEY_NO_SPECIAL, KEY_AT_ONCE, KEY_ADAPTER, MOST = 1 << 24 };

struct eval_task {
    struct batch_run run;
    const char *text;
    const char *adapter; /* NULL: the model as it is */
    int window, stride, at_once;
    bool no_special;
    struct eval_items items;
    struct eval_text windows;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct eval_task *x = ctx;
    switch (key) {
    case KEY_PERPLEXITY:
        x->text = value;
        return ERR_OK;
    case KEY_ADAPTER:
        x->adapter = value;
        return ERR_OK;
    case KEY_NO_SPECIAL:
        x->no_special = true;
        return ERR_OK;
    case KEY_WINDOW:
        return batch_run_number("window", value, MOST, &x->window, why);
    case KEY_STRIDE:
        return batch_run_number("stride", value, MOST, &x->stride, why);
    case KEY_AT_ONCE:
        return batch_run_number("at-once", value, MOST, &x->at_once, why);
    default:
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\"", value);
    }
}

static err check(void *ctx, const struct batch_run *r, struct why *why)
{
    const struct eval_task *x = ctx;
    if (!r->out || !r->in == !x->text)
        return why_set(why, ERR_INVAL, "-o FILE and either -i ITEMS or --perplexity TEXT are needed");
    return ERR_OK;
}

/* ---- scores ---------------------------------------------------------------------------- */

static err items_summary(struct eval_task *x, struct buf *json, struct buf *text, struct why *why)
{
    struct eval_score score = { 0 };
    struct buf line = { 0 };
    bool ok;
    err e = ERR_OK;
    for (int64_t i = 0; i < lines_count(x->run.lines); i++) {
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

static err summarise(void *ctx, struct batch_run *r, struct why *why)
{
    struct eval_task *x = ctx;
    struct buf json = { 0 }, text = { 0 };
    char *path = NULL;
    err e;
    if (asprintf(&path, "%s.summary.json", r->out) < 0) {
        path = NULL;
        FAIL(ERR_NOMEM, "summary");
    }
    if (x->text) {
        TRY(eval_text_summary(&x->windows, r->batch, &json, why));
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

static void prepare_items(struct eval_task *x, struct batch_options *o)
{
    struct batch_run *r = &x->run;
    x->items = (struct eval_items){ .front = r->session.front, .chat = r->chat, .lines = r->lines,
                                    .add_special = !x->no_special, .adapter = x->adapter };
    o->n_items = lines_count(r->lines);
    o->work = eval_items_work(&x->items);
    manifest_put(&r->manifest, "add_special", x->no_special ? "false" : "true");
}

static err prepare_text(struct eval_task *x, struct batch_options *o, struct why *why)
{
    struct batch_run *r = &x->run;
    err e = eval_text_open(&x->windows, x->text, r->session.front, x->window, x->stride, why);
    if (e != ERR_OK)
        return e;
    x->windows.adapter = x->adapter;
    o->n_items = eval_text_windows(&x->windows);
    o->work = eval_text_work(&x->windows);
    manifest_put(&r->manifest, "input_sha256", x->windows.sha256);
    manifest_put_int(&r->manifest, "window", x->windows.window);
    manifest_put_int(&r->manifest, "stride", x->windows.stride);
    return ERR_OK;
}

static err prepare(void *ctx, struct batch_run *r, struct batch_options *o, struct why *why)
{
    struct eval_task *x = ctx;
    uint32_t number;
    err e = ERR_OK;
    TRY(served_number(&r->session.backend->facts, x->adapter, &number, why));
    o->ordered = true;
    o->window = x->at_once ? x->at_once : (int)r->config.slots;
    manifest_put(&r->manifest, "kind", x->text ? "perplexity" : "items");
    manifest_put(&r->manifest, "adapter", x->adapter ? x->adapter : "");
    if (x->text)
        TRY(prepare_text(x, o, why));
    else
        prepare_items(x, o);
out:
    return e;
}

static void fini(void *ctx)
{
    struct eval_task *x = ctx;
    eval_items_fini(&x->items);
    eval_text_fini(&x->windows);
}

static int eval_main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"input", 'i', "FILE", 0, "JSONL: {\"id\", \"context\"|\"messages\", \"choices\", \"answer\", \"group\"} a line", 1},
        {"perplexity", KEY_PERPLEXITY, "FILE", 0, "score this text instead", 1},
        {"output", 'o', "FILE", 0, "results; also FILE.summary.json, FILE.report.json, FILE.journal", 1},
        {"window", KEY_WINDOW, "N", 0, "perplexity: tokens of a window (default: what the context allows)", 1},
        {"stride", KEY_STRIDE, "N", 0, "perplexity: tokens that a window scores (default: the window)", 1},
        {"no-special", KEY_NO_SPECIAL, NULL, 0, "no BOS before a context", 1},
        {"at-once", KEY_AT_ONCE, "N", 0, "items at work at once (default: the slots)", 1},
        {"adapter", KEY_ADAPTER, "NAME", 0, "score the model with this adapter (--lora loads it)", 1},
        {0},
    };
    static const struct batch_command command = {
        .name = "eval",
        .doc = "Score questions or a text. Killed or stopped (exit code 75), the same command goes on.",
        .id_key = "id", .options = options, .take = take, .check = check, .prepare = prepare,
        .summarise = summarise, .fini = fini,
    };
    struct eval_task *x = calloc(1, sizeof *x);
    if (!x)
        return EXIT_FAILED;
    int code = batch_run_main(&x->run, &command, x, argc, argv);
    free(x);
    return code;
}

int cmd_eval(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "compare") == 0)
        return eval_compare_main(argc - 1, argv + 1);
    return eval_main(argc, argv);
}
