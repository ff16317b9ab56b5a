/* batch_run.c - see batch_run.h. */
#include "cli/batch_run.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/options.h"
#include "coordinator/front/chat.h"
#include "model/source.h"

#define POWERCAP "/sys/class/powercap"
enum {
    GRACE_MS = 15000,  /* for items that run when the signal comes */
    STATS_MS = 3000,   /* for the answer to a question for statistics */
    SYNC_MS = 2000,    /* between two syncs of the log */
    ENERGY_MS = 10000,
    TERMINAL_MS = 500, /* between two drawings of the progress, on a terminal ... */
    PLAIN_MS = 60000,  /* ... and elsewhere */
};

/* ---- progress ------------------------------------------------------------------------ */

static void show_progress(struct batch_run *r)
{
    struct batch_totals t;
    char eta[32] = "?";
    batch_sum(r->batch, &t);
    int64_t done = t.n_ok + t.n_failed, mine = done - t.n_before;
    double s = (double)(now_ms() - r->began_ms) / 1000;
    uint64_t tokens = t.prompt_tokens + t.completion_tokens - t.tokens_before;
    if (mine > 0) {
        long left = (long)(s / (double)mine * (double)(t.n_items - done));
        snprintf(eta, sizeof eta, "%ld:%02ld:%02ld", left / 3600, left / 60 % 60, left % 60);
    }
    fprintf(stderr, "%s%s: %lld/%lld items, %lld failed, %.0f tokens/s, %.0f %% from the cache, ETA %s%s",
            r->terminal ? "\r\033[K" : "", r->command->name, (long long)done, (long long)t.n_items, (long long)t.n_failed,
            s > 0 ? (double)tokens / s : 0,
            t.prompt_tokens ? 100 * (double)t.cached_tokens / (double)t.prompt_tokens : 0, eta,
            r->terminal ? "" : "\n");
    r->shown_ms = now_ms();
}

/* ---- statistics -------------------------------------------------------------------------- */

static void take_stats(void *ctx, const Cordee__Stats *stats)
{
    struct batch_run *r = ctx;
    run_report_take_stats(&r->report, stats);
    r->answered = true;
}

/* The answer comes from the loop. A question that is still open when the run closes is
 * answered (with NULL) before r ends. */
static void ask_stats(struct batch_run *r)
{
    if (r->asked && !r->answered)
        return;
    r->asked = true;
    r->answered = false;
    r->session.stats(r->session.report_ctx, take_stats, r);
}

/* Asks until what the stages told is whole, or it takes too long. */
static err settle_stats(struct batch_run *r, struct why *why)
{
    uint64_t since = now_ms();
    err e = ERR_OK;
    r->report.settled = false;
    while (!e && !r->report.settled && now_ms() - since < STATS_MS) {
        ask_stats(r);
        e = session_turn(&r->session, why);
    }
    return e;
}

/* ---- signals and timers --------------------------------------------------------------- */

static void on_signal(evutil_socket_t sig, short what, void *ctx)
{
    struct batch_run *r = ctx;
    (void)what;
    r->stop++;
    log_info("%s: ending", sig == SIGTERM ? "SIGTERM" : sig == SIGINT ? "SIGINT" : "SIGUSR1");
}

static void on_second(evutil_socket_t fd, short what, void *ctx)
{
    struct batch_run *r = ctx;
    uint64_t now = now_ms();
    (void)fd;
    (void)what;
    if (now - r->measured_ms >= ENERGY_MS) {
        energy_update(&r->report.energy, POWERCAP);
        r->measured_ms = now;
    }
    if (r->batch)
        ask_stats(r);
    if (r->batch && now - r->shown_ms >= (uint64_t)(r->terminal ? TERMINAL_MS : PLAIN_MS))
        show_progress(r);
}

static err watch(struct batch_run *r, struct why *why)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGUSR1 };
    struct timeval half = { 0, 500000 };
    for (int i = 0; i < 3; i++) {
        r->signals[i] = evsignal_new(r->session.base, numbers[i], on_signal, r);
        if (!r->signals[i] || event_add(r->signals[i], NULL) != 0)
            return why_set(why, ERR_IO, "event loop");
    }
    r->second = event_new(r->session.base, -1, EV_PERSIST, on_second, r);
    if (!r->second || event_add(r->second, &half) != 0)
        return why_set(why, ERR_IO, "event loop");
    if (r->session.drive.term) { /* the cluster lives until the items have ended */
        event_del(r->session.drive.term);
        event_del(r->session.drive.interrupt);
    }
    return ERR_OK;
}

