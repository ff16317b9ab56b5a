/* front_prompt.h - the checks that stand between a request and the backend.
 *
 * Requests come from outside: whatever the pipeline relies on (ids in the vocabulary,
 * finite numbers in range, room in the context) is checked here, once, for every door.
 * Pure functions. n_vocab, context: 0 when not known yet; what cannot be checked is
 * then the backend's to refuse.
 */
#ifndef CORDEE_COORDINATOR_FRONT_PROMPT_H
#define CORDEE_COORDINATOR_FRONT_PROMPT_H

#include "coordinator/front/front.h"

/* ERR_INVAL: numbers of the sampler, token ids of biases, stops and resumed tokens. */
MUST_CHECK err front_sampling_check(const struct front_request *req, int n_vocab, struct why *why);

/* Prompt ids into *ids (caller: tok_ids_fini, also after a failure): those given, or
 * the text's.
 * ERR_INVAL: empty, not UTF-8, an id out of range; ERR_UNSUPPORTED: text, tok is NULL */
MUST_CHECK err front_prompt_make(const struct front_request *req, const struct tokenizer *tok, int n_vocab,
                                 struct tok_ids *ids, struct why *why);

/* How many tokens may be generated behind n_prompt: what was asked, at most what the
 * context leaves. ERR_LIMIT (with both numbers): not even one. */
MUST_CHECK err front_room(const struct front_request *req, size_t n_prompt, int context, int *max_tokens,
                          struct why *why);

#endif
