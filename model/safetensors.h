/* safetensors.h - one safetensors file.
 *
 * Eight bytes of length, a JSON object (name -> type, shape, byte range), the
 * data. Hostile until checked: the length against the file, every range against
 * the data, every shape against its range, names against each other, ranges
 * against overlap.
 */
#ifndef CORDEE_MODEL_SAFETENSORS_H
#define CORDEE_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/catalog.h"

struct safetensors;

MUST_CHECK err safetensors_open(const char *path, struct safetensors **out, struct why *why);
/* From memory that outlives the result; label stands for the path in reasons. */
MUST_CHECK err safetensors_open_memory(const void *data, size_t size, const char *label, struct safetensors **out,
                                       struct why *why);
void safetensors_close(struct safetensors *s); /* NULL is fine */

/* In name order; types without a format of ours have fmt FMT_COUNT and row_bytes 0. */
const struct catalog *safetensors_tensors(const struct safetensors *s);
uint64_t safetensors_file_bytes(const struct safetensors *s);
/* Length field and JSON: what identifies the file without its weights. */
const void *safetensors_head(const struct safetensors *s, size_t *bytes);

#endif
