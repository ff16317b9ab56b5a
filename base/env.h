/* env.h - the environment. Outside cli/ nothing else may look at it, so that what
 * a process depends on can be found by searching for env_get. */
#ifndef CORDEE_BASE_ENV_H
#define CORDEE_BASE_ENV_H

/* The value, or NULL when unset. Owned by the environment. */
const char *env_get(const char *name);
/* As a number; `otherwise` when unset or no number. */
long env_get_long(const char *name, long otherwise);

#endif
