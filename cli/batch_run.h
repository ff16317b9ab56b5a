/* batch_run.h - a command that runs a batch over a cluster, from its arguments to its
 * report: what `cordee batch` and `cordee eval` have in common.
 *
 * The input is indexed and checked before anything is launched; then the run's journal is
 * locked, the cluster launched (or, with --connect, asked), the items run, the report
 * written. OUT.journal is what a re-run goes on from, OUT.report.json says what the run did.
 *
 * SIGTERM, SIGINT and SIGUSR1 (a job's walltime is near): no item is begun any more,
 * what runs gets some seconds, the log is synced, the exit code is EXIT_RESUME. A second
 * signal gives up what runs at once.
 */
#ifndef CORDEE_CLI_BATCH_RUN_H
#define CORDEE_CLI_BATCH_RUN_H

#include <argp.h>

#include "cli/session.h"
#include "coordinator/batch/batch.h"
#include "coordinator/batch/lines.h"
#include "coordinator/batch/manifest.h"
#include "coordinator/batch/run_report.h"
#include "coordinator/batch/runlog.h"

struct batch_run;

/* What differs between the commands. Functions get the command's own context. */
struct batch_command {
    const char *name, *doc;
    const char *id_key; /* of an input line: no two lines have the same */
    /* Options besides -i and -o, keys below 512; ends with {0}. */
    const struct argp_option *options;
    err (*take)(void *ctx, int key, const char *value, struct why *why);
    /* Arguments are read, nothing is open: do they fit together? NULL: -i and -o are needed. */
    err (*check)(void *ctx, const struct batch_run *r, struct why *why);
    /* The cluster answers: what the items are (n_items, window, work, ordered, errors of o,
     * whose texts live until the run closes) and what they depend on (r->manifest, besides
     * input and model). */
    err (*prepare)(void *ctx, struct batch_run *r, struct batch_options *o, struct why *why);
    /* Every item has its result. NULL: nothing to say but the report. */
    err (*summarise)(void *ctx, struct batch_run *r, struct why *why);
    void (*fini)(void *ctx);
};

struct batch_run {
    const struct batch_command *command;
    void *ctx;
    struct config config;
    const char *in, *out; /* the files; in may be NULL where check() allows it */
    struct lines *lines;  /* of `in` */
    struct session session;
    struct chat *chat;    /* the model's template */
    struct manifest manifest;
    struct runlog *log;   /* until the batch has it */
    struct batch *batch;
    struct run_report report;
    struct event *signals[3], *second;
    int stop;             /* signals so far */
    bool terminal;        /* progress is redrawn */
    uint64_t began_ms, shown_ms, synced_ms, measured_ms;
    uint32_t first_epoch;
    bool asked, answered; /* for statistics */
};

/* The whole command; returns the exit code. r: zeroed memory, closed on return. */
int batch_run_main(struct batch_run *r, const struct batch_command *command, void *ctx, int argc, char **argv);

/* For an option's value: a number of 1..most. ERR_INVAL names the option. */
MUST_CHECK err batch_run_number(const char *option, const char *text, int most, int *out, struct why *why);
/* Writes a small file at once (a temporary one, renamed). */
MUST_CHECK err batch_run_write(const char *path, const struct buf *content, struct why *why);

#endif
