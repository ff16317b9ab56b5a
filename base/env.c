/* env.c - see env.h. */
#include "base/env.h"

#include <stdlib.h>

const char *env_get(const char *name)
{
    return getenv(name);
}

long env_get_long(const char *name, long otherwise)
{
    const char *text = env_get(name);
    if (!text || !*text)
        return otherwise;
    char *end;
    long value = strtol(text, &end, 10);
    return *end ? otherwise : value;
}

void env_default(const char *name, const char *value)
{
    setenv(name, value, 0); /* out of memory: the library keeps its own default */
}
