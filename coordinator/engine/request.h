/* request.h - is a request one that the pipeline can run? And whose is it?
 *
 * Every number of a request reaches the stages, which treat a bad one as a broken
 * peer; so all of them are checked here, where only the request fails.
 */
#ifndef CORDEE_COORDINATOR_REQUEST_H
#define CORDEE_COORDINATOR_REQUEST_H

#include "coordinator/backend.h"
#include "coordinator/engine/seq.h"

/* ERR_INVAL, ERR_LIMIT as backend_submit() documents. context: positions that a
 * single sequence can have. */
MUST_CHECK err request_check(const struct gen_request *req, int n_vocab, int context, struct why *why);

/* The counter of a key (NULL counts as a key too), with one live request more. A
 * new key starts at the least of the others: it does not get what it did not ask
 * for in the past. NULL: no memory. */
struct fair_key *fair_key_get(struct fair_key **list, const char *name);
/* One live request less; the last one frees the counter. */
void fair_key_drop(struct fair_key **list, struct fair_key *key);

#endif
