/* keys.c - see keys.h. */
#include "api/keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"

enum { KEY_BYTES = 256 }; /* fixed size, so that comparing never depends on lengths */

struct keys {
    int n;
    char (*key)[KEY_BYTES]; /* [n], zero-padded */
};

static err keys_add(struct keys *k, const char *s, size_t len, const char *from, struct why *why)
{
    if (len == 0 || len >= KEY_BYTES || memchr(s, ' ', len) || memchr(s, '\t', len))
        return why_set(why, ERR_INVAL, "%s: an API key must be 1 to %d bytes without spaces", from,
                       KEY_BYTES - 1);
    void *grown = calloc((size_t)k->n + 1, KEY_BYTES);
    if (!grown)
        return why_set(why, ERR_NOMEM, "no memory for API keys");
    if (k->n)
        memcpy(grown, k->key, (size_t)k->n * KEY_BYTES);
    if (k->key)
        explicit_bzero(k->key, (size_t)k->n * KEY_BYTES);
    free(k->key);
    k->key = grown;
    memcpy(k->key[k->n++], s, len);
    return ERR_OK;
}

static err keys_read(struct keys *k, const char *path, struct why *why)
{
    err e = ERR_OK;
    char *line = NULL;
    size_t cap = 0;
    ssize_t got;
    int before = k->n;
    FILE *f = fopen(path, "re");
    if (!f)
        return why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    while ((got = getline(&line, &cap, f)) >= 0) {
        size_t len = (size_t)got;
        while (len && strchr("\r\n \t", line[len - 1]))
            len--;
        if (len == 0 || line[0] == '#')
            continue;
        TRY(keys_add(k, line, len, path, why));
    }
    if (ferror(f))
        FAIL(ERR_IO, "%s: cannot be read", path);
    if (k->n == before)
        FAIL(ERR_INVAL, "%s: no API key in it", path);
out:
    if (line)
        explicit_bzero(line, cap);
    free(line);
    fclose(f);
    return e;
}

err keys_open(const char *value, const char *path, struct keys **out, struct why *why)
{
    err e;
    struct keys *k = NULL;
    if (!value && !path) {
        *out = NULL;
        return ERR_OK;
    }
    k = calloc(1, sizeof *k);
    if (!k)
        FAIL(ERR_NOMEM, "no memory for API keys");
    if (value)
        TRY(keys_add(k, value, strlen(value), "API key", why));
    if (path)
        TRY(keys_read(k, path, why));
    *out = k;
    k = NULL;
    e = ERR_OK;
out:
    keys_close(k);
    return e;
}

void keys_close(struct keys *k)
{
    if (!k)
        return;
    if (k->key)
        explicit_bzero(k->key, (size_t)k->n * KEY_BYTES);
    free(k->key);
    free(k);
}

/* Both sides zero-padded to KEY_BYTES; looks at every byte of every key. */
int keys_check(const struct keys *k, const char *authorization)
{
    char given[KEY_BYTES] = { 0 };
    int found = -1;
    if (!k)
        return 0;
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return -1;
    authorization += 7;
    authorization += strspn(authorization, " ");
    size_t len = strlen(authorization);
    if (len == 0 || len >= KEY_BYTES)
        return -1;
    memcpy(given, authorization, len);
    for (int i = 0; i < k->n; i++) {
        volatile unsigned char differ = 0;
        for (int j = 0; j < KEY_BYTES; j++)
            differ |= (unsigned char)(given[j] ^ k->key[i][j]);
        if (!differ)
            found = i;
    }
    explicit_bzero(given, sizeof given);
    return found;
}
