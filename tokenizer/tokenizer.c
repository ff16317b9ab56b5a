/* tokenizer.c - making, finishing, asking and closing a tokenizer. */
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/ids.h"
#include "tokenizer/pipeline.h"

struct tokenizer *pipeline_new(void)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->bos = t->eos = -1;
    if (pthread_mutex_init(&t->lock, NULL) != 0) {
        free(t);
        return NULL;
    }
    if (added_init(&t->raw, NULL) != ERR_OK || added_init(&t->normalized, NULL) != ERR_OK) {
        tokenizer_close(t);
        return NULL;
    }
    return t;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    for (struct scratch *s = t->idle, *next; s; s = next) {
        next = s->next;
        scratch_free(s);
    }
    pthread_mutex_destroy(&t->lock);
    bpe_fini(&t->bpe);
    unigram_fini(&t->unigram);
    wordpiece_fini(&t->wordpiece);
    added_fini(&t->raw);
    added_fini(&t->normalized);
    norm_list_fini(&t->norm);
    pre_list_fini(&t->pre);
    dec_list_fini(&t->dec);
    vocab_fini(&t->vocab);
    free(t->eog);
    free(t);
}

err pipeline_add_token(struct tokenizer *t, struct added_token token, bool normalized, struct why *why)
{
    err e;
    const struct vocab_piece *p = &t->vocab.piece[token.id];
    struct norm_scratch s = {0};
    const char *text = p->text;
    size_t len = p->len;
    /* Without a normaliser both sets would see the same text: one pass does. */
    if (!normalized || t->norm.n == 0)
        return added_put(&t->raw, text, len, token, why);
    /* The text to find is normalised like the text it is found in; SentencePiece
     * looks for its pieces as they are. */
    if (t->norm.step[0].kind != NORM_SENTENCEPIECE && utf8_valid_prefix(text, len) == len)
        TRY(normalize(&t->norm, &s, text, len, true, &text, &len, why));
    t->normalized_special |= token.special;
    TRY(added_put(&t->normalized, text, len, token, why));
out:
    norm_scratch_fini(&s);
    return e;
}

static err add_id(int32_t *list, size_t *n, int32_t id, struct why *why)
{
    if (*n == TEMPLATE_MAX_IDS)
        return why_set(why, ERR_UNSUPPORTED, "tokenizer: more than %d special tokens around a text",
                       TEMPLATE_MAX_IDS);
    list[(*n)++] = id;
    return ERR_OK;
}

err pipeline_add_before(struct tokenizer *t, int32_t id, struct why *why)
{
    return add_id(t->before, &t->n_before, id, why);
}

err pipeline_add_after(struct tokenizer *t, int32_t id, struct why *why)
{
    return add_id(t->after, &t->n_after, id, why);
}

/* Names that end a turn or a text in published vocabularies. */
static const char *const end_names[] = {
    "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>",
    "<|calls|>", "<end_of_turn>", "<turn|>", "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<EOT>", "_<EOT>",
    "<end_of_utterance>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>",
    "<|user|>", "<|observation|>",
};

static bool is_end_name(const struct tokenizer *t, const char *name, int32_t *id)
{
    *id = vocab_find(&t->vocab, name, strlen(name));
    if (*id < 0)
        return false;
    uint8_t type = t->vocab.piece[*id].type;
    if (type != TOKEN_CONTROL && type != TOKEN_USER_DEFINED)
        return false;
    /* gpt-oss: <|end|> closes a message, <|return|> and <|call|> the turn. */
    if (strcmp(name, "<|end|>") == 0)
        return vocab_find(&t->vocab, "<|return|>", 10) < 0 || vocab_find(&t->vocab, "<|call|>", 8) < 0;
    /* GLM 4 ends its turn with the next role; others use these names to begin one. */
    if (strcmp(name, "<|user|>") == 0 || strcmp(name, "<|observation|>") == 0)
        return vocab_find(&t->vocab, "[gMASK]", 7) >= 0;
    return true;
}

err pipeline_finish(struct tokenizer *t, struct why *why)
{
    t->eog = malloc((sizeof end_names / sizeof end_names[0] + 1) * sizeof *t->eog);
    if (!t->eog)
        return why_set(why, ERR_NOMEM, "tokenizer: end ids");
    if (t->eos >= 0)
        t->eog[t->n_eog++] = t->eos;
    for (size_t i = 0; i < sizeof end_names / sizeof end_names[0]; i++) {
        int32_t id;
        if (is_end_name(t, end_names[i], &id) && id != t->eos)
            t->eog[t->n_eog++] = id;
    }
    return ERR_OK;
}

err tok_ids_grow(struct tok_ids *ids, struct why *why)
{
    size_t cap = ids->cap ? ids->cap * 2 : 64;
    int32_t *id = realloc(ids->id, cap * sizeof *id);
    if (!id)
        return why_set(why, ERR_NOMEM, "tokenizer: %zu ids", cap);
    ids->id = id;
    ids->cap = cap;
    return ERR_OK;
}

void tok_ids_fini(struct tok_ids *ids)
{
    free(ids->id);
    *ids = (struct tok_ids){0};
}

const char *tokenizer_kind(const struct tokenizer *t)
{
    static const char *const names[] = {[TOK_SPM] = "SentencePiece BPE",
                                        [TOK_BPE] = "BPE",
                                        [TOK_UNIGRAM] = "unigram",
                                        [TOK_WORDPIECE] = "WordPiece"};
    return names[t->model];
}

int tokenizer_size(const struct tokenizer *t)
{
    return (int)t->vocab.n;
}

int tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *len)
{
    if (id < 0 || (size_t)id >= t->vocab.n)
        return NULL;
    const struct vocab_piece *p = &t->vocab.piece[id];
    if (len)
        *len = p->len;
    return p->text ? p->text : "";
}

enum tok_type tokenizer_type(const struct tokenizer *t, int32_t id)
{
    return id < 0 || (size_t)id >= t->vocab.n ? TOKEN_UNUSED : (enum tok_type)t->vocab.piece[id].type;
}

int32_t tokenizer_find(const struct tokenizer *t, const char *piece, size_t len)
{
    return vocab_find(&t->vocab, piece, len);
}

size_t tokenizer_eog(const struct tokenizer *t, const int32_t **ids)
{
    *ids = t->eog;
    return t->n_eog;
}

static bool ends(const struct tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->n_eog; i++)
        if (t->eog[i] == id)
            return true;
    return false;
}

err tokenizer_add_end(struct tokenizer *t, const int32_t *ids, size_t n, struct why *why)
{
    int32_t *grown = realloc(t->eog, (t->n_eog + n + 1) * sizeof *grown);
    if (!grown)
        return why_set(why, ERR_NOMEM, "tokenizer: end tokens");
    t->eog = grown;
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0 && ids[i] < tokenizer_size(t) && !ends(t, ids[i]))
            t->eog[t->n_eog++] = ids[i];
    return ERR_OK;
}
