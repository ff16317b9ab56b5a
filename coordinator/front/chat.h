/* chat.h - messages become a prompt: the model's template, then its tokenizer.
 *
 * What the template wrote may hold control tokens; what came with the request is text,
 * whatever it looks like: a user who writes <|im_end|> does not end a turn. Nothing is
 * added around the template's text (as in transformers): BOS is its to write.
 *
 * Threads: immutable after opening.
 * Memory:  a rendering has jinja.h's limits.
 */
#ifndef CORDEE_COORDINATOR_CHAT_H
#define CORDEE_COORDINATOR_CHAT_H

#include "api/jinja.h"
#include "api/openai_chat.h"
#include "tokenizer/tokenizer.h"

struct chat;

/* source  the model's template, NULL if it has none
 * tok     borrowed
 *
 * A template that cannot be used is no failure here: every chat is then refused with
 * the reason. ERR_NOMEM only. */
MUST_CHECK err chat_open(const char *source, const struct tokenizer *tok, struct chat **out, struct why *why);
void chat_close(struct chat *c); /* NULL is fine */

/* Whether chats are taken at all: ERR_UNSUPPORTED with the reason, or ERR_OK. */
MUST_CHECK err chat_check(const struct chat *c, struct why *why);

/* The text of a conversation; release with jinja_text_fini().
 *
 * ERR_UNSUPPORTED  the model has no template, or one that is beyond jinja.h
 * ERR_INVAL        the template refuses these messages, with its own words */
MUST_CHECK err chat_render(const struct chat *c, const struct openai_chat *req, struct jinja_text *out,
                           struct fault *fault);

/* The same as the one prompt, of token ids, of req->completion. */
MUST_CHECK err chat_prompt(const struct chat *c, struct openai_chat *req, struct fault *fault);

#endif
