/* link_encode.h - a journal entry as the Generate that asks rank 0 for the rest of it. */
#ifndef CORDEE_COORDINATOR_LINK_ENCODE_H
#define CORDEE_COORDINATOR_LINK_ENCODE_H

#include "base/buf.h"
#include "coordinator/supervise/journal.h"

/* Appends one packed Envelope with the entry's wire number as id. ERR_NOMEM. */
MUST_CHECK err link_encode(const struct journal_entry *en, struct buf *out, struct why *why);

#endif
