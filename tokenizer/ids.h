/* ids.h - appending to a tok_ids. */
#ifndef CORDEE_TOKENIZER_IDS_H
#define CORDEE_TOKENIZER_IDS_H

#include "tokenizer/tokenizer.h"

MUST_CHECK err tok_ids_grow(struct tok_ids *ids, struct why *why);

MUST_CHECK static inline err tok_ids_put(struct tok_ids *ids, int32_t id, struct why *why)
{
    if (ids->n == ids->cap) {
        err e = tok_ids_grow(ids, why);
        if (e != ERR_OK)
            return e;
    }
    ids->id[ids->n++] = id;
    return ERR_OK;
}

#endif
