/* reader.c - what all readers have in common; see reader.h. */
#include "model/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

void reader_close(struct reader *r)
{
    if (r->type) {
        r->type->close(r->ctx);
        catalog_fini(&r->tensors);
    }
    *r = (struct reader){0};
}

void reader_hash(const struct reader *r, char hash[17])
{
    XXH3_state_t *state = XXH3_createState();

    hash[0] = '\0';
    if (!state)
        return;
    XXH3_64bits_reset(state);
    r->type->hash(r->ctx, state);
    snprintf(hash, 17, "%016" PRIx64, (uint64_t)XXH3_64bits_digest(state));
    XXH3_freeState(state);
}
