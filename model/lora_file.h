/* lora_file.h - a LoRA adapter as its files hold it, bound to the model it changes.
 *
 * An adapter adds scale * B (A x) to the product of some matrices with x. Two
 * formats exist: the directory that PEFT writes (names and row order of Hugging
 * Face) and a GGUF file (those of GGUF). Either fits either form of the model:
 * names go through the family's tensor table, and rows of B are read in the order
 * in which the model's own matrix lies.
 *
 * Opening checks everything against the model (names, shapes, ranks, scales) and
 * reads no weights, so `serve` refuses a bad adapter before any rank starts. What
 * would change the model in a way that is not computed here (DoRA, saved modules,
 * biases, embeddings, experts ...) is refused with the reason: leaving it out
 * would silently give other numbers.
 *
 * Threads: immutable once opened.
 */
#ifndef CORDEE_MODEL_LORA_FILE_H
#define CORDEE_MODEL_LORA_FILE_H

#include <stdint.h>

#include "base/err.h"
#include "model/catalog.h"
#include "model/desc.h"

struct source;
struct lora_file;

enum { LORA_MAX_RANK = 1024 };

/* One changed matrix. */
struct lora_part {
    enum weight_role role;
    int layer;
    int in, out, rank; /* A [rank][in], B [out][rank] */
    float scale;
    const struct file_tensor *a, *b; /* views into the mapping */
};

/* path: a directory with adapter_config.json, or a GGUF file. src: the model;
 * must outlive the result. ERR_NOTFOUND, ERR_FORMAT, ERR_SHAPE, ERR_UNSUPPORTED. */
MUST_CHECK err lora_file_open(const char *path, const struct source *src, struct lora_file **out,
                              struct why *why);
/* The same with a reader that was opened before, and is taken over, also on failure. */
struct lora_reader;
MUST_CHECK err lora_file_bind(const struct lora_reader *reader, const char *label, const struct source *src,
                              struct lora_file **out, struct why *why);
void lora_file_close(struct lora_file *f); /* NULL is fine */

/* The part that changes a role of a layer; NULL: none. O(log n). */
const struct lora_part *lora_file_part(const struct lora_file *f, enum weight_role role, int layer);
int lora_file_max_rank(const struct lora_file *f);
/* Over names, shapes, scales and the weights themselves' sizes; not the path. */
uint64_t lora_file_hash(const struct lora_file *f);

/* Rows of A as they are; rows of B in the order of the model's role. */
void lora_part_a_row(const struct lora_part *p, int row, float *dst);
void lora_part_b_row(const struct lora_file *f, const struct lora_part *p, int row, float *dst);

#endif
