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
void pool_close(struct pool *p); /* NULL is fine */
int pool_threads(const struct pool *p);

/* Calls fn over [0, n_items) in chunks of at most `chunk` items (>= 1) and
 * returns when all are done. Allocates nothing. Writes made by fn are visible
 * to the caller afterwards. */
void pool_run(struct pool *p, int n_items, int chunk, pool_fn *fn, void *ctx);

#endif
