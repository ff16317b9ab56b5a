/* facts.h - typed look-ups over GGUF metadata or a config.json, with one error.
 *
 * Reading hyper-parameters is a long list of look-ups of which any may fail. So a
 * failure is sticky: the first one is remembered, later calls return defaults,
 * and facts_err() is asked once at the end. Whoever reads must not loop or
 * allocate by a value before asking.
 *
 * Keys: in GGUF "attention.head_count" is looked up behind the architecture's
 * name ("llama.attention.head_count") unless it starts with a dot, which stands
 * for the root (".general.name"); in config.json dots descend into objects
 * ("rope_scaling.factor"). JSON null counts as absent.
 */
#ifndef CORDEE_MODEL_FACTS_H
#define CORDEE_MODEL_FACTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct gguf;
struct json_t;

struct facts {
    const struct gguf *gguf;    /* borrowed; one of the two is set */
    const struct json_t *json;  /* borrowed */
    const char *path;           /* of the file, for reasons; borrowed */
    const char *prefix;         /* GGUF: the architecture's name; borrowed */
    char text[128];             /* the last text read from a GGUF */
    err e;                      /* the first failure */
    struct why why;
};

void facts_init_gguf(struct facts *f, const struct gguf *g, const char *prefix);
void facts_init_json(struct facts *f, const struct json_t *root, const char *path);

bool fact_has(const struct facts *f, const char *key);

/* Required: absent or of another kind is ERR_FORMAT naming the key; 0 then. */
int fact_int(struct facts *f, const char *key);
double fact_real(struct facts *f, const char *key);
const char *fact_text(struct facts *f, const char *key); /* "" on failure; see fact_text_or */

/* Optional: absent gives `otherwise`; of another kind is ERR_FORMAT. */
int fact_int_or(struct facts *f, const char *key, int otherwise);
double fact_real_or(struct facts *f, const char *key, double otherwise);
bool fact_bool_or(struct facts *f, const char *key, bool otherwise);
/* NUL-terminated; lives until the next fact_text of these facts (GGUF; cut to 127
 * bytes) or as long as the JSON. */
const char *fact_text_or(struct facts *f, const char *key, const char *otherwise);

/* The text is there and equal to `word`. */
bool fact_is(struct facts *f, const char *key, const char *word);

/* Arrays of numbers. A scalar counts as an array of one. Returns the number of
 * elements and writes at most max; 0: absent. */
size_t fact_reals(struct facts *f, const char *key, double *out, size_t max);
/* Element i of an array of strings in a config.json; NULL: absent. */
const char *fact_text_at(struct facts *f, const char *key, size_t i);

/* Remembers a failure found by the caller ("%s: " with the file's path is put in front). */
void fact_fail(struct facts *f, err e, const char *fmt, ...) PRINTF_LIKE(3, 4);
MUST_CHECK err facts_err(const struct facts *f, struct why *why);

#endif
