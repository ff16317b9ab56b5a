/* json_model.c - the "model" and "added_tokens" sections. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/json_read.h"
#include "tokenizer/text.h"

static err bad_vocab(struct why *why)
{
    return why_set(why, ERR_FORMAT, "tokenizer.json: model.vocab is malformed");
}

err json_added_count(const json_t *added, size_t *n, size_t *given, struct why *why)
{
    size_t i;
    json_t *x;
    json_array_foreach(added, i, x) {
        int32_t id;
        err e = json_get_id(x, "id", -1, &id, why);
        if (e != ERR_OK)
            return e;
        *n = (size_t)(id + 1) > *n ? (size_t)(id + 1) : *n;
        ++*given;
    }
    if (*n > *given * 4 + 65536)
        return why_set(why, ERR_FORMAT, "tokenizer: ids go up to %zu but only %zu pieces are given", *n, *given);
    return ERR_OK;
}

/* How many ids there must be: the greatest of all, plus one. */
static err count_ids(const json_t *vocab, const json_t *added, size_t *out, struct why *why)
{
    size_t n = 0, given = 0;
    json_t *x;
    const char *key;
    if (json_is_array(vocab)) {
        n = given = json_array_size(vocab);
    } else {
        json_object_foreach((json_t *)vocab, key, x) {
            json_int_t id = json_integer_value(x);
            if (!json_is_integer(x) || id < 0 || id >= VOCAB_MAX_IDS)
                return why_set(why, ERR_FORMAT, "tokenizer.json: id of \"%.40s\"", key);
            n = (size_t)id + 1 > n ? (size_t)id + 1 : n;
            given++;
        }
    }
    err e = json_added_count(added, &n, &given, why);
    if (e != ERR_OK)
        return e;
    *out = n;
    return ERR_OK;
}

static err put_piece(struct tokenizer *t, int32_t id, const char *s, size_t len, double score, bool bytes,
                     struct why *why)
{
    bool byte = bytes && vocab_byte_value(s, len) >= 0;
    return vocab_put(&t->vocab, id, s, len, score, byte ? TOKEN_BYTE : TOKEN_NORMAL, !byte, why);
}

static err put_pieces(const json_t *vocab, bool bytes, struct tokenizer *t, struct why *why)
{
    err e = ERR_OK;
    if (json_is_array(vocab)) { /* unigram: [piece, score] */
        size_t i;
        json_t *x;
        json_array_foreach(vocab, i, x) {
            json_t *s = json_array_get(x, 0), *score = json_array_get(x, 1);
            if (!json_is_string(s) || !json_is_number(score) || !isfinite(json_number_value(score)))
                return bad_vocab(why);
            TRY(put_piece(t, (int32_t)i, json_string_value(s), json_string_length(s), json_number_value(score), bytes,
                          why));
        }
    } else {
        const char *key;
        size_t len;
        json_t *x;
        json_object_keylen_foreach((json_t *)vocab, key, len, x)
            TRY(put_piece(t, (int32_t)json_integer_value(x), key, len, 0, bytes, why));
    }
out:
    return e;
}

/* Merges an added token into the vocabulary: it may be a piece already. */
static err put_added(const json_t *o, struct tokenizer *t, struct why *why)
{
    err e;
    int32_t id, have;
    const char *s;
    size_t len;
    bool special;
    TRY(json_get_id(o, "id", -1, &id, why));
    TRY(json_get_string(o, "content", &s, &len, why));
    TRY(json_get_bool(o, "special", false, &special, why));
    if (id < 0 || !s)
        FAIL(ERR_FORMAT, "tokenizer.json: added token without id or content");
    have = vocab_find(&t->vocab, s, len);
    if (have >= 0 && have != id)
        FAIL(ERR_FORMAT, "tokenizer.json: added token \"%.40s\" is %d and %d", s, id, have);
    if (have < 0)
        TRY(vocab_put(&t->vocab, id, s, len, 0, TOKEN_NORMAL, false, why));
    t->vocab.piece[id].type = special ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    t->vocab.piece[id].in_model &= !special;
    e = ERR_OK;
out:
    return e;
}

