/* embedding.h - one /v1/embeddings request, from its parsed body to its answer.
 *
 * Every input is a request of the front; the vectors that come back are scaled to
 * length 1. As with completions, whoever asks gives an outlet, of which only reply
 * is used.
 *
 * Threads: the front's owner thread; the outlet is called from its loop, never from
 *          inside embedding_start().
 * Memory:  an embedding frees itself after its reply.
 */
#ifndef CORDEE_COORDINATOR_EMBEDDING_H
#define CORDEE_COORDINATOR_EMBEDDING_H

#include "api/openai_embed.h"
#include "coordinator/front/completion.h"

struct embedding;

/* Takes the request over (*req is empty afterwards), also when it fails. o->id is not
 * used.
 * ERR_INVAL  dimensions that the model does not have
 * ERR_UNSUPPORTED  the model is no encoder
 * ERR_NOTFOUND  another model; ERR_NOMEM */
MUST_CHECK err embedding_start(struct openai_embed *req, const struct completion_options *o, struct embedding **out,
                               struct fault *fault);
/* Gives it up; the outlet is not called any more. */
void embedding_cancel(struct embedding *x);

#endif
