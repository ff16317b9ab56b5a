/* cmd_batch.c - cordee batch: OpenAI batch lines from a file, resumable.
 *
 * OUT gets the answers, OUT.errors the lines that failed; the rest is batch_run.h's.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/batch_run.h"
#include "cli/cmd.h"
#include "coordinator/batch/batch_line.h"

enum { KEY_ERRORS = 256, KEY_ORDERED, KEY_WINDOW, MOST_AT_ONCE = 65536 };

struct batch_task {
    struct batch_run run;
    const char *errors;
    char *errors_path; /* unless --errors was given; owned */
    bool ordered;
    int window; /* 0: from the configuration */
    struct batch_lines work;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct batch_task *x = ctx;
    switch (key) {
    case KEY_ERRORS:
        x->errors = value;
        return ERR_OK;
    case KEY_ORDERED:
        x->ordered = true;
        return ERR_OK;
    case KEY_WINDOW:
        return batch_run_number("window", value, MOST_AT_ONCE, &x->window, why);
    default:
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\"; the lines are given with -i FILE", value);
    }
}

static err prepare(void *ctx, struct batch_run *r, struct batch_options *o, struct why *why)
{
    struct batch_task *x = ctx;
    if (!x->errors && asprintf(&x->errors_path, "%s.errors", r->out) < 0) {
        x->errors_path = NULL;
        return why_set(why, ERR_NOMEM, "batch");
    }
    batch_lines_init(&x->work, r->session.base, r->session.front, r->chat, r->lines);
    manifest_put(&r->manifest, "ordered", x->ordered ? "true" : "false");
    o->n_items = lines_count(r->lines);
    o->window = x->window ? x->window : (int)r->config.slots * 2;
    o->errors = x->errors ? x->errors : x->errors_path;
    o->ordered = x->ordered;
    o->work = batch_lines_work(&x->work);
    return ERR_OK;
}

static void fini(void *ctx)
{
    struct batch_task *x = ctx;
    batch_lines_fini(&x->work);
    free(x->errors_path);
}

int cmd_batch(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"input", 'i', "FILE", 0, "JSONL: {\"custom_id\", \"method\", \"url\", \"body\"} a line", 1},
        {"output", 'o', "FILE", 0, "answers; also FILE.errors, FILE.journal, FILE.report.json", 1},
        {"errors", KEY_ERRORS, "FILE", 0, "lines that failed (default: OUTPUT.errors)", 1},
        {"ordered", KEY_ORDERED, NULL, 0, "answers in the order of the input, written at the end", 1},
        {"window", KEY_WINDOW, "N", 0, "lines at work at once (default: twice the slots)", 1},
        {0},
    };
    static const struct batch_command command = {
        .name = "batch",
        .doc = "Answer OpenAI batch lines. Killed or stopped (exit code 75), the same command goes on.",
        .id_key = "custom_id", .options = options, .take = take, .prepare = prepare, .fini = fini,
    };
    struct batch_task *x = calloc(1, sizeof *x);
    if (!x)
        return EXIT_FAILED;
    int code = batch_run_main(&x->run, &command, x, argc, argv);
    free(x);
    return code;
}
