/* export_tokenizer.c - see export_tokenizer.h. */
#include "model/export_tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/gguf_tokenizer.h"
#include "model/shards.h"
#include "model/small_files.h"
#include "model/source.h"
#include "tokenizer/export.h"

/* ---- from tables ---------------------------------------------------------------------------- */

struct target {
    const char *dir, *chat_template;
};

static err write_tables(void *ctx, const struct tok_tables *t, struct why *why)
{
    const struct target *x = ctx;
    struct tokenizer *tok = NULL;
    struct buf json = {0}, config = {0};
    err e;
    TRY(tokenizer_open(t, &tok, why));
    TRY(tokenizer_put_json(t, tok, &json, why));
    TRY(tokenizer_put_config(t, x->chat_template, &config, why));
    TRY(file_write(x->dir, "tokenizer.json", json.data, json.len, why));
    TRY(file_write(x->dir, "tokenizer_config.json", config.data, config.len, why));
out:
    buf_fini(&json);
    buf_fini(&config);
    tokenizer_close(tok);
    return e;
}

static err from_gguf(const char *model, const char *dir, struct why *why)
{
    struct gguf *g = NULL;
    struct source *src = NULL;
    err e;
    TRY(source_open_any(model, &src, why));
    TRY(gguf_open(model, &g, why));
    struct target x = {dir, source_chat_template(src)};
    TRY(gguf_tokenizer_tables(g, write_tables, &x, why));
out:
    gguf_close(g);
    source_close(src);
    return e;
}

/* ---- from a directory -------------------------------------------------------------------------- */

/* Shards of a GGUF keep its metadata in a file of their own. */
static err from_shards(const char *model, const char *dir, bool *gguf, struct why *why)
{
    struct stat st;
    char *facts = NULL;
    err e = ERR_OK;
    if (asprintf(&facts, "%s/%s", model, SHARDS_FACTS_GGUF) < 0)
        return why_set(why, ERR_NOMEM, "%s", model);
    *gguf = shards_here(model) && stat(facts, &st) == 0;
    if (*gguf)
        e = from_gguf(facts, dir, why);
    free(facts);
    return e;
}

err copy_tokenizer_files(const char *from, const char *to, bool *found, struct why *why)
{
    static const char *const names[] = {"tokenizer.json",          "tokenizer.model", "tokenizer_config.json",
                                        "special_tokens_map.json", "chat_template.jinja", "added_tokens.json",
                                        "vocab.json",              "merges.txt"};
    err e = ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < sizeof names / sizeof names[0]; i++)
        e = file_copy(from, to, names[i], found, why);
    return e;
}

static err from_directory(const char *model, const char *dir, struct why *why)
{
    bool found = false, done = false;
    err e = from_shards(model, dir, &done, why);
    if (e || done)
        return e;
    e = copy_tokenizer_files(model, dir, &found, why);
    return e == ERR_OK && !found ? why_set(why, ERR_NOTFOUND, "%s: there are no tokenizer files", model) : e;
}

err export_tokenizer(const char *model, const char *dir, struct why *why)
{
    struct stat st;
    if (stat(model, &st) != 0)
        return why_set(why, ERR_IO, "%s: %s", model, strerror(errno));
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return why_set(why, ERR_IO, "%s: %s", dir, strerror(errno));
    return S_ISDIR(st.st_mode) ? from_directory(model, dir, why) : from_gguf(model, dir, why);
}
