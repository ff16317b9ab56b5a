/* openai_sampling.h - the fields that completions and chats have in common: how many
 * tokens, how they are drawn, where the text ends, how it is answered.
 *
 * Inside api/ only; openai.h and openai_chat.h are the doors.
 */
#ifndef CORDEE_API_OPENAI_SAMPLING_H
#define CORDEE_API_OPENAI_SAMPLING_H

#include <jansson.h>

#include "api/openai.h"

/* Reads them into *r, whose defaults and arena the caller has set.
 * ERR_INVAL, ERR_LIMIT: fault->param names the field; ERR_NOMEM */
MUST_CHECK err openai_sampling_read(const json_t *root, struct openai_completion *r, struct fault *fault);
/* ERR_INVAL: min_tokens can never be reached. For when max_tokens is final. */
MUST_CHECK err openai_min_tokens_check(const struct openai_completion *r, struct fault *fault);

/* `prompt` of completions, `input` of embeddings: a string, a list of them, a list of
 * ids, a list of such lists. *out [*n], n >= 1, lives in the arena.
 * ERR_INVAL, ERR_LIMIT: fault->param is `name`, which must outlive the fault; ERR_NOMEM */
MUST_CHECK err openai_prompts_read(const json_t *root, const char *name, struct arena *arena,
                                   struct openai_prompt **out, int *n, struct fault *fault);

#endif
