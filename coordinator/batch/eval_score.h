/* eval_score.h - accuracy over the results of multiple-choice items, and two runs
 * compared. Works on result files alone; needs no model. */
#ifndef CORDEE_COORDINATOR_EVAL_SCORE_H
#define CORDEE_COORDINATOR_EVAL_SCORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct eval_group {
    char *name; /* owned; NULL: all items */
    int64_t n, acc, acc_norm;
};

struct eval_score {
    struct eval_group all;
    struct eval_group *groups; /* [n_groups], by name; owned */
    int n_groups;
    int64_t n_failed;
};

/* Counts one result line (eval_item.h). ERR_FORMAT: it is none. */
MUST_CHECK err eval_score_add(struct eval_score *s, const char *line, size_t len, struct why *why);
void eval_score_fini(struct eval_score *s);
/* Shares with standard errors, per group too, and the gap between the best and the
 * worst group. One JSON object, or a table. */
void eval_score_json(const struct eval_score *s, struct buf *out);
void eval_score_text(const struct eval_score *s, struct buf *out);

/* ---- two runs ---------------------------------------------------------------------------- */

/* Compares two result files, paired by `id` (by line where there is none), into a report:
 * accuracies and their paired difference, McNemar's exact test, items whose answer
 * changed (at most `list`), the largest difference of a log-probability.
 * *identical: the files are the same bytes.
 * ERR_IO, ERR_FORMAT name file and line. */
MUST_CHECK err eval_compare(const char *path_a, const char *path_b, int list, struct buf *out, bool *identical,
                            struct why *why);

/* Two-sided exact p of McNemar's test: b items are right only in one run, c only in the
 * other. */
double eval_mcnemar(int64_t b, int64_t c);

#endif
