/* openai_put.h - pieces of answers that the writers in api/ share. */
#ifndef CORDEE_API_OPENAI_PUT_H
#define CORDEE_API_OPENAI_PUT_H

#include "api/openai.h"

/* name is the JSON before the colon (comma, quotes); s NULL: null. */
void openai_put_string(struct buf *out, const char *name, const char *s);
void openai_put_ids(struct buf *out, const char *name, const int32_t *ids, int n);
/* {"id" ... "choices":[ */
void openai_put_head(struct buf *out, const struct openai_head *head);
/* ,"finish_reason", ,"stop_reason" and, where there are some, the ids. */
void openai_put_ending(struct buf *out, const struct openai_choice *c);
/* ,"usage": ...; nothing for NULL. */
void openai_put_usage(struct buf *out, const struct openai_usage *usage);

#endif
