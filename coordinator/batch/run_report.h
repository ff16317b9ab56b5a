/* run_report.h - what a batch or evaluation did and cost, as text and as JSON.
 *
 * Every figure is labelled: measured, or estimated from the rates of the configuration.
 */
#ifndef CORDEE_COORDINATOR_RUN_REPORT_H
#define CORDEE_COORDINATOR_RUN_REPORT_H

#include "coordinator/batch/batch.h"
#include "coordinator/config.h"
#include "coordinator/batch/energy.h"
#include "coordinator/front/status.h"

struct run_stage {
    unsigned rank, first, last; /* layers [first, last) */
    char host[128];
    double busy, wait; /* shares of the time since the epoch was ready; the rest: neither */
    uint64_t sent_bytes;
};

struct run_report {
    const char *command, *model, *fingerprint; /* borrowed */
    struct batch_totals totals;
    struct run_stage *stages; /* [n_stages], of the last epoch; owned */
    int n_stages;
    int nodes;         /* hosts of the stages, at least 1 */
    struct energy energy; /* of this machine, this session */
    double node_hour, kwh, watts; /* rates; 0: not known */
    bool settled;                 /* each stage has told of every step, see below */
    bool asked;                   /* statistics came before: */
    uint32_t epoch;               /* the epoch they spoke of, */
    struct batch_prefix before, now; /* what earlier epochs shared, and this one */
};

/* Replaces stages and nodes. stats NULL: leaves them. Stages tell a little later than
 * rank 0 counts; figures of work that has ended are whole once r->settled is true. */
void run_report_take_stats(struct run_report *r, const Cordee__Stats *stats);
void run_report_fini(struct run_report *r);
/* Over all epochs since the first statistics. */
struct batch_prefix run_report_prefix(const struct run_report *r);

void run_report_text(const struct run_report *r, struct buf *out);
void run_report_json(const struct run_report *r, struct buf *out);

#endif
