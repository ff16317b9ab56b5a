/* pool.h - a thread pool for data-parallel loops inside one rank.
 *
 * Work is shared in dynamic chunks so that a core stolen by a neighbour delays
 * one chunk and not the whole loop. Workers spin a little after a loop, then
 * park on a futex; an idle pool costs nothing. The calling thread takes part.
 *
 * Threads: one thread at a time may call pool_run(); loops do not nest.
 */
#ifndef CORDEE_BASE_POOL_H
#define CORDEE_BASE_POOL_H

#include "base/err.h"

struct pool;

/* Handles items [first, last) of the loop. worker: 0..threads-1, for scratch. */
typedef void pool_fn(void *ctx, int first, int last, int worker);

/* threads >= 1, counting the caller; 1 starts no thread at all. */
MUST_CHECK err pool_open(int threads, struct pool **out, struct why *why);
/* The same, thread i bound to the CPU cpus[i] (copied) as base/bind.h says; NULL: to
 * none. The caller is thread 0 and stays as it is until pool_bind_caller(). */
MUST_CHECK err pool_open_on(int threads, const int *cpus, struct pool **out, struct why *why);
/* The calling thread will be the one that calls pool_run(): binds it to cpus[0]. A
 * caller bound before keeps its core, but no longer looks after it. */
void pool_bind_caller(struct pool *p);
void pool_close(struct pool *p); /* NULL is fine */
int pool_threads(const struct pool *p);

/* Calls fn over [0, n_items) in chunks of at most `chunk` items (>= 1) and
 * returns when all are done. Allocates nothing. Writes made by fn are visible
 * to the caller afterwards. */
void pool_run(struct pool *p, int n_items, int chunk, pool_fn *fn, void *ctx);

/* The same with chunks that shrink from `most` to `least` items (1 <= least <= most)
 * as fewer are left: long runs of memory first, and an end at which all threads
 * arrive together. */
void pool_run_shrinking(struct pool *p, int n_items, int least, int most, pool_fn *fn, void *ctx);

#endif
