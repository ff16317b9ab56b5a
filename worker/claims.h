/* claims.h - which cores of a node are somebody's, among all ranks that run there.
 *
 * Ranks that a launcher starts with one and the same mask, or that belong to different
 * clusters, must not bind their threads to the same cores. A claim is a byte range
 * lock on a small file in shared memory, one byte a core: the kernel drops it with the
 * process, however that ends. What other programs do is not known here.
 *
 * Threads: one owner.
 */
#ifndef CORDEE_WORKER_CLAIMS_H
#define CORDEE_WORKER_CLAIMS_H

#include <stdbool.h>

#include "base/err.h"

struct claims;

#define CLAIMS_PATH "/dev/shm/cordee-cores"

/* ERR_IO  the file cannot be used. */
MUST_CHECK err claims_open(const char *path, struct claims **out, struct why *why);
/* Gives all cores back. NULL is fine. */
void claims_close(struct claims *c);

/* Between the two no other rank chooses, so two that start together do not get half
 * of each other's domain. ERR_TIMEOUT: somebody has been choosing for a second. */
MUST_CHECK err claims_begin(struct claims *c, struct why *why);
void claims_end(struct claims *c);

/* True if the core was nobody's and is now ours. */
bool claims_take(struct claims *c, int core);
void claims_drop(struct claims *c, int core);

#endif
