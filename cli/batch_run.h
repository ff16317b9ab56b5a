/* batch_run.h - a batch over a cluster, from its launch to its report: what `cordee
 * batch` and `cordee eval` have in common.
 *
 * SIGTERM, SIGINT and SIGUSR1 (a job's walltime is near): no item is begun any more,
 * what runs gets some seconds, the log is synced, the exit code is EXIT_RESUME. A second
 * signal gives up what runs at once.
 */
#ifndef CORDEE_CLI_BATCH_RUN_H
#define CORDEE_CLI_BATCH_RUN_H

#include "cli/session.h"
#include "coordinator/batch/batch.h"
#include "coordinator/batch/manifest.h"
#include "coordinator/batch/run_report.h"
#include "coordinator/batch/runlog.h"

struct batch_run {
    const char *command;   /* "batch" */
    struct config *config; /* borrowed */
    const char *out;       /* the output file; journal and report are named after it; borrowed */
    struct session session;
    struct runlog *log;    /* until the batch has it */
    struct batch *batch;
    struct run_report report;
    struct event *signals[3], *second;
    int stop;              /* signals so far */
    bool terminal;         /* progress is redrawn */
    uint64_t began_ms, shown_ms, synced_ms, measured_ms;
    uint32_t first_epoch;
    bool asked, answered;  /* for statistics */
};

/* Locks the run's journal, launches the cluster and waits for it. EXIT_RESUME in
 * *exit_code when a signal came first (then ERR_CANCELLED). The caller has set command,
 * config and out and zeroed the rest; batch_run_close() after a failure too. */
MUST_CHECK err batch_run_open(struct batch_run *r, struct why *why);
void batch_run_close(struct batch_run *r);

/* Runs the batch to its end or to a signal. o: .log, .base and .out are filled in here.
 * ERR_CANCELLED  interrupted in good order */
MUST_CHECK err batch_run_go(struct batch_run *r, struct batch_options *o, const struct manifest *m, struct why *why);
/* After a complete run: OUT.report.json, and the text on stdout. */
MUST_CHECK err batch_run_report(struct batch_run *r, struct why *why);
/* Writes a small file at once (a temporary one, renamed). */
MUST_CHECK err batch_run_write(const char *path, const struct buf *content, struct why *why);
/* The exit code for what the calls above returned. */
int batch_run_exit(const struct batch_run *r, err e, const struct why *why);

#endif
