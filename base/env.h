/* env.h - the environment. Outside cli/ nothing else may look at it, so that what
 * a process depends on can be found by searching for env_get. */
#ifndef CORDEE_BASE_ENV_H
#define CORDEE_BASE_ENV_H

/* The value, or NULL when unset. Owned by the environment. */
const char *env_get(const char *name);
/* Sets a variable that is not set; for libraries that are configured this way only.
 * Before the process has threads. */
void env_default(const char *name, const char *value);
/* As a number; `otherwise` when unset or no number. */
long env_get_long(const char *name, long otherwise);

#endif
