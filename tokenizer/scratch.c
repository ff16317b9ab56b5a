/* scratch.c - working memory of calls, kept between them.
 *
 * A tokenizer is immutable to its users; this list is the only thing that
 * changes, under its own lock, held for a few instructions. Scratches that one
 * huge text has blown up are not kept.
 */
#include <stdlib.h>

#include "tokenizer/pipeline.h"

enum { KEEP_BYTES = 4 << 20, KEEP_SCRATCHES = 16 };

err scratch_begin(const struct tokenizer *t, struct scratch **out, struct why *why)
{
    struct tokenizer *own = (struct tokenizer *)t; /* only the idle list */
    pthread_mutex_lock(&own->lock);
    struct scratch *s = own->idle;
    if (s)
        own->idle = s->next;
    pthread_mutex_unlock(&own->lock);
    if (!s) {
        s = calloc(1, sizeof *s);
        if (s && !(s->cache = word_cache_new())) {
            free(s);
            s = NULL;
        }
        if (!s)
            return why_set(why, ERR_NOMEM, "tokenizer: working memory");
    }
    *out = s;
    return ERR_OK;
}

void scratch_free(struct scratch *s)
{
    norm_scratch_fini(&s->norm);
    pre_scratch_fini(&s->pre);
    bpe_scratch_fini(&s->bpe);
    unigram_scratch_fini(&s->unigram);
    buf_fini(&s->joined);
    buf_fini(&s->runs);
    free(s->cache);
    free(s);
}

static size_t bytes_of(const struct scratch *s)
{
    return s->norm.text[0].cap + s->norm.text[1].cap + s->pre.text[0].cap + s->pre.text[1].cap + s->joined.cap +
           s->runs.cap + (s->pre.spans[0].cap + s->pre.spans[1].cap + s->pre.found.cap) * sizeof(struct pre_span) +
           (s->bpe.cap_symbols + s->unigram.cap) * 28 + merge_queue_bytes(&s->bpe.queue);
}

void scratch_end(const struct tokenizer *t, struct scratch *s)
{
    struct tokenizer *own = (struct tokenizer *)t;
    size_t idle = 0;
    bool keep = bytes_of(s) <= KEEP_BYTES;
    pthread_mutex_lock(&own->lock);
    for (const struct scratch *i = own->idle; i; i = i->next)
        idle++;
    keep = keep && idle < KEEP_SCRATCHES;
    if (keep) {
        s->next = own->idle;
        own->idle = s;
    }
    pthread_mutex_unlock(&own->lock);
    if (!keep)
        scratch_free(s);
}
