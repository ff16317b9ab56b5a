/* batch.h - runs many items through a window, and loses and repeats none.
 *
 * What an item is (a batch line, a question of an evaluation, a window of a text) is its
 * work's business; this file decides which item is begun when, writes every result to
 * the run log before anything else hears of it, and builds the output files from the
 * log. So a run that was killed at any moment goes on where it was: items whose result
 * is in the log are not begun again, and output files are made to agree with the log.
 *
 * Output: item results that are well go to `out`, others to `err` (one file for both
 * when `err` is NULL). Ordered runs write their files at the end, in the order of items,
 * and rename them into place; others append in the order of completion.
 *
 * Threads: the owner of the event base. Memory: 12 bytes an item, and the window.
 */
#ifndef CORDEE_COORDINATOR_BATCH_H
#define CORDEE_COORDINATOR_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct batch;
struct runlog;
struct event_base;

struct batch_result {
    bool ok;
    const char *line; /* the result, one line without its end */
    size_t len;
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
};

/* What is done with an item. */
struct batch_work {
    /* Begins item i. *job: what cancel gets. Ends by batch_finish() or batch_again(),
     * now (then *job stays NULL) or later.
     * ERR_FULL: no room at the moment; other errors end the run. */
    err (*begin)(void *ctx, struct batch *b, int64_t i, void **job, struct why *why);
    void (*cancel)(void *ctx, void *job);
    void *ctx;
};

struct batch_options {
    struct event_base *base;
    int64_t n_items;
    int window;                     /* items at once, >= 1 */
    struct runlog *log;             /* open; taken over by batch_open, also when it fails */
    const char *out, *errors;       /* paths; errors NULL: everything goes to out */
    bool ordered;
    struct batch_work work; /* .ctx borrowed */
};

/* What an epoch's engine said of the pages that prompts share. */
struct batch_prefix {
    uint64_t pages;   /* computed */
    uint64_t again;   /* of these, computed before in the same epoch */
    uint64_t evicted; /* given up for others */
};

/* Of the whole run, sessions before this one included. */
struct batch_totals {
    int64_t n_items, n_ok, n_failed;
    int64_t n_before; /* of these, finished by earlier sessions */
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    uint64_t tokens_before; /* prompt and completion, of earlier sessions */
    uint32_t sessions, restarts; /* restarts: of the cluster */
    double wall_s, node_s;       /* while a cluster was there */
    double latency_p50_s, latency_p99_s; /* NAN: none finished */
    struct batch_prefix prefix;          /* summed over epochs, as they last told */
};

/* Opens or continues a run. manifest: JSON text, see manifest.h.
 * ERR_INVAL  begun with another manifest, or an output file is there without its log
 * ERR_FORMAT  the log is not a batch's */
MUST_CHECK err batch_open(const struct batch_options *o, const char *manifest, size_t manifest_len,
                          struct batch **out, struct why *why);
/* Cancels what is live. Syncs nothing. */
void batch_close(struct batch *b); /* NULL is fine */

/* From work, for a live item. The result is copied. */
void batch_finish(struct batch *b, int64_t i, const struct batch_result *r);
/* The item failed for a reason that is not its own: it is begun again, a few times. */
void batch_again(struct batch *b, int64_t i, err code, const char *reason);

/* Begins admitting. nodes: for the totals. */
MUST_CHECK err batch_begin(struct batch *b, int nodes, struct why *why);
/* Restarts of the cluster in this session so far, and what its epochs shared. */
void batch_set_epochs(struct batch *b, uint32_t restarts, const struct batch_prefix *sum);
/* No item is begun any more; those that run go on. */
void batch_stop_admitting(struct batch *b);
/* Gives up what runs; a later session does it. The session's clock stops. */
void batch_drop(struct batch *b);
int batch_live(const struct batch *b);
/* Every item has its result. */
bool batch_complete(const struct batch *b);
/* ERR: a disk is full, an item failed for good, ...: end the session. */
MUST_CHECK err batch_failure(const struct batch *b, struct why *why);

/* Everything told so far survives the machine; call it every second or two. */
MUST_CHECK err batch_sync(struct batch *b, struct why *why);
/* At the end of a complete run: the ordered files. */
MUST_CHECK err batch_write_ordered(struct batch *b, struct why *why);
/* The result of item i; ERR_NOTFOUND: it has none. */
MUST_CHECK err batch_get(struct batch *b, int64_t i, bool *ok, struct buf *line, struct why *why);
void batch_sum(struct batch *b, struct batch_totals *out);

#endif
