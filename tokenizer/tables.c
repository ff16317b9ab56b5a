/* tables.c - a pipeline from GGUF's tables.
 *
 * GGUF says which kind of model, the pieces with types and scores or merges, a
 * pre-tokenizer's name and a few flags; everything else about the kind is
 * convention, and it is written down here and nowhere else.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/pipeline.h"
#include "tokenizer/spm_steps.h"
#include "tokenizer/text.h"

static err check_id(const struct tok_tables *tab, const char *name, int id, struct why *why)
{
    if (id < -1 || (id >= 0 && (size_t)id >= tab->n_pieces))
        return why_set(why, ERR_FORMAT, "tokenizer: %s id %d of %zu pieces", name, id, tab->n_pieces);
    return ERR_OK;
}

static err check_tables(const struct tok_tables *tab, struct why *why)
{
    const struct { const char *name; int id; } ids[] = {
        {"bos", tab->bos}, {"eos", tab->eos}, {"unk", tab->unk}, {"pad", tab->pad},
        {"sep", tab->sep}, {"cls", tab->cls}, {"mask", tab->mask},
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        err e = check_id(tab, ids[i].name, ids[i].id, why);
        if (e != ERR_OK)
            return e;
    }
    for (size_t i = 0; i < tab->n_pieces; i++) {
        if (tab->pieces[i].type > TOKEN_BYTE)
            return why_set(why, ERR_FORMAT, "tokenizer: piece %zu has type %d", i, tab->pieces[i].type);
        if (!isfinite(tab->pieces[i].score))
            return why_set(why, ERR_FORMAT, "tokenizer: piece %zu has no finite score", i);
    }
    if (tab->n_merges > VOCAB_MAX_IDS)
        return why_set(why, ERR_FORMAT, "tokenizer: %zu merges", tab->n_merges);
    return ERR_OK;
}

static err fill_vocab(struct tokenizer *t, const struct tok_tables *tab, struct why *why)
{
    err e;
    TRY(vocab_init(&t->vocab, tab->n_pieces, why));
    for (size_t i = 0; i < tab->n_pieces; i++) {
        const struct tok_piece *p = &tab->pieces[i];
        uint8_t type = p->type ? p->type : TOKEN_NORMAL;
        bool in_model = type == TOKEN_NORMAL || type == TOKEN_USER_DEFINED || type == TOKEN_UNUSED;
        TRY(vocab_put(&t->vocab, (int32_t)i, p->text, p->len, p->score, type, in_model, why));
    }
    if (tab->unk >= 0) {
        t->vocab.piece[tab->unk].type = TOKEN_UNKNOWN;
        t->vocab.piece[tab->unk].in_model = false;
    }
    e = ERR_OK;
out:
    return e;
}


/* SPM and unigram: SentencePiece's normaliser in front, its decoder behind. */
static err sentencepiece(struct tokenizer *t, const struct tok_tables *tab, struct why *why)
{
    struct spm_steps steps = {.trim_spaces = tab->remove_extra_spaces, .prefix = tab->add_space_prefix,
                              .escape = tab->escape_spaces, .charsmap = tab->charsmap,
                              .charsmap_bytes = tab->charsmap_bytes};
    return spm_add_steps(t, &steps, why);
}

static err open_spm(struct tokenizer *t, const struct tok_tables *tab, struct why *why)
{
    err e;
    TRY(sentencepiece(t, tab, why));
    TRY(spm_open_scores(t, tab->unk, vocab_find_bytes(&t->vocab) == 256, why));
out:
    return e;
}

static err open_bpe(struct tokenizer *t, const struct tok_tables *tab, struct why *why)
{
    err e;
    bool whole_words = false, nfc = false;
    TRY(pretok_named(tab->pre, &t->pre, &whole_words, &nfc, why));
    if (nfc)
        t->norm.step[t->norm.n++] = (struct norm_step){.kind = NORM_FORM, .form = {.compose = true}};
    TRY(bpe_init(&t->bpe, &t->vocab, tab->n_merges, why));
    for (size_t i = 0; i < tab->n_merges; i++)
        TRY(bpe_put_merge(&t->bpe, &tab->merges[i], (uint32_t)i, why));
    t->bpe.whole_words = whole_words;
    t->bpe.unk = tab->unk;
    t->raw_added_bytes = true;
    TRY(dec_list_add_text(&t->dec, DEC_BYTE_LEVEL, NULL, NULL, 0, why));
out:
    return e;
}

static err open_unigram(struct tokenizer *t, const struct tok_tables *tab, struct why *why)
{
    err e;
    TRY(sentencepiece(t, tab, why));
    bool bytes = vocab_find_bytes(&t->vocab) == 256;
    TRY(unigram_init(&t->unigram, &t->vocab, tab->unk, bytes, why));
out:
    return e;
}