static uint32_t epoch_of(const struct batch_run *r)
{
    struct health h = { 0 };
    r->session.health(r->session.report_ctx, &h);
    return h.epoch;
}

/* ---- open and close ------------------------------------------------------------------------- */

static err open_log(struct batch_run *r, struct why *why)
{
    char *path;
    if (asprintf(&path, "%s.journal", r->out) < 0)
        return why_set(why, ERR_NOMEM, "%s", r->out);
    err e = runlog_open(path, &r->log, why);
    free(path);
    return e;
}

/* Locks the journal, launches the cluster and waits for it. */
static err open_cluster(struct batch_run *r, struct why *why)
{
    err e;
    r->terminal = isatty(STDERR_FILENO) && !getenv("CI");
    TRY(open_log(r, why));
    TRY(session_open(&r->session, &r->config, why));
    TRY(watch(r, why));
    while (!backend_ready(r->session.backend)) {
        if (r->stop)
            FAIL(ERR_CANCELLED, "stopped by a signal before it began");
        TRY(session_turn(&r->session, why));
    }
    TRY(chat_open(source_chat_template(r->session.src), r->session.tok, &r->chat, why));
    r->report.command = r->command->name;
    r->report.model = r->session.backend->facts.name;
    r->report.fingerprint = r->session.backend->facts.fingerprint;
    r->report.nodes = 1;
    r->report.node_hour = r->config.rates_node_hour;
    r->report.kwh = r->config.rates_kwh;
    r->report.watts = r->config.rates_watts;
    energy_init(&r->report.energy, POWERCAP);
    r->first_epoch = epoch_of(r);
    TRY(settle_stats(r, why));
out:
    return e;
}

static void close_all(struct batch_run *r)
{
    batch_close(r->batch);
    runlog_close(r->log);
    for (int i = 0; i < 3; i++)
        if (r->signals[i]) {
            int number = event_get_signal(r->signals[i]);
            event_free(r->signals[i]);
            signal(number, SIG_IGN); /* the end is bounded, and has to give its exit code */
        }
    if (r->second)
        event_free(r->second);
    session_close(&r->session);
    r->command->fini(r->ctx);
    chat_close(r->chat);
    lines_close(r->lines);
    manifest_fini(&r->manifest);
    run_report_fini(&r->report);
    config_fini(&r->config);
}

/* ---- the run ------------------------------------------------------------------------------------ */

static err sync_now(struct batch_run *r, struct why *why)
{
    uint32_t epoch = epoch_of(r);
    struct batch_prefix prefix = run_report_prefix(&r->report);
    r->synced_ms = now_ms();
    batch_set_epochs(r->batch, epoch > r->first_epoch ? epoch - r->first_epoch : 0, &prefix);
    return batch_sync(r->batch, why);
}

/* Until every item has its result, or the run has to end. */
static err turn_until_done(struct batch_run *r, struct why *why)
{
    uint64_t deadline = 0;
    err e = ERR_OK;
    while (!batch_complete(r->batch)) {
        TRY(session_turn(&r->session, why));
        TRY(batch_failure(r->batch, why));
        if (now_ms() - r->synced_ms >= SYNC_MS)
            TRY(sync_now(r, why));
        if (r->stop && !deadline) {
            deadline = now_ms() + GRACE_MS;
            batch_stop_admitting(r->batch);
        }
        if (deadline && !batch_complete(r->batch) &&
            (r->stop > 1 || batch_live(r->batch) == 0 || now_ms() > deadline))
            FAIL(ERR_CANCELLED, "interrupted; the same command goes on");
    }
out:
    return e;
}

/* Runs the items to their end or to a signal. ERR_CANCELLED: interrupted in good order. */
static err run_items(struct batch_run *r, struct batch_options *o, struct why *why)
{
    struct buf text = { 0 };
    struct why later;
    err e;
    TRY(manifest_text(&r->manifest, &text, why));
    o->log = r->log;
    o->base = r->session.base;
    o->out = r->out;
    r->log = NULL;
    TRY(batch_open(o, text.data, text.len, &r->batch, why));
    r->began_ms = r->shown_ms = now_ms();
    if (!batch_complete(r->batch)) {
        TRY(batch_begin(r->batch, r->report.nodes, why));
        e = turn_until_done(r, why);
        batch_drop(r->batch);
        if (e == ERR_OK)
            e = settle_stats(r, why);
        energy_update(&r->report.energy, POWERCAP);
        err synced = sync_now(r, &later);
        if (e == ERR_OK && synced != ERR_OK)
            FAIL(synced, "%s", later.text);
    }
    if (e == ERR_OK)
        e = batch_write_ordered(r->batch, why);
    if (r->terminal || e == ERR_CANCELLED)
        show_progress(r);
    if (r->terminal)
        fputc('\n', stderr);
out:
    buf_fini(&text);
    return e;
}

