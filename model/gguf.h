/* gguf.h - GGUF files, versions 2 and 3.
 *
 * Everything in the file is hostile until checked: gguf_open() walks all of the
 * metadata and the tensor table once and refuses, naming the place and the cause,
 * counts and lengths that do not fit the file, unknown value types, nested arrays,
 * duplicate keys or names, wrong alignment, shapes that overflow or do not fill
 * whole blocks, tensors past the end or on top of each other, and big-endian
 * files. What is reached through this header afterwards is in bounds.
 *
 * Tensors of types that have no kernels are listed (fmt == FMT_COUNT); they are
 * an error only for whoever needs their values.
 */
#ifndef CORDEE_MODEL_GGUF_H
#define CORDEE_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/catalog.h"

enum gguf_type { /* of metadata values, as in the file */
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32,
    GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64,
    GGUF_TYPE_COUNT
};
const char *gguf_type_name(enum gguf_type t);
size_t gguf_type_bytes(enum gguf_type t); /* of a scalar; 0: strings, arrays */

/* A scalar is an array of one; `array` tells them apart. */
struct gguf_value {
    const char *key;
    enum gguf_type type; /* of the elements: never GGUF_ARRAY */
    bool array;
    uint64_t n;
    const uint8_t *data; /* little-endian, unaligned; strings: n times (u64 length, bytes) */
};

struct gguf;

/* path: borrowed for the call. ERR_FORMAT, ERR_UNSUPPORTED, ERR_NOTFOUND, ERR_IO. */
MUST_CHECK err gguf_open(const char *path, struct gguf **out, struct why *why);
/* The same from memory, which must outlive the result; label stands for the path in reasons. */
MUST_CHECK err gguf_open_memory(const void *data, size_t size, const char *label, struct gguf **out,
                                struct why *why);
void gguf_close(struct gguf *g); /* NULL is fine */

const char *gguf_path(const struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g);
/* Bytes before the tensor data: header, metadata and tensor table. */
const void *gguf_head(const struct gguf *g, size_t *bytes);

/* Metadata. NULL: no such key. */
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);
size_t gguf_n_values(const struct gguf *g);
const struct gguf_value *gguf_value_at(const struct gguf *g, size_t i); /* in the file's order */

/* Element i < v->n as a number; false if it is a string, or not finite. Integers
 * beyond 2^53 lose bits. */
bool gguf_number(const struct gguf_value *v, uint64_t i, double *out);

/* Strings have no index in the file: walk them. */
struct gguf_strings {
    const uint8_t *at;
    uint64_t left;
};
struct gguf_strings gguf_strings(const struct gguf_value *v); /* v->type is GGUF_STRING */
bool gguf_string_next(struct gguf_strings *w, const char **s, size_t *len);
/* The one string of v, a view of the file; false if v is an array or no string. */
bool gguf_text(const struct gguf_value *v, const char **s, size_t *len);

/* Appends a GGUF file of the same metadata and no tensors; what says how a model is
 * split into files is left out. */
struct buf;
void gguf_put_facts(struct buf *out, const struct gguf *g);

/* Tensors, in name order; views into the mapping. */
const struct catalog *gguf_tensors(const struct gguf *g);

#endif
