/* lines.c - see lines.h. */
#include "coordinator/batch/lines.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

struct line {
    uint64_t offset;
    uint32_t bytes, number;
};
struct id {
    uint64_t hash;
    int64_t i;
};

struct lines {
    FILE *f;
    char *path, *id_key;
    struct line *line; /* [n] */
    int64_t n, cap;
    char sha256[65];
};

int64_t lines_count(const struct lines *l)
{
    return l->n;
}

const char *lines_sha256(const struct lines *l)
{
    return l->sha256;
}

int64_t lines_number(const struct lines *l, int64_t i)
{
    return l->line[i].number;
}

err lines_get(struct lines *l, int64_t i, struct buf *out, struct why *why)
{
    const struct line *at = &l->line[i];
    char part[65536];
    buf_clear(out);
    if (fseeko(l->f, (off_t)at->offset, SEEK_SET) != 0)
        return why_set(why, ERR_IO, "%s: %s", l->path, strerror(errno));
    for (size_t left = at->bytes; left > 0;) {
        size_t want = left < sizeof part ? left : sizeof part, n = fread(part, 1, want, l->f);
        if (n == 0)
            return why_set(why, ERR_IO, "%s:%u: the file changed while it was read", l->path, at->number);
        buf_put(out, part, n);
        left -= n;
    }
    return out->failed ? why_set(why, ERR_NOMEM, "a line of %u bytes", at->bytes) : ERR_OK;
}

/* ---- the first pass ------------------------------------------------------------------- */

static bool blank(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!strchr(" \t\r\n", s[i]) || !s[i])
            return false;
    return true;
}

static err add_line(struct lines *l, uint64_t offset, size_t bytes, uint64_t number, struct why *why)
{
    if (bytes > LINES_MAX_BYTES || number > UINT32_MAX)
        return why_set(why, ERR_INVAL, "%s:%llu: a line of %zu bytes; at most %d are taken", l->path,
                       (unsigned long long)number, bytes, LINES_MAX_BYTES);
    if (l->n == l->cap) {
        int64_t cap = l->cap ? l->cap * 2 : 1024;
        struct line *more = realloc(l->line, (size_t)cap * sizeof *more);
        if (!more)
            return why_set(why, ERR_NOMEM, "%s: %lld lines", l->path, (long long)cap);
        l->line = more;
        l->cap = cap;
    }
    l->line[l->n++] = (struct line){ offset, (uint32_t)bytes, (uint32_t)number };
    return ERR_OK;
}

static err index_file(struct lines *l, struct why *why)
{
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    char *text = NULL;
    size_t cap = 0;
    uint64_t offset = 0;
    ssize_t len;
    err e = ERR_OK;
    if (!sha || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1)
        FAIL(ERR_NOMEM, "SHA-256");
    for (uint64_t number = 1; (len = getline(&text, &cap, l->f)) > 0; number++) {
        size_t n = (size_t)len;
        if (EVP_DigestUpdate(sha, text, n) != 1)
            FAIL(ERR_NOMEM, "SHA-256");
        uint64_t start = offset;
        offset += n;
        if (n && text[n - 1] == '\n')
            n--;
        if (n && text[n - 1] == '\r')
            n--;
        if (!blank(text, n))
            TRY(add_line(l, start, n, number, why));
    }
    if (ferror(l->f))
        FAIL(ERR_IO, "%s: %s", l->path, strerror(errno));
    if (EVP_DigestFinal_ex(sha, digest, &digest_len) != 1 || digest_len != 32)
        FAIL(ERR_NOMEM, "SHA-256");
    for (unsigned i = 0; i < digest_len; i++)
        snprintf(l->sha256 + (size_t)i * 2, 3, "%02x", digest[i]);
out:
    EVP_MD_CTX_free(sha);
    free(text);
    return e;
}

/* ---- ids are unique --------------------------------------------------------------------- */

/* The line's id as a JSON string value; NULL: it has none. json_decref() *root. */
static const char *id_of(const struct lines *l, const struct buf *text, json_t **root, size_t *len)
{
    *root = json_loadb(text->data ? text->data : "", text->len, JSON_ALLOW_NUL, NULL);
    const json_t *id = json_object_get(*root, l->id_key);
    *len = json_string_length(id);
    return json_string_value(id);
}

/* ERR_INVAL: lines a and b have one id. */
static err differ(struct lines *l, int64_t a, int64_t b, struct why *why)
{
    struct buf one = { 0 }, two = { 0 };
    json_t *root_one = NULL, *root_two = NULL;
    size_t len_one, len_two;
    err e;
    TRY(lines_get(l, a, &one, why));
    TRY(lines_get(l, b, &two, why));
    const char *x = id_of(l, &one, &root_one, &len_one), *y = id_of(l, &two, &root_two, &len_two);
    if (x && y && len_one == len_two && memcmp(x, y, len_one) == 0)
        FAIL(ERR_INVAL, "%s: lines %u and %u have the same %s \"%.100s\"", l->path, l->line[a].number,
             l->line[b].number, l->id_key, x);
out:
    json_decref(root_one);
    json_decref(root_two);
    buf_fini(&one);
    buf_fini(&two);
    return e;
}

static int by_hash(const void *a, const void *b)
{
    const struct id *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

static err check_ids(struct lines *l, struct why *why)
{
    struct id *ids = malloc(((size_t)l->n + 1) * sizeof *ids);
    struct buf text = { 0 };
    int64_t n = 0;
    err e = ERR_OK;
    if (!ids)
        FAIL(ERR_NOMEM, "%s: %lld ids", l->path, (long long)l->n);
    for (int64_t i = 0; i < l->n; i++) {
        json_t *root;
        size_t len;
        TRY(lines_get(l, i, &text, why));
        const char *id = id_of(l, &text, &root, &len);
        if (id)
            ids[n++] = (struct id){ XXH3_64bits(id, len), i };
        json_decref(root);
    }
    qsort(ids, (size_t)n, sizeof *ids, by_hash);
    for (int64_t i = 1; i < n; i++) /* 64 bits of hash may meet by chance: look at the lines */
        for (int64_t j = i - 1; j >= 0 && ids[j].hash == ids[i].hash; j--)
            TRY(differ(l, ids[j].i, ids[i].i, why));
out:
    buf_fini(&text);
    free(ids);
    return e;
}

err lines_open(const char *path, const char *id_key, struct lines **out, struct why *why)
{
    struct stat st;
    err e;
    struct lines *l = calloc(1, sizeof *l);
    if (!l)
        return why_set(why, ERR_NOMEM, "%s", path);
    l->path = strdup(path);
    l->id_key = strdup(id_key);
    l->f = fopen(path, "rbe");
    if (!l->path || !l->id_key)
        FAIL(ERR_NOMEM, "%s", path);
    if (!l->f || fstat(fileno(l->f), &st) != 0)
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        FAIL(ERR_INVAL, "%s: not a regular file (it is read twice)", path);
    TRY(index_file(l, why));
    TRY(check_ids(l, why));
    *out = l;
    l = NULL;
out:
    lines_close(l);
    return e;
}

void lines_close(struct lines *l)
{
    if (!l)
        return;
    if (l->f)
        fclose(l->f);
    free(l->line);
    free(l->path);
    free(l->id_key);
    free(l);
}
