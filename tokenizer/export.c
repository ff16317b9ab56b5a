/* export.c - see export.h.
 *
 * SentencePiece merges whichever neighbours make the piece of the best score; the JSON
 * format wants a list of pairs, best first. So every way to cut a piece in two pieces
 * becomes a pair, and the pairs are ordered by the score of what they make.
 *
 * WordPiece lies in GGUF with U+2581 in front of what starts a word; the JSON format marks
 * the others, with "##".
 */
#include "tokenizer/export.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/pipeline.h"

#define SPACE_MARK "\xe2\x96\x81" /* U+2581 */

static void put_text(struct buf *out, const char *s, size_t len)
{
    buf_put_json(out, s, len, false);
}

/* ---- added tokens and vocabulary ----------------------------------------------------------- */

static bool special(const struct tok_tables *t, size_t id)
{
    return t->pieces[id].type == TOKEN_CONTROL || t->pieces[id].type == TOKEN_UNKNOWN || (int)id == t->unk;
}

static void put_added(const struct tok_tables *t, struct buf *out)
{
    const char *comma = "";
    buf_puts(out, "\"added_tokens\":[");
    for (size_t i = 0; i < t->n_pieces; i++) {
        if (!special(t, i) && t->pieces[i].type != TOKEN_USER_DEFINED)
            continue;
        buf_printf(out, "%s\n{\"id\":%zu,\"content\":", comma, i);
        put_text(out, t->pieces[i].text, t->pieces[i].len);
        buf_printf(out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":%s}",
                   special(t, i) ? "true" : "false");
        comma = ",";
    }
    buf_puts(out, "],\n");
}

/* A piece as the JSON format spells it. */
static void put_piece(const struct tok_tables *t, size_t id, struct buf *out)
{
    const struct tok_piece *p = &t->pieces[id];
    const size_t mark = strlen(SPACE_MARK);
    if (t->model != TOK_WORDPIECE || special(t, id) || p->type == TOKEN_USER_DEFINED || p->text[0] == '[') {
        put_text(out, p->text, p->len);
    } else if (p->len >= mark && memcmp(p->text, SPACE_MARK, mark) == 0) {
        put_text(out, p->text + mark, p->len - mark);
    } else {
        struct buf rest;
        buf_init(&rest);
        buf_puts(&rest, "##");
        buf_put(&rest, p->text, p->len);
        put_text(out, rest.data ? rest.data : "", rest.len);
        out->failed = out->failed || rest.failed;
        buf_fini(&rest);
    }
}

static void put_vocab(const struct tok_tables *t, struct buf *out)
{
    buf_puts(out, "\"vocab\":{");
    for (size_t i = 0; i < t->n_pieces; i++) {
        buf_puts(out, i ? ",\n" : "\n");
        put_piece(t, i, out);
        buf_printf(out, ":%zu", i);
    }
    buf_putc(out, '}');
}

/* ---- merges ----------------------------------------------------------------------------------- */

static void put_pair(struct buf *out, bool first, const char *left, size_t left_len, const char *right,
                     size_t right_len)
{
    buf_puts(out, first ? "\n[" : ",\n[");
    put_text(out, left, left_len);
    buf_putc(out, ',');
    put_text(out, right, right_len);
    buf_putc(out, ']');
}

static void put_listed_merges(const struct tok_tables *t, struct buf *out)
{
    for (size_t i = 0; i < t->n_merges; i++) {
        const struct tok_merge *m = &t->merges[i];
        put_pair(out, i == 0, m->left, m->left_len, m->right, m->right_len);
    }
}

struct by_score {
    float score;
    uint32_t id;
};

