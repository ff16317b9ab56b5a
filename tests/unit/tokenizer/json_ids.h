/* json_ids.h - token ids out of JSON. */
#ifndef CORDEE_TESTS_TOKENIZER_JSON_IDS_H
#define CORDEE_TESTS_TOKENIZER_JSON_IDS_H

#include <jansson.h>
#include <stdlib.h>

#include "tokenizer/tokenizer.h"

/* The caller frees ids.id. */
static struct tok_ids ids_of(json_t *array)
{
    struct tok_ids ids = {calloc(json_array_size(array) + 1, sizeof(int32_t)), 0, 0};
    size_t i;
    json_t *x;
    json_array_foreach(array, i, x) ids.id[ids.n++] = (int32_t)json_integer_value(x);
    return ids;
}

#endif
