/* json_ids.h - token ids out of golden JSON. */
#ifndef CORDEE_TESTS_JSON_IDS_H
#define CORDEE_TESTS_JSON_IDS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

/* An array of 1 to max ids; returns how many. */
static int ids_of(const json_t *array, int32_t *ids, int max)
{
    int n = (int)json_array_size(array);
    assert_in_range(n, 1, max);
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, (size_t)i));
    return n;
}

#endif