/* ---- the report ------------------------------------------------------------------------------------ */

err batch_run_write(const char *path, const struct buf *content, struct why *why)
{
    char *part = NULL;
    FILE *f = NULL;
    err e = ERR_OK;
    if (content->failed || asprintf(&part, "%s.part", path) < 0) {
        part = NULL;
        FAIL(ERR_NOMEM, "%s", path);
    }
    f = fopen(part, "we");
    bool good = f && fwrite(content->data, 1, content->len, f) == content->len && fflush(f) == 0 &&
                fsync(fileno(f)) == 0;
    if (!good || rename(part, path) != 0)
        e = runlog_write_error(path, errno, why);
out:
    if (f)
        fclose(f);
    free(part);
    return e;
}

static err write_report(struct batch_run *r, struct why *why)
{
    struct buf text = { 0 };
    char *path = NULL;
    err e;
    if (asprintf(&path, "%s.report.json", r->out) < 0) {
        path = NULL;
        FAIL(ERR_NOMEM, "report");
    }
    batch_sum(r->batch, &r->report.totals);
    run_report_json(&r->report, &text);
    TRY(batch_run_write(path, &text, why));
    buf_clear(&text);
    run_report_text(&r->report, &text);
    if (text.failed || fwrite(text.data, 1, text.len, stdout) != text.len || fflush(stdout) != 0)
        FAIL(ERR_IO, "stdout");
out:
    free(path);
    buf_fini(&text);
    return e;
}

/* ---- the command ------------------------------------------------------------------------------------ */

err batch_run_number(const char *option, const char *text, int most, int *out, struct why *why)
{
    char *tail;
    long v = strtol(text, &tail, 10);
    if (tail == text || *tail || v < 1 || v > most)
        return why_set(why, ERR_INVAL, "--%s: \"%.40s\" is not in 1..%d", option, text, most);
    *out = (int)v;
    return ERR_OK;
}

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct batch_run *r = ctx;
    if (key == 'i')
        r->in = value;
    else if (key == 'o')
        r->out = value;
    else
        return r->command->take(r->ctx, key, value, why);
    return ERR_OK;
}

static err check_arguments(const struct batch_run *r, struct why *why)
{
    if (r->command->check)
        return r->command->check(r->ctx, r, why);
    return r->in && r->out ? ERR_OK : why_set(why, ERR_INVAL, "-i FILE and -o FILE are needed");
}

static err run(struct batch_run *r, struct why *why)
{
    struct batch_options o = { 0 };
    err e;
    TRY(check_arguments(r, why));
    TRY(config_check(&r->config, why));
    if (r->in)
        TRY(lines_open(r->in, r->command->id_key, &r->lines, why));
    if (r->in && lines_count(r->lines) == 0)
        FAIL(ERR_INVAL, "%s: there is no line in it", r->in);
    TRY(open_cluster(r, why));
    manifest_put(&r->manifest, "command", r->command->name);
    manifest_put(&r->manifest, "results", "1"); /* changes when the same input would give other bytes */
    if (r->lines)
        manifest_put(&r->manifest, "input_sha256", lines_sha256(r->lines));
    TRY(r->command->prepare(r->ctx, r, &o, why));
    manifest_put_model(&r->manifest, &r->config, &r->session.backend->facts, r->session.tok);
    TRY(run_items(r, &o, why));
    if (r->command->summarise)
        TRY(r->command->summarise(r->ctx, r, why));
    TRY(write_report(r, why));
out:
    return e;
}

int batch_run_main(struct batch_run *r, const struct batch_command *command, void *ctx, int argc, char **argv)
{
    struct options o = { command->name, command->doc, NULL, command->options, take, r, false };
    struct why why = { 0 };
    int code = EXIT_FAILED;
    r->command = command;
    r->ctx = ctx;
    config_init(&r->config);
    manifest_init(&r->manifest);
    (void)!config_set(&r->config, "log_level", "warn", &why);
    if (options_parse(&o, argc, argv, &r->config, &code) == 0) {
        err e = run(r, &why);
        code = e == ERR_OK ? EXIT_DONE : cmd_fail(command->name, e, &why, EXIT_USAGE);
        if (e == ERR_CANCELLED && r->stop)
            code = EXIT_RESUME;
    }
    close_all(r);
    return code;
}
