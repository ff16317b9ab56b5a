/* source.h - where a model's weights and facts come from, whatever the file format.
 *
 * A source is an opened model path: a GGUF file (or the first of a split one), a
 * Hugging Face directory, a shard directory. It yields hyper-parameters,
 * tokenizer, chat template and tensors by the *role* names of the family
 * descriptor; nothing above knows which format it was. Tensor bytes are views
 * into mappings (or, for formats that must be repacked, produced row by row).
 *
 * Threads: immutable after source_open(); tensor reads from any thread.
 */
#ifndef CORDEE_MODEL_SOURCE_H
#define CORDEE_MODEL_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "kernels/format.h"
#include "model/desc.h"
#include "model/hparams.h"
#include "tokenizer/tokenizer.h"

struct source;

/* One tensor as the file holds it. dims slowest first here: [rows][cols] for a
 * matrix, [n_expert][rows][cols] for stacked experts, [cols] for a vector
 * (n_dims 1). data views the mapping and lives as long as the source. */
struct tensor_view {
    const char *name;
    const char *type_name; /* as the file calls it */
    enum fmt fmt;          /* FMT_COUNT: a type that cannot be computed with */
    int n_dims;
    int64_t dims[4];
    size_t row_bytes; /* of the last dimension */
    const void *data;
    uint64_t bytes;
    void *owned; /* NULL, or the copy that `data` points to: see tensor_view_fini() */
};

/* Tensors that the file holds in another order than the role wants (transposed,
 * interleaved, one expert each, FP8 ...) are brought into order in a copy that
 * belongs to the view. Call it when the bytes were packed; NULL fields are fine. */
void tensor_view_fini(struct tensor_view *v);

/* path: see design.md. ERR_FORMAT / ERR_UNSUPPORTED / ERR_IO name file, place, reason. */
MUST_CHECK err source_open(const char *path, struct source **out, struct why *why);
/* The same, but a model that is well-formed and cannot be run (unknown family,
 * missing tensor, a GGUF or directory with only a tokenizer) opens too:
 * source_runnable() then says why. For `cordee inspect` and `cordee tokenize`.
 * Only name, hash, tokenizer, template, tensors by name or index, and
 * source_describe() may be asked of a source that is not runnable. */
MUST_CHECK err source_open_any(const char *path, struct source **out, struct why *why);
/* ERR_OK, or what source_open() would have said. */
MUST_CHECK err source_runnable(const struct source *s, struct why *why);
void source_close(struct source *s); /* NULL is fine */

const struct arch_desc *source_arch(const struct source *s);
const struct hparams *source_hparams(const struct source *s);
const char *source_name(const struct source *s); /* general.name, or the file's base name */
/* 16 hex digits over metadata, tensor table and file sizes: cheap, and equal on
 * every node that holds the same files. */
const char *source_hash(const struct source *s);
/* NULL if the model carries none. */
const char *source_chat_template(const struct source *s);

/* Builds the model's tokenizer, its end tokens those of the vocabulary and of the
 * model's other files (source_end_tokens); close with tokenizer_close(). */
MUST_CHECK err source_tokenizer(const struct source *s, struct tokenizer **out, struct why *why);
/* The tokenizer of a path that need not hold a model that can run: a GGUF of any
 * family or without tensors, a directory with only tokenizer files. */
MUST_CHECK err source_open_tokenizer(const char *path, struct tokenizer **out, struct why *why);

/* [n] tokens that end a text by the files' own word (generation_config.json's list,
 * GGUF's eos, eot and eom ids), beside those that tokenizer_eog() knows by name. */
size_t source_end_tokens(const struct source *s, const int32_t **ids);

/* The tensor that plays `role` in `layer` (layer ignored for roles of the whole
 * model). ERR_NOTFOUND without a reason set if the model has none. Shapes were
 * checked against the descriptor when the source was opened. Release with
 * tensor_view_fini(). */
MUST_CHECK err source_tensor(const struct source *s, enum weight_role role, int layer,
                             struct tensor_view *out, struct why *why);
/* Its format and shape without its bytes (data NULL), at no cost. */
MUST_CHECK err source_tensor_shape(const struct source *s, enum weight_role role, int layer,
                                   struct tensor_view *out, struct why *why);

/* Any tensor by its name in the file (cordee inspect --dump), decoded to rows of fmt if it
 * is stored otherwise. ERR_UNSUPPORTED: a type without values. Release with tensor_view_fini(). */
MUST_CHECK err source_tensor_named(const struct source *s, const char *name, struct tensor_view *out,
                                   struct why *why);
int source_n_tensors(const struct source *s);
/* Shape and stored bytes; fmt is FMT_COUNT unless the bytes are its rows. */
void source_tensor_at(const struct source *s, int i, struct tensor_view *out);

/* Weights of the model: elements of all tensors. */
uint64_t source_parameters(const struct source *s);
uint64_t source_file_bytes(const struct source *s);

/* Packed bytes of one layer's weights / of embedding / of final norm + head, from
 * shapes and types alone (no weights read): the planner's input. */
uint64_t source_layer_bytes(const struct source *s, int layer);
uint64_t source_embed_bytes(const struct source *s);
uint64_t source_head_bytes(const struct source *s);

/* ---- shards ---- */

struct shards;
struct shard_stage;
/* The directory of shards that the source is, whose weights lie packed in its files;
 * NULL: it is none, and source_tensor() has all weights. */
const struct shards *source_shards(const struct source *s);
/* Writes to a directory what a source takes besides weights: metadata and tokenizer, ... */
MUST_CHECK err source_save_facts(const struct source *s, const char *dir, struct why *why);
/* ... and, when all else is there, its shards.json (shards.h). ERR_INVAL: the source is shards itself. */
MUST_CHECK err source_save_index(const struct source *s, const char *dir, const char *sample,
                                 struct shard_stage *stages, int n_stages, struct why *why);
/* 16 hex digits over source_hash() and a sample of each tensor's bytes (three pages), so that shards
 * of a model and of the same one trained further are not taken for each other. Not for shards. */
void source_sample(const struct source *s, char sample[17]);

/* ---- adapters ---- */

enum { SOURCE_MAX_ADAPTERS = 32 };
struct lora_file;
/* Adds a LoRA adapter (lora_file.h), checked against the model as a whole. Before any
 * other thread uses the source; the name is copied. ERR_INVAL: the name is taken, or
 * has other characters than letters, digits and . _ - */
MUST_CHECK err source_add_adapter(struct source *s, const char *name, const char *path, struct why *why);
int source_n_adapters(const struct source *s);
const struct lora_file *source_adapter(const struct source *s, int i);
const char *source_adapter_name(const struct source *s, int i);
/* source_hash() mixed with the adapters' weights and their order: what all ranks of a
 * cluster must agree on. */
const char *source_load_hash(const struct source *s);

/* One line a fact, for `cordee inspect`; json: one object. */
void source_describe(const struct source *s, bool json, struct buf *out);

#endif
