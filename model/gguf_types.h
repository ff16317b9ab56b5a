/* gguf_types.h - the tensor types of GGML, by the number in a GGUF file.
 *
 * The sizes of all of them are needed to check a tensor table, also of those
 * that Cordee cannot compute with (those have fmt FMT_COUNT).
 */
#ifndef CORDEE_MODEL_GGUF_TYPES_H
#define CORDEE_MODEL_GGUF_TYPES_H

#include <stdint.h>

#include "kernels/format.h"

struct ggml_type {
    const char *name;
    int block, bytes; /* elements and bytes of a block; 0: no such type (any more) */
    enum fmt fmt;
};

/* NULL: no such type. */
const struct ggml_type *ggml_type(uint32_t id);

/* "f32, f16, ..." : what fmt_traits lists; static storage. */
const char *fmt_names(void);

#endif
