/* journal.h - requests in flight, each with all its tokens so far.
 *
 * What makes a lost epoch a pause and not an error: an entry holds everything that
 * is needed to ask again (the request, its seed, the tokens that were generated)
 * and how much the asker has been told already. It lives in memory: `serve`, which
 * owns it, outlives every rank.
 *
 * Threads: single owner. Memory: an entry owns copies of its request's arrays.
 */
#ifndef CORDEE_COORDINATOR_JOURNAL_H
#define CORDEE_COORDINATOR_JOURNAL_H

#include <sys/queue.h>

#include "coordinator/backend.h"

enum journal_state {
    JOURNAL_WAITING, /* to be sent as soon as an epoch takes it */
    JOURNAL_SENT,    /* with the present epoch */
};

struct journal_entry {
    TAILQ_ENTRY(journal_entry) link;
    uint64_t handle; /* stable; never 0 */
    uint64_t wire;   /* renewed with every sending, so answers of an earlier one are known as such */
    enum journal_state state;
    uint64_t since_ms; /* in this state */
    struct gen_request req; /* arrays are the entry's own */
    gen_event_fn *fn;
    void *ctx;
    int32_t *tokens; /* [n_tokens] generated and reported */
    int n_tokens, cap_tokens;
    int n_prompt_told; /* prompt tokens before it need no score any more: reported, or not asked */
    int n_prompt_seen; /* the same of the last sending alone */
    int n_cached;      /* as the first epoch said */
    int n_lost;        /* epochs lost under it in a row without a word from it */
};

TAILQ_HEAD(journal_list, journal_entry);
struct journal {
    struct journal_list entries; /* oldest first */
    struct journal_entry **slot; /* [n_slots]; a handle's and a wire's low bits index it */
    int n_slots, n;
    uint64_t serial;
};

void journal_init(struct journal *j);
void journal_fini(struct journal *j); /* entries are freed without events */

/* Copies the request (and its resumed tokens as tokens so far). */
MUST_CHECK err journal_put(struct journal *j, const struct gen_request *req, gen_event_fn *fn, void *ctx,
                           struct journal_entry **out, struct why *why);
void journal_drop(struct journal *j, struct journal_entry *e);

struct journal_entry *journal_by_handle(const struct journal *j, uint64_t handle); /* NULL: gone */
struct journal_entry *journal_by_wire(const struct journal *j, uint64_t wire);     /* NULL: gone or stale */

/* Notes a generated token. ERR_NOMEM. */
MUST_CHECK err journal_token(struct journal_entry *e, int32_t token, struct why *why);
/* Before a sending: a fresh wire number, nothing seen of it yet. */
void journal_renew(struct journal *j, struct journal_entry *e);

/* True when the tokens so far already end the request: only its last event was lost. */
bool journal_complete(const struct journal_entry *e, enum finish *finish);

#endif
