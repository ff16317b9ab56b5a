/* spm_open.c - a pipeline from tokenizer.model and tokenizer_config.json.
 *
 * The model file has no word on what stands around a text: the config says
 * it, or the class of tokenizer does (Llama adds BOS, T5 adds EOS). Tokens that
 * the config adds behind the model's ids (added_tokens_decoder) are taken too.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/json_read.h"
#include "tokenizer/spm_proto.h"
#include "tokenizer/spm_steps.h"

static err check(const struct spm_proto *p, struct why *why)
{
    const int32_t ids[] = {p->unk, p->bos, p->eos, p->pad};
    if (p->model != SPM_BPE && p->model != SPM_UNIGRAM)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer.model: model type %d (only unigram and BPE)", p->model);
    if (p->space_is_suffix)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer.model: treat_whitespace_as_suffix");
    for (size_t i = 0; i < 4; i++)
        if (ids[i] < -1 || (ids[i] >= 0 && (size_t)ids[i] >= p->n_pieces))
            return why_set(why, ERR_FORMAT, "tokenizer.model: special id %d of %zu", ids[i], p->n_pieces);
    for (size_t i = 0; i < p->n_pieces; i++)
        if (!isfinite(p->piece[i].score))
            return why_set(why, ERR_FORMAT, "tokenizer.model: piece %zu has no finite score", i);
    return ERR_OK;
}

/* {"32000": {"content": ..}, ..} as the list that tokenizer.json would have. */
static err list_added(json_t *config, json_t **out, struct why *why)
{
    err e;
    const char *key;
    json_t *x, *list = json_array();
    if (!list)
        FAIL(ERR_NOMEM, "tokenizer_config.json");
    json_object_foreach(json_get(config, "added_tokens_decoder"), key, x) {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (*end || end == key || id < 0 || id >= VOCAB_MAX_IDS || !json_is_object(x))
            FAIL(ERR_FORMAT, "tokenizer_config.json: added token \"%.20s\"", key);
        if (json_object_set_new(x, "id", json_integer(id)) != 0 || json_array_append(list, x) != 0)
            FAIL(ERR_NOMEM, "tokenizer_config.json");
    }
    *out = list;
    list = NULL;
    e = ERR_OK;
out:
    json_decref(list);
    return e;
}

static err fill_vocab(const struct spm_proto *p, const json_t *added, struct tokenizer *t, struct why *why)
{
    err e;
    size_t n = p->n_pieces, given = p->n_pieces;
    TRY(json_added_count(added, &n, &given, why));
    TRY(vocab_init(&t->vocab, n, why));
    for (size_t i = 0; i < p->n_pieces; i++) {
        const struct tok_piece *x = &p->piece[i];
        bool in_model = x->type == TOKEN_NORMAL || x->type == TOKEN_USER_DEFINED || x->type == TOKEN_UNUSED;
        TRY(vocab_put(&t->vocab, (int32_t)i, x->text, x->len, x->score, x->type, in_model, why));
    }
    if (p->byte_fallback && vocab_find_bytes(&t->vocab) != 256)
        FAIL(ERR_FORMAT, "tokenizer.model: byte_fallback without all byte pieces");
    TRY(json_added_put(added, t, why));
    if (p->unk >= 0)
        t->vocab.piece[p->unk].type = TOKEN_UNKNOWN;
out:
    return e;
}

/* Control tokens in the raw text; user-defined ones in the normalised text,
 * where SentencePiece itself looks for them. */
static err add_tokens(const struct spm_proto *p, const json_t *added, struct tokenizer *t, struct why *why)
{
    err e;
    for (size_t i = 0; i < p->n_pieces; i++) {
        uint8_t type = p->piece[i].type;
        bool special = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN;
        if (special || type == TOKEN_USER_DEFINED)
            TRY(pipeline_add_token(t, (struct added_token){.id = (int32_t)i, .special = special}, !special, why));
    }
    TRY(json_added_tokens(added, t, why));
out:
    return e;
}

static err around(const struct spm_proto *p, const json_t *config, struct tokenizer *t, struct why *why)
{
    err e = ERR_OK;
    const char *name = json_string_value(json_get(config, "tokenizer_class"));
    t->bos = p->bos;
    t->eos = p->eos;
    if (name && (strncmp(name, "XLMRoberta", 10) == 0 || strncmp(name, "Camembert", 9) == 0))
        FAIL(ERR_UNSUPPORTED, "%.40s renumbers the ids of tokenizer.model: tokenizer.json is needed", name);
    if (name && strncmp(name, "T5", 2) == 0 && t->eos >= 0)
        TRY(pipeline_add_after(t, t->eos, why));
    if (!name && p->model == SPM_BPE && t->bos >= 0)
        TRY(pipeline_add_before(t, t->bos, why));
    TRY(json_config(config, t, why));
out:
    return e;
}

static err open_model(const struct spm_proto *p, json_t *config, struct tokenizer *t, struct why *why)
{
    err e;
    json_t *added = NULL;
    struct spm_steps steps = {.trim_spaces = p->trim_spaces, .prefix = p->prefix, .escape = p->escape,
                              .charsmap = p->charsmap, .charsmap_bytes = p->charsmap_bytes,
                              .keep = &t->normalized.trie};
    TRY(check(p, why));
    TRY(list_added(config, &added, why));
    TRY(fill_vocab(p, added, t, why));
    TRY(spm_add_steps(t, &steps, why));
    t->model = p->model == SPM_BPE ? TOK_SPM : TOK_UNIGRAM;
    if (p->model == SPM_BPE)
        TRY(spm_open_scores(t, p->unk, p->byte_fallback, why));
    else
        TRY(unigram_init(&t->unigram, &t->vocab, p->unk, p->byte_fallback, why));
    t->unigram.single = true;
    TRY(add_tokens(p, added, t, why));
    TRY(around(p, config, t, why));
    TRY(pipeline_finish(t, why));
out:
    json_decref(added);
    return e;
}

err tokenizer_open_spm(const void *proto, size_t len, const char *config, size_t config_len, struct tokenizer **out,
                       struct why *why)
{
    err e;
    struct spm_proto p = {0};
    json_t *conf = NULL;
    struct tokenizer *t = NULL;
    TRY(spm_proto_read(proto, len, &p, why));
    if (config)
        TRY(json_parse("tokenizer_config.json", config, config_len, &conf, why));
    t = pipeline_new();
    if (!t)
        FAIL(ERR_NOMEM, "tokenizer");
    TRY(open_model(&p, conf, t, why));
    *out = t;
    t = NULL;
out:
    tokenizer_close(t);
    json_decref(conf);
    spm_proto_fini(&p);
    return e;
}