bool tables_uncased(const struct tok_tables *tab)
{
    for (size_t i = 0; i < tab->n_pieces; i++) {
        const struct tok_piece *p = &tab->pieces[i];
        for (uint32_t k = 0; p->type == TOKEN_NORMAL && k < p->len && p->text[0] != '['; k++)
            if (p->text[k] >= 'A' && p->text[k] <= 'Z')
                return false;
    }
    return true;
}

static err open_wordpiece(struct tokenizer *t, const struct tok_tables *tab, struct why *why)
{
    err e;
    bool lower = tables_uncased(tab);
    t->norm.step[t->norm.n++] = (struct norm_step){
        .kind = NORM_BERT, .clean = true, .ideographs = true, .accents = lower, .lower = lower};
    TRY(pre_list_add(&t->pre, (struct pre_step){.kind = PRE_SPACE, .behavior = PRE_REMOVED}, why));
    TRY(pre_list_add(&t->pre, (struct pre_step){.kind = PRE_PUNCT, .behavior = PRE_ISOLATED}, why));
    TRY(wordpiece_init(&t->wordpiece, &t->vocab, META, strlen(META), true, tab->unk, 100, why));
    TRY(dec_list_add_text(&t->dec, DEC_WORDPIECE, META, NULL, 0, why));
    t->dec.step[t->dec.n - 1].drop = true;
    t->dec.step[t->dec.n - 1].clean_up = true;
out:
    return e;
}

/* Blanks behind these belong to the token; GGUF does not carry the flag. */
static bool strips_right(const struct tokenizer *t, const struct vocab_piece *p)
{
    static const char *const phi3[] = {"<|assistant|>", "<|system|>", "<|user|>", "<|end|>"};
    bool is_phi3 = t->model == TOK_SPM;
    for (size_t i = 0; i < 4 && is_phi3; i++)
        is_phi3 = vocab_find(&t->vocab, phi3[i], strlen(phi3[i])) >= 0;
    if (!is_phi3)
        return false;
    for (size_t i = 0; i < 4; i++)
        if (strcmp(p->text, phi3[i]) == 0)
            return true;
    return strncmp(p->text, "<|placeholder", 13) == 0 || strcmp(p->text, "</s>") == 0;
}

static err add_tokens(struct tokenizer *t, const struct tok_tables *tab, struct why *why)
{
    err e = ERR_OK;
    for (size_t i = 0; i < t->vocab.n; i++) {
        const struct vocab_piece *p = &t->vocab.piece[i];
        bool special = p->type == TOKEN_CONTROL || p->type == TOKEN_UNKNOWN;
        if (!special && p->type != TOKEN_USER_DEFINED)
            continue;
        struct added_token token = {.id = (int32_t)i, .special = special, .rstrip = strips_right(t, p),
                                    .lstrip = tab->model == TOK_BPE && (int)i == tab->mask};
        TRY(pipeline_add_token(t, token, false, why));
    }
out:
    return e;
}

static err add_template(struct tokenizer *t, const struct tok_tables *tab, struct why *why)
{
    err e = ERR_OK;
    bool bert = tab->model == TOK_WORDPIECE;
    int first = bert && tab->cls >= 0 ? tab->cls : tab->bos;
    int last = bert && tab->sep >= 0 ? tab->sep : tab->eos;
    if (first >= 0 && (tab->add_bos || bert))
        TRY(pipeline_add_before(t, first, why));
    if (last >= 0 && (tab->add_eos || bert))
        TRY(pipeline_add_after(t, last, why));
    t->bos = tab->bos;
    t->eos = tab->eos;
out:
    return e;
}

err tokenizer_open(const struct tok_tables *tab, struct tokenizer **out, struct why *why)
{
    err e;
    struct tokenizer *t = pipeline_new();
    if (!t)
        FAIL(ERR_NOMEM, "tokenizer");
    t->model = tab->model;
    TRY(check_tables(tab, why));
    TRY(fill_vocab(t, tab, why));
    switch (tab->model) {
    case TOK_SPM:
        TRY(open_spm(t, tab, why));
        break;
    case TOK_BPE:
        TRY(open_bpe(t, tab, why));
        break;
    case TOK_UNIGRAM:
        TRY(open_unigram(t, tab, why));
        break;
    case TOK_WORDPIECE:
        TRY(open_wordpiece(t, tab, why));
        break;
    default:
        FAIL(ERR_UNSUPPORTED, "tokenizer: kind %d", (int)tab->model);
    }
    TRY(add_tokens(t, tab, why));
    TRY(add_template(t, tab, why));
    TRY(pipeline_finish(t, why));
    *out = t;
    t = NULL;
out:
    tokenizer_close(t);
    return e;
}