static int best_first(const void *a, const void *b)
{
    const struct by_score *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static bool mergeable(const struct tok_tables *t, int32_t id)
{
    if (id < 0 || id == t->unk)
        return false;
    uint8_t type = t->pieces[id].type;
    return type == TOKEN_NORMAL || type == TOKEN_USER_DEFINED || type == TOKEN_UNUSED || type == 0;
}

static err put_implied_merges(const struct tok_tables *t, const struct tokenizer *tok, struct buf *out,
                              struct why *why)
{
    struct by_score *order = malloc(t->n_pieces * sizeof *order);
    bool first = true;
    if (!order)
        return why_set(why, ERR_NOMEM, "tokenizer: merges");
    for (size_t i = 0; i < t->n_pieces; i++)
        order[i] = (struct by_score){t->pieces[i].score, (uint32_t)i};
    qsort(order, t->n_pieces, sizeof *order, best_first);
    for (size_t i = 0; i < t->n_pieces; i++) {
        const struct tok_piece *p = &t->pieces[order[i].id];
        if (!mergeable(t, (int32_t)order[i].id))
            continue;
        for (uint32_t at = 1; at < p->len; at++) {
            if (((unsigned char)p->text[at] & 0xc0) == 0x80 ||
                !mergeable(t, tokenizer_find(tok, p->text, at)) ||
                !mergeable(t, tokenizer_find(tok, p->text + at, p->len - at)))
                continue;
            put_pair(out, first, p->text, at, p->text + at, p->len - at);
            first = false;
        }
    }
    free(order);
    return ERR_OK;
}

/* ---- what stands around the model ------------------------------------------------------------------ */

static void put_id(struct buf *out, const char *name, const struct tok_tables *t, int id)
{
    buf_printf(out, "\"%s\":", name);
    if (id >= 0)
        put_text(out, t->pieces[id].text, t->pieces[id].len);
    else
        buf_puts(out, "null");
}

/* What add_special puts around a text: BOS and EOS, or [CLS] and [SEP]. */
static void put_template(const struct tok_tables *t, struct buf *out)
{
    const bool bert = t->model == TOK_WORDPIECE;
    const int first = bert && t->cls >= 0 ? t->cls : t->bos, last = bert && t->sep >= 0 ? t->sep : t->eos;
    const int ids[2] = {t->add_bos || bert ? first : -1, t->add_eos || bert ? last : -1};
    if (ids[0] < 0 && ids[1] < 0) {
        buf_puts(out, "\"post_processor\":null,\n");
        return;
    }
    buf_puts(out, "\"post_processor\":{\"type\":\"TemplateProcessing\"");
    for (int pair = 0; pair < 2; pair++) {
        buf_printf(out, ",\"%s\":[", pair ? "pair" : "single");
        for (int k = 0; k <= pair; k++) {
            for (int at = 0; at < 2; at++) {
                if (at)
                    buf_printf(out, "{\"Sequence\":{\"id\":\"%c\",\"type_id\":%d}}%s", 'A' + k, k, ids[1] >= 0 ? "," : "");
                if (ids[at] < 0)
                    continue;
                buf_puts(out, "{\"SpecialToken\":{");
                put_id(out, "id", t, ids[at]);
                buf_printf(out, ",\"type_id\":%d}}%s", k, at ? "" : ",");
            }
            buf_puts(out, k < pair ? "," : "");
        }
        buf_putc(out, ']');
    }
    buf_puts(out, ",\"special_tokens\":{");
    for (int at = 0; at < 2; at++) {
        if (ids[at] < 0 || (at && ids[0] == ids[1]))
            continue;
        buf_puts(out, at && ids[0] >= 0 ? "," : "");
        put_text(out, t->pieces[ids[at]].text, t->pieces[ids[at]].len);
        buf_puts(out, ":{");
        put_id(out, "id", t, ids[at]);
        buf_printf(out, ",\"ids\":[%d],\"tokens\":[", ids[at]);
        put_text(out, t->pieces[ids[at]].text, t->pieces[ids[at]].len);
        buf_puts(out, "]}");
    }
    buf_puts(out, "}},\n");
}

static err put_byte_level(const struct tok_tables *t, struct buf *out, struct why *why)
{
    const char *const *pattern;
    bool whole_words, nfc;
    err e = pretok_patterns(t->pre, &pattern, &whole_words, &nfc, why);
    if (e != ERR_OK)
        return e;
    buf_printf(out, "\"normalizer\":%s,\n\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[",
               nfc ? "{\"type\":\"NFC\"}" : "null");
    for (; *pattern; pattern++) {
        buf_puts(out, "\n{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        put_text(out, *pattern, strlen(*pattern));
        buf_puts(out, "},\"behavior\":\"Isolated\",\"invert\":false},");
    }
    buf_puts(out, "\n{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}]},\n"
                  "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},\n");
    put_template(t, out);
    buf_printf(out, "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
                    "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":%s,\n",
               whole_words ? "true" : "false");
    put_vocab(t, out);
    buf_puts(out, ",\n\"merges\":[");
    put_listed_merges(t, out);
    buf_puts(out, "]}}\n");
    return ERR_OK;
}

static bool has_bytes(const struct tok_tables *t)
{
    for (size_t i = 0; i < t->n_pieces; i++)
        if (t->pieces[i].type == TOKEN_BYTE)
            return true;
    return false;
}

static err put_sentencepiece(const struct tok_tables *t, const struct tokenizer *tok, struct buf *out,
                             struct why *why)
{
    if (t->charsmap_bytes)
        return why_set(why, ERR_UNSUPPORTED, "a tokenizer with a character map cannot be exported");
    buf_puts(out, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    if (t->add_space_prefix)
        buf_puts(out, "{\"type\":\"Prepend\",\"prepend\":\"" SPACE_MARK "\"},");
    buf_puts(out, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE_MARK "\"}]},\n"
                  "\"pre_tokenizer\":null,\n\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
                  "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" SPACE_MARK "\"},\"content\":\" \"},"
                  "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}");
    if (t->add_space_prefix)
        buf_puts(out, ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}");
    buf_puts(out, "]},\n");
    put_template(t, out);
    buf_puts(out, "\"model\":{\"type\":\"BPE\",\"dropout\":null,");
    put_id(out, "unk_token", t, t->unk);
    buf_printf(out, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,"
                    "\"byte_fallback\":%s,\"ignore_merges\":false,\n", has_bytes(t) ? "true" : "false");
    put_vocab(t, out);
    buf_puts(out, ",\n\"merges\":[");
    err e = put_implied_merges(t, tok, out, why);
    buf_puts(out, "]}}\n");
    return e;
}

static void put_wordpiece(const struct tok_tables *t, struct buf *out)
{
    const char *lower = tables_uncased(t) ? "true" : "false";
    buf_printf(out, "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
                    "\"strip_accents\":%s,\"lowercase\":%s},\n\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\n"
                    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\n", lower, lower);
    put_template(t, out);
    buf_puts(out, "\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"##\","
                  "\"max_input_chars_per_word\":100,");
    put_id(out, "unk_token", t, t->unk);
    buf_puts(out, ",\n");
    put_vocab(t, out);
    buf_puts(out, "}}\n");
}

err tokenizer_put_json(const struct tok_tables *t, const struct tokenizer *tok, struct buf *out, struct why *why)
{
    err e;
    buf_puts(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    put_added(t, out);
    switch (t->model) {
    case TOK_BPE:
        e = put_byte_level(t, out, why);
        break;
    case TOK_SPM:
        e = put_sentencepiece(t, tok, out, why);
        break;
    case TOK_WORDPIECE:
        put_wordpiece(t, out);
        e = ERR_OK;
        break;
    default:
        e = why_set(why, ERR_UNSUPPORTED,
                    "a unigram tokenizer cannot be exported from a GGUF file; use the model's own files");
    }
    if (e == ERR_OK && out->failed)
        e = why_set(why, ERR_NOMEM, "tokenizer.json");
    return e;
}

err tokenizer_put_config(const struct tok_tables *t, const char *chat_template, struct buf *out, struct why *why)
{
    const struct {
        const char *name;
        int id;
    } tokens[] = {{"bos_token", t->bos}, {"eos_token", t->eos}, {"unk_token", t->unk}, {"pad_token", t->pad}};
    buf_puts(out, "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\n\"clean_up_tokenization_spaces\":false");
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
        if (tokens[i].id >= 0) {
            buf_puts(out, ",\n");
            put_id(out, tokens[i].name, t, tokens[i].id);
        }
    if (chat_template) {
        buf_puts(out, ",\n\"chat_template\":");
        put_text(out, chat_template, strlen(chat_template));
    }
    buf_puts(out, "}\n");
    return out->failed ? why_set(why, ERR_NOMEM, "tokenizer_config.json") : ERR_OK;
}
