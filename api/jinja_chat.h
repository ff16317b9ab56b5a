/* jinja_chat.h - a chat request through a template: the variables that transformers
 * gives, under the names it gives them. */
#ifndef CORDEE_API_JINJA_CHAT_H
#define CORDEE_API_JINJA_CHAT_H

#include "api/jinja.h"

/* Renders a conversation.
 *
 * request  object: `messages` (list of objects), and optionally `tools`, `documents`,
 *          `add_generation_prompt`; further keys are variables. All of its strings are
 *          marked as the user's.
 * model    object of variables that the server vouches for (bos_token, eos_token), or
 *          NULL; it wins over the request and is not marked
 *
 * As in transformers: tools and documents are None when absent, and a message's
 * reasoning is there under both `reasoning_content` and `thinking`.
 *
 * Errors: those of jinja_render(); ERR_INVAL also when `messages` is no list of objects.
 */
MUST_CHECK err jinja_render_chat(const struct jinja *t, const json_t *request, const json_t *model,
                                 const struct jinja_options *options, struct jinja_text *out, int *line,
                                 struct why *why);

#endif
