/* gguf_tokenizer.c - tokenizer.ggml.* metadata into tok_tables.
 *
 * All texts stay views into the file; tokenizer_open() copies what it keeps.
 */
#include "model/gguf_tokenizer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "tokenizer.ggml."

struct tables {
    const struct gguf *g;
    struct tok_tables t;
    struct tok_piece *pieces;
    struct tok_merge *merges;
    char *pre;
};

static bool text_is(const char *s, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(s, word, len) == 0;
}

static err array_of(const struct gguf *g, const char *key, enum gguf_type type, const struct gguf_value **out,
                    struct why *why)
{
    const struct gguf_value *v = gguf_find(g, key);

    if (v && (!v->array || v->type != type))
        return why_set(why, ERR_FORMAT, "%s: %s is not an array of %s", gguf_path(g), key,
                       gguf_type_name(type));
    *out = v;
    return ERR_OK;
}

static err read_pieces(struct tables *k, struct why *why)
{
    err e;
    const struct gguf_value *tokens, *scores, *types;
    struct gguf_strings w;
    const char *s;
    size_t len;

    TRY(array_of(k->g, KEY "tokens", GGUF_STRING, &tokens, why));
    TRY(array_of(k->g, KEY "scores", GGUF_F32, &scores, why));
    TRY(array_of(k->g, KEY "token_type", GGUF_I32, &types, why));
    if (!tokens || tokens->n == 0)
        FAIL(ERR_NOTFOUND, "%s: there is no tokenizer in this file (" KEY "tokens)", gguf_path(k->g));
    if ((scores && scores->n != tokens->n) || (types && types->n != tokens->n))
        FAIL(ERR_FORMAT, "%s: %" PRIu64 " tokens but %" PRIu64 " scores and %" PRIu64 " types",
             gguf_path(k->g), tokens->n, scores ? scores->n : 0, types ? types->n : 0);
    k->pieces = calloc((size_t)tokens->n, sizeof *k->pieces);
    if (!k->pieces)
        FAIL(ERR_NOMEM, "%s: %" PRIu64 " tokens", gguf_path(k->g), tokens->n);

    w = gguf_strings(tokens);
    for (uint64_t i = 0; gguf_string_next(&w, &s, &len); i++) {
        double score = 0, type = TOKEN_NORMAL;
        if (len > UINT32_MAX)
            FAIL(ERR_FORMAT, "%s: token %" PRIu64 " has %zu bytes", gguf_path(k->g), i, len);
        if (scores && !gguf_number(scores, i, &score))
            FAIL(ERR_FORMAT, "%s: the score of token %" PRIu64 " is not finite", gguf_path(k->g), i);
        if (types)
            gguf_number(types, i, &type);
        if (type < TOKEN_NORMAL || type > TOKEN_BYTE)
            type = TOKEN_NORMAL;
        k->pieces[i] =
            (struct tok_piece){.text = s, .len = (uint32_t)len, .score = (float)score, .type = (uint8_t)type};
    }
    k->t.pieces = k->pieces;
    k->t.n_pieces = (size_t)tokens->n;
    e = ERR_OK;
out:
    return e;
}

/* A merge is "left right"; the pieces themselves contain no space (byte-level
 * alphabets print it as another character), but a piece may start with one in
 * vocabularies that are not byte-level, so the split is at the first space that
 * is not the first byte. */
static err read_merges(struct tables *k, struct why *why)
{
    err e;
    const struct gguf_value *v;
    struct gguf_strings w;
    const char *s;
    size_t len;

    TRY(array_of(k->g, KEY "merges", GGUF_STRING, &v, why));
    if (!v || v->n == 0)
        return ERR_OK;
    k->merges = calloc((size_t)v->n, sizeof *k->merges);
    if (!k->merges)
        FAIL(ERR_NOMEM, "%s: %" PRIu64 " merges", gguf_path(k->g), v->n);
    w = gguf_strings(v);
    for (uint64_t i = 0; gguf_string_next(&w, &s, &len); i++) {
        const char *space = len > 2 ? memchr(s + 1, ' ', len - 2) : NULL;
        if (!space || len > UINT32_MAX)
            FAIL(ERR_FORMAT, "%s: merge %" PRIu64 " is not two pieces with a space between", gguf_path(k->g),
                 i);
        k->merges[i] = (struct tok_merge){.left = s,
                                          .left_len = (uint32_t)(space - s),
                                          .right = space + 1,
                                          .right_len = (uint32_t)(s + len - space - 1)};
    }
    k->t.merges = k->merges;
    k->t.n_merges = (size_t)v->n;
    e = ERR_OK;
out:
    return e;
}

static err read_id(const struct tables *k, const char *key, int *id, struct why *why)
{
    const struct gguf_value *v = gguf_find(k->g, key);
    double x;

    if (!v)
        return ERR_OK;
    if (v->array || !gguf_number(v, 0, &x))
        return why_set(why, ERR_FORMAT, "%s: %s is not a number", gguf_path(k->g), key);
    if (x == (double)UINT32_MAX || x == -1) { /* "none", as some writers put it */
        *id = -1;
        return ERR_OK;
    }
    if (!(x >= 0 && x < (double)k->t.n_pieces))
        return why_set(why, ERR_FORMAT, "%s: %s is %g; the vocabulary has %zu tokens", gguf_path(k->g), key,
                       x, k->t.n_pieces);
    *id = (int)x;
    return ERR_OK;
}

static err read_flag(const struct tables *k, const char *key, bool *flag, struct why *why)
{
    const struct gguf_value *v = gguf_find(k->g, key);

    if (v && (v->array || v->type != GGUF_BOOL))
        return why_set(why, ERR_FORMAT, "%s: %s is not a bool", gguf_path(k->g), key);
    if (v)
        *flag = *v->data != 0;
    return ERR_OK;
}

