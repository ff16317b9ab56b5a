/* served.h - the names under which a model is served: its own, and "name:adapter".
 *
 * Clients choose an adapter by the model's name, so that programs which know only
 * OpenAI's fields can use one.
 */
#ifndef CORDEE_COORDINATOR_SERVED_H
#define CORDEE_COORDINATOR_SERVED_H

#include "coordinator/backend.h"

enum { SERVED_NAME_BYTES = 2 * FACTS_NAME_BYTES }; /* of "name:adapter" */

/* What a request's model name means. model NULL or empty, or a backend that does not
 * know its name yet: the model as it is.
 *
 * adapter  NULL, or a name that belongs to the facts
 *
 * ERR_NOTFOUND  the reason says what is served */
MUST_CHECK err served_find(const struct model_facts *f, const char *model, size_t len, const char **adapter,
                           struct why *why);

/* The number of an adapter for the stages: 0 for NULL or empty, else 1 + its index.
 * ERR_NOTFOUND. */
MUST_CHECK err served_number(const struct model_facts *f, const char *adapter, uint32_t *number,
                             struct why *why);

/* "name:adapter", or the name alone (NULL); cut to fit. */
void served_name(const struct model_facts *f, const char *adapter, char *out, size_t size);

#endif
