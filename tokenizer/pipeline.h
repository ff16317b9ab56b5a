/* pipeline.h - what a tokenizer is inside, whichever format it came from:
 *
 *   added tokens (raw) -> normaliser -> added tokens (normalised)
 *     -> pre-tokenizer -> model -> template of special tokens
 *
 * and a list of decoder steps for the way back. tables.c, json_open.c and
 * spm_open.c fill it; encode.c and decode.c run it and know no format.
 */
#ifndef CORDEE_TOKENIZER_PIPELINE_H
#define CORDEE_TOKENIZER_PIPELINE_H

#include <pthread.h>

#include "tokenizer/added.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalize.h"
#include "tokenizer/pretok.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unigram.h"
#include "tokenizer/vocab.h"
#include "tokenizer/wordpiece.h"

enum { TEMPLATE_MAX_IDS = 16 };

struct scratch;
struct tokenizer {
    enum tok_model model;
    struct vocab vocab;
    struct added_set raw, normalized;
    struct norm_list norm;
    struct pre_list pre;
    struct bpe bpe; /* one of the three is filled, by `model` */
    struct unigram unigram;
    struct wordpiece wordpiece;
    int32_t before[TEMPLATE_MAX_IDS], after[TEMPLATE_MAX_IDS]; /* what ENCODE_ADD_SPECIAL adds */
    size_t n_before, n_after;
    struct dec_list dec;
    bool raw_added_bytes; /* added tokens print as they are, outside the alphabet */
    int32_t bos, eos;
    int32_t *eog;
    size_t n_eog;
    bool normalized_special; /* some control token is in `normalized` */

    pthread_mutex_t lock; /* of the list of idle scratches only */
    struct scratch *idle;
};

/* Empty, with the lock ready and no ids. NULL: no memory. */
struct tokenizer *pipeline_new(void);

/* Of a WordPiece vocabulary. GGUF has no flag for it: one without ASCII capitals is uncased. */
bool tables_uncased(const struct tok_tables *t);

/* Last step of every reader: end-of-generation ids. */
MUST_CHECK err pipeline_finish(struct tokenizer *t, struct why *why);

/* Puts an added token of the vocabulary into the right set. */
MUST_CHECK err pipeline_add_token(struct tokenizer *t, struct added_token token, bool normalized, struct why *why);

/* Appends an id to before[] or after[]. */
MUST_CHECK err pipeline_add_before(struct tokenizer *t, int32_t id, struct why *why);
MUST_CHECK err pipeline_add_after(struct tokenizer *t, int32_t id, struct why *why);

/* Memory that one call works in; taken from the idle list or made. */
struct word_cache;
struct scratch {
    struct scratch *next;
    struct norm_scratch norm;
    struct pre_scratch pre;
    struct bpe_scratch bpe;
    struct unigram_scratch unigram;
    struct word_cache *cache;
    struct buf joined, runs;
};
MUST_CHECK err scratch_begin(const struct tokenizer *t, struct scratch **out, struct why *why);
void scratch_end(const struct tokenizer *t, struct scratch *s);
void scratch_free(struct scratch *s);

/* word_cache.h's job in three calls: ids of short words seen before. */
struct word_cache *word_cache_new(void);
/* Appends and returns 1 if the word is there, else 0; -1: no memory. */
int word_cache_get(const struct word_cache *c, const char *word, size_t len, uint64_t hash, struct tok_ids *ids);
void word_cache_put(struct word_cache *c, const char *word, size_t len, uint64_t hash, const int32_t *id, size_t n);

#endif