/* The model's word, and what it means when the file does not say more. */
static err read_kind(struct tables *k, struct why *why)
{
    static const struct {
        const char *word;
        enum tok_model model;
        bool add_bos, add_eos, space_prefix, extra_spaces;
        int bos, eos, unk, pad, sep, cls, mask;
    } kinds[] = {
        {"llama", TOK_SPM, true, false, true, false, 1, 2, 0, -1, -1, -1, -1},
        {"gpt2", TOK_BPE, false, false, false, false, -1, -1, -1, -1, -1, -1, -1},
        {"t5", TOK_UNIGRAM, false, true, true, true, -1, 1, 2, 0, -1, -1, -1},
        {"bert", TOK_WORDPIECE, true, true, false, false, 101, 102, 100, 0, 102, 101, 103},
    };
    const struct gguf_value *v = gguf_find(k->g, KEY "model");
    const char *s;
    size_t len;

    if (!v || !gguf_text(v, &s, &len))
        return why_set(why, ERR_NOTFOUND, "%s: there is no tokenizer in this file (" KEY "model)",
                       gguf_path(k->g));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!text_is(s, len, kinds[i].word))
            continue;
        k->t.model = kinds[i].model;
        k->t.add_bos = kinds[i].add_bos;
        k->t.add_eos = kinds[i].add_eos;
        k->t.add_space_prefix = kinds[i].space_prefix;
        k->t.remove_extra_spaces = kinds[i].extra_spaces;
        k->t.escape_spaces = true;
        const int n = k->t.n_pieces > INT32_MAX ? INT32_MAX : (int)k->t.n_pieces;
#define DEFAULT_ID(field) k->t.field = kinds[i].field < n ? kinds[i].field : -1
        DEFAULT_ID(bos);
        DEFAULT_ID(eos);
        DEFAULT_ID(unk);
        DEFAULT_ID(pad);
        DEFAULT_ID(sep);
        DEFAULT_ID(cls);
        DEFAULT_ID(mask);
#undef DEFAULT_ID
        return ERR_OK;
    }
    return why_set(why, ERR_UNSUPPORTED,
                   "%s: tokenizer %.*s is not supported; supported: llama, gpt2, t5, bert", gguf_path(k->g),
                   (int)(len < 64 ? len : 64), s);
}

static err read_pre(struct tables *k, struct why *why)
{
    const struct gguf_value *v = gguf_find(k->g, KEY "pre");
    const char *s;
    size_t len;

    if (!v)
        return ERR_OK;
    if (!gguf_text(v, &s, &len))
        return why_set(why, ERR_FORMAT, "%s: " KEY "pre is not a string", gguf_path(k->g));
    k->pre = strndup(s, len);
    if (!k->pre)
        return why_set(why, ERR_NOMEM, "%s: no memory", gguf_path(k->g));
    k->t.pre = k->pre;
    return ERR_OK;
}

static err read_charsmap(struct tables *k, struct why *why)
{
    const struct gguf_value *v = gguf_find(k->g, KEY "precompiled_charsmap");

    if (!v)
        return ERR_OK;
    if (!v->array || (v->type != GGUF_U8 && v->type != GGUF_I8))
        return why_set(why, ERR_FORMAT, "%s: " KEY "precompiled_charsmap is not bytes", gguf_path(k->g));
    k->t.charsmap = v->data;
    k->t.charsmap_bytes = (size_t)v->n;
    return ERR_OK;
}

err gguf_tokenizer_tables(const struct gguf *g, gguf_tables_fn *fn, void *ctx, struct why *why)
{
    err e;
    struct tables k = {.g = g};

    TRY(read_pieces(&k, why));
    TRY(read_merges(&k, why));
    TRY(read_kind(&k, why));
    TRY(read_pre(&k, why));
    TRY(read_charsmap(&k, why));
    TRY(read_id(&k, KEY "bos_token_id", &k.t.bos, why));
    TRY(read_id(&k, KEY "eos_token_id", &k.t.eos, why));
    if (k.t.model == TOK_WORDPIECE) { /* newer files name [CLS] and [SEP] only so */
        k.t.cls = k.t.bos;
        k.t.sep = k.t.eos;
    }
    TRY(read_id(&k, KEY "unknown_token_id", &k.t.unk, why));
    TRY(read_id(&k, KEY "padding_token_id", &k.t.pad, why));
    TRY(read_id(&k, KEY "seperator_token_id", &k.t.sep, why)); /* the format's own spelling */
    TRY(read_id(&k, KEY "cls_token_id", &k.t.cls, why));
    TRY(read_id(&k, KEY "mask_token_id", &k.t.mask, why));
    TRY(read_flag(&k, KEY "add_bos_token", &k.t.add_bos, why));
    TRY(read_flag(&k, KEY "add_eos_token", &k.t.add_eos, why));
    TRY(read_flag(&k, KEY "add_space_prefix", &k.t.add_space_prefix, why));
    TRY(read_flag(&k, KEY "remove_extra_whitespaces", &k.t.remove_extra_spaces, why));
    TRY(read_flag(&k, KEY "escape_whitespaces", &k.t.escape_spaces, why));
    e = fn(ctx, &k.t, why);
    if (e)
        why_prefix(why, e, "%s", gguf_path(g));
out:
    free(k.pre);
    free(k.merges);
    free(k.pieces);
    return e;
}

static err open_tables(void *ctx, const struct tok_tables *t, struct why *why)
{
    return tokenizer_open(t, ctx, why);
}

err gguf_tokenizer_open(const struct gguf *g, struct tokenizer **out, struct why *why)
{
    return gguf_tokenizer_tables(g, open_tables, out, why);
}
