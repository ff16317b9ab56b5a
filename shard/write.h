/* write.h - a model written as a directory of shards (model/shards.h), and checked again.
 *
 * Each stage's weights are packed straight into its file, a piece at a time, so that a
 * model far larger than memory can be written anywhere. Files appear under their names
 * only when they are whole; shards.json comes last. What an interrupted run has
 * finished, the next one keeps.
 */
#ifndef CORDEE_SHARD_WRITE_H
#define CORDEE_SHARD_WRITE_H

#include "base/err.h"
#include "base/pool.h"
#include "model/shards.h"
#include "model/source.h"
#include "shard/plan.h"

enum shard_state { SHARD_WRITTEN, SHARD_KEPT /* was there */, SHARD_GOOD, SHARD_DAMAGED, SHARD_MISSING };

/* Called after each stage (1..n_stages); reason: of damage, else NULL. */
typedef void shard_told_fn(void *ctx, int stage, const struct shard_stage *s, enum shard_state state,
                           const char *reason);

struct shard_job {
    const struct source *src; /* not shards itself */
    const char *dir;          /* is made if it does not exist */
    const struct plan_stage *stages;
    int n_stages;
    int only; /* 1..n_stages: this stage's file alone; 0: all */
    struct pool *pool;
    shard_told_fn *told;
    void *ctx;
};

/* ERR_IO: the disk's reason, ERR_INVAL: dir holds other shards, or the model itself. */
MUST_CHECK err shards_make(const struct shard_job *job, struct why *why);

/* Reads every byte of every stage's file in dir. Goes on after a bad one.
 * local: files that are not here are no failure. ERR_FORMAT, ERR_NOTFOUND: at least one is bad. */
MUST_CHECK err shards_verify(const char *dir, bool local, struct pool *pool, shard_told_fn *told, void *ctx,
                             struct why *why);

#endif
