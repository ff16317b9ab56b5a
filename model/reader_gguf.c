/* reader_gguf.c - a GGUF file, or the several files of a split model, as a reader.
 *
 * A split model is name-00001-of-00003.gguf and so on; the first file has the
 * metadata, every file has tensors. `split.count` in the first one says how many.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/buf.h"
#include "model/gguf.h"
#include "model/gguf_tokenizer.h"
#include "model/reader.h"
#include "model/shards.h"
#include "model/small_files.h"

#define MAX_PARTS 999

struct gguf_parts {
    struct gguf **part; /* [n]; part[0] has the metadata */
    int n;
    char *family, *name, *chat_template;
    int32_t end[3];
    size_t n_end;
};

static void parts_close(void *ctx)
{
    struct gguf_parts *p = ctx;

    for (int i = 0; i < p->n; i++)
        gguf_close(p->part[i]);
    free(p->part);
    free(p->family);
    free(p->name);
    free(p->chat_template);
    free(p);
}

static err parts_tokenizer(const void *ctx, struct tokenizer **out, struct why *why)
{
    return gguf_tokenizer_open(((const struct gguf_parts *)ctx)->part[0], out, why);
}

static void parts_hash(const void *ctx, XXH3_state_t *state)
{
    const struct gguf_parts *p = ctx;

    for (int i = 0; i < p->n; i++) {
        size_t bytes;
        const void *head = gguf_head(p->part[i], &bytes);
        uint64_t size = gguf_file_bytes(p->part[i]);
        XXH3_64bits_update(state, head, bytes);
        XXH3_64bits_update(state, &size, sizeof size);
    }
}

/* All parts' metadata is the first one's. */
static err parts_save(const void *ctx, const char *dir, struct why *why)
{
    const struct gguf_parts *p = ctx;
    struct buf facts = {0};
    gguf_put_facts(&facts, p->part[0]);
    err e = facts.failed ? why_set(why, ERR_NOMEM, "%s: %s", dir, SHARDS_FACTS_GGUF)
                         : file_write(dir, SHARDS_FACTS_GGUF, facts.data, facts.len, why);
    buf_fini(&facts);
    return e;
}

static const struct reader_type type = {.name = "GGUF",
                                        .names = NAMES_GGUF,
                                        .close = parts_close,
                                        .tokenizer = parts_tokenizer,
                                        .hash = parts_hash,
                                        .save = parts_save};

/* Allocated copy of a string value; NULL: absent. */
static err text_of(const struct gguf *g, const char *key, char **out, struct why *why)
{
    const struct gguf_value *v = gguf_find(g, key);
    const char *s;
    size_t len;

    if (!v)
        return ERR_OK;
    if (!gguf_text(v, &s, &len))
        return why_set(why, ERR_FORMAT, "%s: %s is not a string", gguf_path(g), key);
    *out = strndup(s, len);
    return *out ? ERR_OK : why_set(why, ERR_NOMEM, "%s: %zu bytes of %s", gguf_path(g), len, key);
}

static err number_of(const struct gguf *g, const char *key, int otherwise, int *out, struct why *why)
{
    const struct gguf_value *v = gguf_find(g, key);
    double x = otherwise;

    if (v && (v->array || !gguf_number(v, 0, &x) || !(x >= 0 && x <= INT32_MAX)))
        return why_set(why, ERR_FORMAT, "%s: %s is not a count", gguf_path(g), key);
    *out = (int)x;
    return ERR_OK;
}

static err read_ends(struct gguf_parts *p, struct why *why)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    err e = ERR_OK;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int id;
        if (!gguf_find(p->part[0], keys[i]))
            continue;
        TRY(number_of(p->part[0], keys[i], 0, &id, why));
        p->end[p->n_end++] = id;
    }
out:
    return e;
}

/* Opens parts 2..n next to the first, whose name tells theirs. */
static err open_others(struct gguf_parts *p, const char *path, int n, struct why *why)
{
    err e;
    char suffix[32], *other = NULL;
    size_t len = strlen(path), tail;

    tail = (size_t)snprintf(suffix, sizeof suffix, "-%05d-of-%05d.gguf", 1, n);
    if (len < tail || strcmp(path + len - tail, suffix) != 0)
        FAIL(ERR_FORMAT, "%s: one of %d files of a split model; give the first, whose name ends in %s", path,
             n, suffix);
    other = malloc(len + sizeof suffix);
    if (!other)
        FAIL(ERR_NOMEM, "%s: no memory", path);
    for (int i = 1; i < n; i++) {
        int no;
        memcpy(other, path, len - tail);
        snprintf(other + len - tail, sizeof suffix, "-%05d-of-%05d.gguf", i + 1, n);
        TRY(gguf_open(other, &p->part[i], why));
        p->n++;
        TRY(number_of(p->part[i], "split.no", -1, &no, why));
        if (no != i)
            FAIL(ERR_FORMAT, "%s: says that it is part %d, counted from 0; its name says %d", other, no, i);
    }
    e = ERR_OK;
out:
    free(other);
    return e;
}

static err merge_tensors(const struct gguf_parts *p, struct reader *r, struct why *why)
{
    err e;
    int expected;

    for (int i = 0; i < p->n; i++) {
        const struct catalog *c = gguf_tensors(p->part[i]);
        r->file_bytes += gguf_file_bytes(p->part[i]);
        for (size_t k = 0; k < c->n; k++)
            TRY(catalog_push(&r->tensors, &c->t[k], why));
    }
    TRY(number_of(p->part[0], "split.tensors.count", (int)r->tensors.n, &expected, why));
    if ((size_t)expected != r->tensors.n)
        FAIL(ERR_FORMAT, "%s: the model has %d tensors, its files hold %zu", gguf_path(p->part[0]), expected,
             r->tensors.n);
    e = catalog_sort(&r->tensors, why);
    if (e)
        why_prefix(why, e, "%s", gguf_path(p->part[0]));
out:
    return e;
}

err reader_gguf_open(const char *path, struct reader *out, struct why *why)
{
    err e;
    struct reader r = {.type = &type};
    struct gguf_parts *p = calloc(1, sizeof *p);
    int n;

    if (!p)
        return why_set(why, ERR_NOMEM, "%s: no memory", path);
    r.ctx = p;
    p->part = calloc(MAX_PARTS, sizeof(struct gguf *));
    if (!p->part)
        FAIL(ERR_NOMEM, "%s: no memory", path);
    TRY(gguf_open(path, &p->part[0], why));
    p->n = 1;
    TRY(number_of(p->part[0], "split.count", 1, &n, why));
    if (n > MAX_PARTS)
        FAIL(ERR_FORMAT, "%s: claims to be split into %d files", path, n);
    if (n > 1)
        TRY(open_others(p, path, n, why));
    TRY(merge_tensors(p, &r, why));
    TRY(text_of(p->part[0], "general.architecture", &p->family, why));
    TRY(text_of(p->part[0], "general.name", &p->name, why));
    TRY(text_of(p->part[0], "tokenizer.chat_template", &p->chat_template, why));
    TRY(read_ends(p, why));
    r.end = p->end;
    r.n_end = p->n_end;
    r.family = p->family;
    r.name = p->name;
    r.chat_template = p->chat_template;
    r.path = gguf_path(p->part[0]);
    facts_init_gguf(&r.facts, p->part[0], p->family ? p->family : "");
    *out = r;
    r = (struct reader){0};
out:
    reader_close(&r);
    return e;
}
