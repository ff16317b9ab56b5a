/* cmd_batch.c - cordee batch: OpenAI batch lines from a file, resumable.
 *
 * INPUT is indexed and checked before anything is launched. OUT gets the answers,
 * OUT.errors the lines that failed, OUT.journal is what a re-run goes on from, and
 * OUT.report.json says what the run did.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/batch_run.h"
#include "cli/cmd.h"
#include "cli/options.h"
#include "coordinator/batch/batch_line.h"
#include "model/source.h"

enum { KEY_ERRORS = 256, KEY_ORDERED, KEY_WINDOW };

struct batch_command {
    struct config config;
    struct batch_run run;
    const char *in, *errors;
    bool ordered;
    int window; /* 0: from the configuration */
    struct lines *lines;
    struct chat *chat;
    struct batch_lines work;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct batch_command *x = ctx;
    switch (key) {
    case 'i':
        x->in = value;
        return ERR_OK;
    case 'o':
        x->run.out = value;
        return ERR_OK;
    case KEY_ERRORS:
        x->errors = value;
        return ERR_OK;
    case KEY_ORDERED:
        x->ordered = true;
        return ERR_OK;
    case KEY_WINDOW:
        x->window = atoi(value);
        if (x->window < 1 || x->window > 65536)
            return why_set(why, ERR_INVAL, "--window: \"%.40s\" is not in 1..65536", value);
        return ERR_OK;
    default:
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\"; the lines are given with -i FILE", value);
    }
}

static err run(struct batch_command *x, struct why *why)
{
    struct manifest m;
    char *errors = NULL;
    err e;
    manifest_init(&m);
    if (!x->in || !x->run.out)
        FAIL(ERR_INVAL, "-i FILE and -o FILE are needed");
    if (asprintf(&errors, "%s.errors", x->run.out) < 0) {
        errors = NULL;
        FAIL(ERR_NOMEM, "batch");
    }
    TRY(config_check(&x->config, why));
    TRY(lines_open(x->in, "custom_id", &x->lines, why));
    if (lines_count(x->lines) == 0)
        FAIL(ERR_INVAL, "%s: there is no line in it", x->in);
    TRY(batch_run_open(&x->run, why));
    TRY(chat_open(source_chat_template(x->run.session.src), x->run.session.tok, &x->chat, why));
    batch_lines_init(&x->work, x->run.session.base, x->run.session.front, x->chat, x->lines);
    manifest_put(&m, "command", "batch");
    manifest_put(&m, "results", "1"); /* changes when the same input would give other bytes */
    manifest_put(&m, "input_sha256", lines_sha256(x->lines));
    manifest_put(&m, "ordered", x->ordered ? "true" : "false");
    manifest_put_model(&m, &x->config, &x->run.session.backend->facts, x->run.session.tok);
    struct batch_options o = {
        .n_items = lines_count(x->lines),
        .window = x->window ? x->window : (int)x->config.slots * 2,
        .errors = x->errors ? x->errors : errors,
        .ordered = x->ordered,
        .work = batch_lines_work(&x->work),
    };
    TRY(batch_run_go(&x->run, &o, &m, why));
    TRY(batch_run_report(&x->run, why));
out:
    manifest_fini(&m);
    free(errors);
    return e;
}

int cmd_batch(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"input", 'i', "FILE", 0, "JSONL: {\"custom_id\", \"method\", \"url\", \"body\"} a line", 1},
        {"output", 'o', "FILE", 0, "answers; also FILE.errors, FILE.journal, FILE.report.json", 1},
        {"errors", KEY_ERRORS, "FILE", 0, "lines that failed (default: OUTPUT.errors)", 1},
        {"ordered", KEY_ORDERED, NULL, 0, "answers in the order of the input, written at the end", 1},
        {"window", KEY_WINDOW, "N", 0, "lines at work at once (default: twice the slots)", 1},
        {0},
    };
    struct batch_command *x = calloc(1, sizeof *x);
    struct options o = {"batch",
                        "Answer OpenAI batch lines. Killed or stopped (exit code 75), the same command goes on.",
                        NULL, own, take, x, false};
    struct why why = {0};
    int code = EXIT_FAILED;

    if (!x)
        return EXIT_FAILED;
    x->run.command = "batch";
    x->run.config = &x->config;
    config_init(&x->config);
    (void)!config_set(&x->config, "log_level", "warn", &why);
    if (options_parse(&o, argc, argv, &x->config, &code) == 0)
        code = batch_run_exit(&x->run, run(x, &why), &why);
    batch_run_close(&x->run);
    batch_lines_fini(&x->work);
    chat_close(x->chat);
    lines_close(x->lines);
    config_fini(&x->config);
    free(x);
    return code;
}
