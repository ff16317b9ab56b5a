/* openai_chat.h - the shapes of POST /v1/chat/completions and /apply-template.
 *
 * A chat is a completion whose prompt is still a list of messages: everything about
 * drawing and answering is in `completion`, whose prompts the layer above fills in
 * from the model's template. Pure, like openai.h.
 */
#ifndef CORDEE_API_OPENAI_CHAT_H
#define CORDEE_API_OPENAI_CHAT_H

#include <jansson.h>

#include "api/openai.h"

struct openai_chat {
    struct openai_completion completion; /* .chat is set, n_prompts is 0 */
    /* What the template gets as variables: `messages`, and what was given of `tools`,
     * `documents`, `add_generation_prompt`, chat_template_kwargs. Messages are tidied: a
     * content of text parts is one string (parts joined by a line end), a missing one is
     * "", nulls are absent, arguments of tool calls are objects. Owned. */
    json_t *variables;
    bool continue_final; /* the prompt ends inside the last message */
};

/* Defaults: max_tokens -1 (up to the context), add_generation_prompt true.
 *
 * ERR_FORMAT       not JSON (line and column) or not an object
 * ERR_INVAL        a field of the wrong type or out of range; fault->param names it
 * ERR_UNSUPPORTED  parts that are not text, response_format other than text, forced tools */
MUST_CHECK err openai_chat_parse(const char *body, size_t len, struct openai_chat *out, struct fault *fault);
void openai_chat_fini(struct openai_chat *r);

/* One entry of "logprobs": {"content": [...]}; lp->tokens holds the list. */
void openai_chat_logprobs_add(struct openai_logprobs *lp, const struct openai_token *t);

/* A whole answer, {"choices": [{"message": ...}]}, ... */
void openai_put_chat(struct buf *out, const struct openai_head *head, const struct openai_choice *choices,
                     int n_choices, const struct openai_usage *usage);
/* ... and a stream's chunk, {"choices": [{"delta": ...}]}; usage may be NULL. */
void openai_put_chat_chunk(struct buf *out, const struct openai_head *head, const struct openai_choice *choices,
                           int n_choices, const struct openai_usage *usage);

/* {"prompt": text} */
void openai_put_template(struct buf *out, struct openai_text prompt);

#endif
