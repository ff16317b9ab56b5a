/* read_whole.h - a file's bytes in one block. */
#ifndef CORDEE_TESTS_READ_WHOLE_H
#define CORDEE_TESTS_READ_WHOLE_H

#include <stdio.h>
#include <stdlib.h>

/* NUL-terminated behind len; the caller frees. NULL: not readable. */
static char *read_whole(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*len + 1);
    size_t got = data ? fread(data, 1, *len, f) : 0;
    fclose(f);
    if (!data || got != *len) {
        free(data);
        return NULL;
    }
    data[*len] = '\0';
    return data;
}

#endif