err json_added_put(const json_t *added, struct tokenizer *t, struct why *why)
{
    size_t i;
    json_t *x;
    json_array_foreach(added, i, x) {
        err e = put_added(x, t, why);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

err json_vocab(const json_t *model, const json_t *added, struct tokenizer *t, struct why *why)
{
    err e;
    size_t n;
    bool bytes;
    json_t *vocab = json_get(model, "vocab");
    if (!json_is_array(vocab) && !json_is_object(vocab))
        FAIL(ERR_FORMAT, "tokenizer.json: no model.vocab");
    if (added && !json_is_array(added))
        FAIL(ERR_FORMAT, "tokenizer.json: added_tokens is not a list");
    TRY(json_get_bool(model, "byte_fallback", false, &bytes, why));
    TRY(count_ids(vocab, added, &n, why));
    TRY(vocab_init(&t->vocab, n, why));
    TRY(put_pieces(vocab, bytes, t, why));
    if (bytes)
        vocab_find_bytes(&t->vocab);
    TRY(json_added_put(added, t, why));
out:
    return e;
}

err json_added_tokens(const json_t *added, struct tokenizer *t, struct why *why)
{
    err e = ERR_OK;
    size_t i;
    json_t *x;
    json_array_foreach(added, i, x) {
        struct added_token token = {0};
        bool normalized;
        TRY(json_get_id(x, "id", -1, &token.id, why));
        TRY(json_get_bool(x, "special", false, &token.special, why));
        TRY(json_get_bool(x, "lstrip", false, &token.lstrip, why));
        TRY(json_get_bool(x, "rstrip", false, &token.rstrip, why));
        TRY(json_get_bool(x, "single_word", false, &token.single_word, why));
        TRY(json_get_bool(x, "normalized", !token.special, &normalized, why));
        TRY(pipeline_add_token(t, token, normalized, why));
    }
out:
    return e;
}

/* "a b" or ["a", "b"] */
static err read_merge(const json_t *x, struct tok_merge *m, struct why *why)
{
    if (json_is_array(x)) {
        json_t *a = json_array_get(x, 0), *b = json_array_get(x, 1);
        if (json_array_size(x) != 2 || !json_is_string(a) || !json_is_string(b))
            goto bad;
        *m = (struct tok_merge){json_string_value(a), json_string_value(b), (uint32_t)json_string_length(a),
                                (uint32_t)json_string_length(b)};
        return ERR_OK;
    }
    if (json_is_string(x)) {
        const char *s = json_string_value(x);
        size_t len = json_string_length(x);
        const char *blank = memchr(s, ' ', len);
        if (!blank || memchr(blank + 1, ' ', len - (size_t)(blank + 1 - s)))
            goto bad;
        *m = (struct tok_merge){s, blank + 1, (uint32_t)(blank - s), (uint32_t)(s + len - blank - 1)};
        return ERR_OK;
    }
bad:
    return why_set(why, ERR_FORMAT, "tokenizer.json: a merge is not two pieces");
}

static err refuse_text(const json_t *model, const char *key, struct why *why)
{
    const char *s;
    size_t len;
    err e = json_get_string(model, key, &s, &len, why);
    if (e == ERR_OK && len > 0)
        e = why_set(why, ERR_UNSUPPORTED, "tokenizer.json: %s \"%.20s\" is not supported", key, s);
    return e;
}

static err find_unk(const json_t *model, struct tokenizer *t, int32_t *out, struct why *why)
{
    const char *s;
    size_t len;
    err e = json_get_string(model, "unk_token", &s, &len, why);
    if (e != ERR_OK)
        return e;
    *out = s ? vocab_find(&t->vocab, s, len) : -1;
    if (s && *out < 0)
        return why_set(why, ERR_FORMAT, "tokenizer.json: unk_token \"%.40s\" is not in the vocabulary", s);
    return ERR_OK;
}

/* The unknown token is never spelt out by the model. */
static void mark_unk(struct tokenizer *t, int32_t unk)
{
    if (unk < 0)
        return;
    struct vocab_piece *p = &t->vocab.piece[unk];
    p->in_model = false;
    if (p->type == TOKEN_CONTROL)
        p->type = TOKEN_UNKNOWN;
}

static err read_bpe(const json_t *model, struct tokenizer *t, struct why *why)
{
    err e;
    int32_t unk;
    size_t i;
    json_t *x, *merges = json_get(model, "merges");
    bool fuse, bytes, whole;
    if (json_get(model, "dropout") && json_number_value(json_get(model, "dropout")) != 0)
        FAIL(ERR_UNSUPPORTED, "tokenizer.json: BPE dropout makes ids random");
    TRY(refuse_text(model, "continuing_subword_prefix", why));
    TRY(refuse_text(model, "end_of_word_suffix", why));
    if (!json_is_array(merges) || json_array_size(merges) > VOCAB_MAX_IDS)
        FAIL(ERR_FORMAT, "tokenizer.json: no usable model.merges");
    TRY(json_get_bool(model, "fuse_unk", false, &fuse, why));
    TRY(json_get_bool(model, "byte_fallback", false, &bytes, why));
    TRY(json_get_bool(model, "ignore_merges", false, &whole, why));
    TRY(find_unk(model, t, &unk, why));
    mark_unk(t, unk);
    TRY(bpe_init(&t->bpe, &t->vocab, json_array_size(merges), why));
    json_array_foreach(merges, i, x) {
        struct tok_merge m;
        TRY(read_merge(x, &m, why));
        TRY(bpe_put_merge(&t->bpe, &m, (uint32_t)i, why));
    }
    t->model = TOK_BPE;
    t->bpe.unk = unk;
    t->bpe.fuse_unk = fuse;
    t->bpe.byte_fallback = bytes;
    t->bpe.whole_words = whole;
    bpe_find_cuts(&t->bpe);
    e = ERR_OK;
out:
    return e;
}

static err read_unigram(const json_t *model, struct tokenizer *t, struct why *why)
{
    err e;
    int32_t unk;
    bool bytes;
    TRY(json_get_id(model, "unk_id", -1, &unk, why));
    TRY(json_get_bool(model, "byte_fallback", false, &bytes, why));
    if (unk >= 0 && (size_t)unk >= t->vocab.n)
        FAIL(ERR_FORMAT, "tokenizer.json: unk_id %d", unk);
    mark_unk(t, unk);
    t->model = TOK_UNIGRAM;
    TRY(unigram_init(&t->unigram, &t->vocab, unk, bytes, why));
out:
    return e;
}

static err read_wordpiece(const json_t *model, struct tokenizer *t, struct why *why)
{
    err e;
    int32_t unk, max_chars;
    const char *mark;
    size_t len;
    TRY(find_unk(model, t, &unk, why));
    TRY(json_get_id(model, "max_input_chars_per_word", 100, &max_chars, why));
    TRY(json_get_string(model, "continuing_subword_prefix", &mark, &len, why));
    if (!mark)
        mark = "##", len = 2;
    mark_unk(t, unk);
    t->model = TOK_WORDPIECE;
    TRY(wordpiece_init(&t->wordpiece, &t->vocab, mark, len, false, unk, (size_t)max_chars, why));
out:
    return e;
}

err json_model(const json_t *model, struct tokenizer *t, struct why *why)
{
    const char *type = json_kind(model);
    if (!*type) /* old files do not say */
        type = json_get(model, "merges") ? "BPE" : json_is_array(json_get(model, "vocab")) ? "Unigram" : "WordPiece";
    if (strcmp(type, "BPE") == 0)
        return read_bpe(model, t, why);
    if (strcmp(type, "Unigram") == 0)
        return json_is_array(json_get(model, "vocab")) ? read_unigram(model, t, why) : bad_vocab(why);
    if (strcmp(type, "WordPiece") == 0)
        return read_wordpiece(model, t, why);
    return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: model \"%.60s\" is not known", type);
}
