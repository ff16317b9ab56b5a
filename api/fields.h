/* fields.h - typed reading of a JSON object's fields, driven by tables.
 *
 * One row says name, type, range and where the value goes; absent and null leave
 * the default alone; everything else must have exactly the row's type (a number in
 * quotes is not a number, `true` is not 1). Fields that no row names are ignored.
 *
 * Threads: none of its own; pure functions over the caller's memory.
 */
#ifndef CORDEE_API_FIELDS_H
#define CORDEE_API_FIELDS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "api/fault.h"
#include "api/openai.h"
#include "base/arena.h"
#include "base/err.h"

enum field_kind {
    FIELD_BOOL,  /* bool */
    FIELD_INT,   /* int, min..max */
    FIELD_I64,   /* int64_t, any */
    FIELD_FLOAT, /* float, min..max, integers accepted */
};
struct field {
    const char *name;
    enum field_kind kind;
    size_t offset; /* of the value in the caller's struct */
    double min, max;
    size_t present; /* offset of a bool that is set when the field was given; 0: none */
};

/* Parses a body that must be one JSON object. *out: json_decref() it.
 * ERR_FORMAT  malformed (with line and column), a key twice, not an object */
MUST_CHECK err fields_parse(const char *body, size_t len, json_t **out, struct fault *fault);

/* ERR_INVAL names the field, what it must be and its range. */
MUST_CHECK err fields_read(const json_t *object, const struct field *table, size_t n, void *out,
                           struct fault *fault);

/* The value of a field, NULL when absent or null. */
json_t *fields_get(const json_t *object, const char *name);

/* A string field copied into the arena; *out is left alone when absent. */
MUST_CHECK err fields_text(const json_t *object, const char *name, struct arena *arena,
                           struct openai_text *out, struct fault *fault);

/* An array of integers 0..INT32_MAX copied into the arena. `name` is for the reason. */
MUST_CHECK err fields_ids(const json_t *array, const char *name, struct arena *arena, int32_t **out,
                          int *n, struct fault *fault);

#endif
