/* ring.h - the last token of every slot, as stage 1 heard it over the ring.
 *
 * The last stage sends each sampled token straight to stage 1 (a TOKENS message
 * of wire_results), while rank 0 sends the batch in which that token is a row.
 * The two come from different ranks, so in any order. A ring row names no
 * token: its token is the one sampled at (slot, pos - 1), and since a sequence
 * samples one token at a time, the last token of each slot is all there is to
 * keep.
 *
 *   absent  not here yet: stage 1 keeps the batch and goes on listening
 *   dead    the sequence ended at or before pos - 1 (an end token): rank 0 did
 *           not know yet when it sent the row. The row computes nothing that
 *           matters and gives no token.
 *
 * Reuse of a slot: a batch that brings a sampler for a slot opens it. Tokens of
 * an older step that are still on their way then belong to the slot's former
 * sequence and are dropped; steps only grow within an epoch (modulo 2^32).
 *
 * Threads: one owner. Memory: fixed at ring_init(). Cost: O(1) a call.
 */
#ifndef CORDEE_PROTO_RING_H
#define CORDEE_PROTO_RING_H

#include <stdint.h>

#include "base/err.h"
#include "proto/wire.h"

struct ring_slot;
struct ring {
    struct ring_slot *slots; /* owned */
    uint32_t n_slots;
};

enum ring_answer { RING_ABSENT, RING_TOKEN, RING_DEAD };

MUST_CHECK err ring_init(struct ring *r, uint32_t n_slots, struct why *why);
void ring_fini(struct ring *r);

/* The batch of `step` opens the slot: forgets it. slot < n_slots. */
void ring_open(struct ring *r, uint32_t slot, uint32_t step);
/* One record of a TOKENS message whose head has `step`. Records that
 * did not sample, of dead rows, or of a slot's former sequence are ignored. */
void ring_put(struct ring *r, uint32_t step, const struct wire_result *result);
/* The token of a ring row at pos (>= 1) of slot (< n_slots). */
enum ring_answer ring_get(const struct ring *r, uint32_t slot, int32_t pos, int32_t *token);

#endif
