/* gguf_tables.h - just enough of GGUF to get tokenizer tables into tests.
 *
 * Trusts its input: it reads only reference files. The product's reader is in
 * model/ and is another matter.
 */
#ifndef CORDEE_TESTS_GGUF_TABLES_H
#define CORDEE_TESTS_GGUF_TABLES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/tokenizer/read_whole.h"
#include "tokenizer/tokenizer.h"

struct gguf_at {
    const char *p;
};

static uint64_t gguf_uint(struct gguf_at *a, size_t bytes)
{
    uint64_t x = 0;
    memcpy(&x, a->p, bytes);
    a->p += bytes;
    return x;
}

static const char *gguf_string(struct gguf_at *a, size_t *len)
{
    *len = gguf_uint(a, 8);
    const char *s = a->p;
    a->p += *len;
    return s;
}

static size_t gguf_size(uint32_t type)
{
    static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return size[type];
}

static void gguf_skip(struct gguf_at *a, uint32_t type)
{
    size_t n;
    if (type == 8) {
        gguf_string(a, &n);
    } else if (type == 9) {
        uint32_t item = (uint32_t)gguf_uint(a, 4);
        uint64_t count = gguf_uint(a, 8);
        if (item == 8)
            for (uint64_t i = 0; i < count; i++)
                gguf_string(a, &n);
        else
            a->p += count * gguf_size(item);
    } else {
        a->p += gguf_size(type);
    }
}

struct gguf_tables {
    char *file;
    struct tok_tables t;
    struct tok_piece *pieces;
    struct tok_merge *merges;
    char *pre;
};

static int gguf_key_is(const char *key, size_t len, const char *name)
{
    return len == strlen(name) && memcmp(key, name, len) == 0;
}

static void gguf_take_array(struct gguf_tables *g, const char *key, size_t key_len, struct gguf_at *a)
{
    uint32_t item = (uint32_t)gguf_uint(a, 4);
    uint64_t n = gguf_uint(a, 8);
    size_t len;
    if (!g->pieces && (gguf_key_is(key, key_len, "tokenizer.ggml.tokens")))
        g->pieces = calloc(n, sizeof *g->pieces);
    if (gguf_key_is(key, key_len, "tokenizer.ggml.merges"))
        g->merges = calloc(n, sizeof *g->merges);
    for (uint64_t i = 0; i < n; i++) {
        if (gguf_key_is(key, key_len, "tokenizer.ggml.tokens")) {
            g->pieces[i].text = gguf_string(a, &len);
            g->pieces[i].len = (uint32_t)len;
            g->t.n_pieces = n;
        } else if (gguf_key_is(key, key_len, "tokenizer.ggml.scores")) {
            memcpy(&g->pieces[i].score, a->p, 4);
            a->p += 4;
        } else if (gguf_key_is(key, key_len, "tokenizer.ggml.token_type")) {
            g->pieces[i].type = (uint8_t)gguf_uint(a, 4);
        } else if (gguf_key_is(key, key_len, "tokenizer.ggml.merges")) {
            const char *s = gguf_string(a, &len), *blank = memchr(s + 1, ' ', len - 1);
            g->merges[i] = (struct tok_merge){s, blank + 1, (uint32_t)(blank - s), (uint32_t)(s + len - blank - 1)};
            g->t.n_merges = n;
        } else if (gguf_key_is(key, key_len, "tokenizer.ggml.precompiled_charsmap")) {
            g->t.charsmap = a->p;
            g->t.charsmap_bytes = n;
            a->p += n;
            break;
        } else if (item == 8) {
            gguf_string(a, &len);
        } else {
            a->p += gguf_size(item);
        }
    }
}

static void gguf_take(struct gguf_tables *g, const char *key, size_t len, uint32_t type, struct gguf_at *a)
{
    static const struct { const char *key; size_t offset; } ids[] = {
        {"tokenizer.ggml.bos_token_id", offsetof(struct tok_tables, bos)},
        {"tokenizer.ggml.eos_token_id", offsetof(struct tok_tables, eos)},
        {"tokenizer.ggml.unknown_token_id", offsetof(struct tok_tables, unk)},
        {"tokenizer.ggml.padding_token_id", offsetof(struct tok_tables, pad)},
        {"tokenizer.ggml.seperator_token_id", offsetof(struct tok_tables, sep)},
        {"tokenizer.ggml.cls_token_id", offsetof(struct tok_tables, cls)},
        {"tokenizer.ggml.mask_token_id", offsetof(struct tok_tables, mask)},
    };
    if (type == 9) {
        gguf_take_array(g, key, len, a);
        return;
    }
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        if (gguf_key_is(key, len, ids[i].key)) {
            memcpy((char *)&g->t + ids[i].offset, a->p, sizeof(int));
        }
    if (gguf_key_is(key, len, "tokenizer.ggml.model") || gguf_key_is(key, len, "tokenizer.ggml.pre")) {
        size_t n;
        const char *s = gguf_string(a, &n);
        if (gguf_key_is(key, len, "tokenizer.ggml.pre"))
            g->pre = strndup(s, n);
        else
            g->t.model = n == 5 ? TOK_SPM : n == 2 ? TOK_UNIGRAM : s[0] == 'b' ? TOK_WORDPIECE : TOK_BPE;
        return;
    }
    if (gguf_key_is(key, len, "tokenizer.ggml.add_bos_token"))
        g->t.add_bos = *a->p;
    if (gguf_key_is(key, len, "tokenizer.ggml.add_eos_token"))
        g->t.add_eos = *a->p;
    if (gguf_key_is(key, len, "tokenizer.ggml.add_space_prefix"))
        g->t.add_space_prefix = *a->p;
    if (gguf_key_is(key, len, "tokenizer.ggml.remove_extra_whitespaces"))
        g->t.remove_extra_spaces = *a->p;
    gguf_skip(a, type);
}

/* 0 on success. */
static int gguf_tables_read(struct gguf_tables *g, const char *path)
{
    size_t len;
    *g = (struct gguf_tables){.t = {.bos = -1, .eos = -1, .unk = -1, .pad = -1, .sep = -1, .cls = -1, .mask = -1,
                                    .add_space_prefix = true, .escape_spaces = true}};
    g->file = read_whole(path, &len);
    if (!g->file)
        return -1;
    struct gguf_at a = {g->file + 16};
    uint64_t n = gguf_uint(&a, 8);
    for (uint64_t i = 0; i < n; i++) {
        size_t key_len;
        const char *key = gguf_string(&a, &key_len);
        uint32_t type = (uint32_t)gguf_uint(&a, 4);
        gguf_take(g, key, key_len, type, &a);
    }
    g->t.pieces = g->pieces;
    g->t.merges = g->merges;
    g->t.pre = g->pre;
    /* What readers do where SentencePiece files do not name it. */
    if (g->t.unk < 0 && g->t.model == TOK_SPM)
        for (size_t i = 0; i < g->t.n_pieces; i++)
            if (g->pieces[i].type == TOKEN_UNKNOWN && g->t.unk < 0)
                g->t.unk = (int)i;
    return 0;
}

static void gguf_tables_free(struct gguf_tables *g)
{
    free(g->file);
    free(g->pieces);
    free(g->merges);
    free(g->pre);
}

#endif
