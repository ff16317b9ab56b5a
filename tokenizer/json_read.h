/* json_read.h - reading a hostile JSON tree with reasons.
 *
 * Each getter says which key is wrong. An absent key or null gives the default
 * where one is passed.
 */
#ifndef CORDEE_TOKENIZER_JSON_READ_H
#define CORDEE_TOKENIZER_JSON_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "tokenizer/pipeline.h"

enum { JSON_MAX_NEST = 8 }; /* Sequences in Sequences */

/* Member of an object; NULL if absent, null, or o is no object. */
json_t *json_get(const json_t *o, const char *key);

MUST_CHECK err json_get_bool(const json_t *o, const char *key, bool fallback, bool *out, struct why *why);

/* Borrowed string (may contain NUL); *s is NULL if absent. */
MUST_CHECK err json_get_string(const json_t *o, const char *key, const char **s, size_t *len, struct why *why);

/* ids 0..VOCAB_MAX_IDS; absent: fallback. */
MUST_CHECK err json_get_id(const json_t *o, const char *key, int32_t fallback, int32_t *out, struct why *why);

/* The "type" of a step or model, or "". */
const char *json_kind(const json_t *o);
/* Calls `read` with a section's step and its type, or with each step of a
 * Sequence and of those in it, in order. members: what a Sequence calls its list. Stops at
 * the first failure; ERR_UNSUPPORTED: nested deeper than JSON_MAX_NEST. */
typedef err json_step_fn(const json_t *step, const char *type, void *ctx, struct why *why);
MUST_CHECK err json_each_step(const json_t *o, const char *members, json_step_fn *read, void *ctx,
                              struct why *why);

/* A copy that the caller frees; NULL s gives an empty string. */
char *json_strndup(const char *s, size_t len);
/* The same of a string member; absent: of `fallback`. */
MUST_CHECK err json_copy_string(const json_t *o, const char *key, const char *fallback, char **text, size_t *len,
                                struct why *why);

/* {"String": ..} or {"Regex": ..} or a bare string: one of *text (owned copy)
 * and *regex is set. */
MUST_CHECK err json_get_pattern(const json_t *o, char **text, size_t *len, struct regex **regex, struct why *why);

/* Each reads one section of tokenizer.json (NULL: absent) into the pipeline. */
MUST_CHECK err json_normalizer(const json_t *o, struct norm_list *l, struct why *why);
MUST_CHECK err json_pretokenizer(const json_t *o, struct pre_list *l, struct why *why);
MUST_CHECK err json_decoder(const json_t *o, struct dec_list *l, struct why *why);
MUST_CHECK err json_postprocessor(const json_t *o, struct tokenizer *t, struct why *why);

/* The vocabulary with the added tokens in it, then the model over it. */
MUST_CHECK err json_vocab(const json_t *model, const json_t *added, struct tokenizer *t, struct why *why);
MUST_CHECK err json_model(const json_t *model, struct tokenizer *t, struct why *why);
MUST_CHECK err json_added_tokens(const json_t *added, struct tokenizer *t, struct why *why);

/* The two halves of json_vocab() that concern a list of added tokens: raises *n
 * to hold their ids and counts them; puts them into the vocabulary. */
MUST_CHECK err json_added_count(const json_t *added, size_t *n, size_t *given, struct why *why);
MUST_CHECK err json_added_put(const json_t *added, struct tokenizer *t, struct why *why);

/* tokenizer_config.json: bos, eos and, for the families whose tokenizer class
 * decides it, whether they are added. o may be NULL. */
MUST_CHECK err json_config(const json_t *o, struct tokenizer *t, struct why *why);

/* Parses bytes; ERR_FORMAT with line and reason. */
MUST_CHECK err json_parse(const char *what, const char *s, size_t len, json_t **out, struct why *why);

#endif
