/* tokenizer.h - text to token ids and back.
 *
 * A tokenizer is built from tables (pieces, scores, merges, types) that some
 * reader took from GGUF metadata, tokenizer.json or tokenizer.model; it opens no
 * file itself. After tokenizer_open() it is immutable: any number of threads may
 * encode and decode at once, each with its own scratch inside the calls.
 *
 * Text of users never turns into control tokens unless `parse_special` is set.
 */
#ifndef CORDEE_TOKENIZER_TOKENIZER_H
#define CORDEE_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct tokenizer;

enum tok_model {
    TOK_SPM,       /* SentencePiece BPE: scores decide merges, byte fallback */
    TOK_BPE,       /* byte-level BPE: merge ranks, pre-tokenizer regex */
    TOK_UNIGRAM,   /* SentencePiece unigram: Viterbi over scores */
    TOK_WORDPIECE, /* BERT: greedy longest match */
};

enum tok_type { /* as in GGUF's tokenizer.ggml.token_type */
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

struct tok_piece {
    const char *text; /* vocabulary string as in the file (byte-level BPE: in its printable alphabet) */
    uint32_t len;     /* bytes; may contain NUL */
    float score;      /* SPM and unigram; 0 otherwise */
    uint8_t type;     /* enum tok_type */
};

struct tok_merge {
    const char *left, *right;
    uint32_t left_len, right_len;
};

/* All tables are borrowed for the duration of tokenizer_open() and copied. */
struct tok_tables {
    enum tok_model model;
    const char *pre; /* name of a pre-tokenizer ("llama-bpe", "qwen2", ...; GGUF's tokenizer.ggml.pre); NULL: default */
    const struct tok_piece *pieces;
    size_t n_pieces;
    const struct tok_merge *merges; /* best first */
    size_t n_merges;
    int bos, eos, unk, pad, sep, cls, mask; /* ids, or -1 */
    bool add_bos, add_eos;                  /* what add_special does */
    bool add_space_prefix;                  /* SPM, unigram: put U+2581 before the text */
    bool remove_extra_spaces;               /* unigram / T5 normaliser */
    bool escape_spaces;                     /* SPM: ' ' <-> U+2581; default true */
    const void *charsmap; /* SentencePiece precompiled_charsmap, or NULL */
    size_t charsmap_bytes;
};

/* ERR_FORMAT  tables that contradict each other (id out of range, duplicate piece ...)
 * ERR_UNSUPPORTED  unknown pre-tokenizer name (the reason lists the known ones) */
MUST_CHECK err tokenizer_open(const struct tok_tables *t, struct tokenizer **out, struct why *why);

/* The same from the bytes of a tokenizer.json (plus tokenizer_config.json, may
 * be NULL: bos/eos/add_bos), or of a SentencePiece tokenizer.model. Everything
 * in it that changes the ids is honoured or refused with a reason. */
MUST_CHECK err tokenizer_open_json(const char *json, size_t len, const char *config, size_t config_len,
                                   struct tokenizer **out, struct why *why);
MUST_CHECK err tokenizer_open_spm(const void *proto, size_t len, const char *config, size_t config_len,
                                  struct tokenizer **out, struct why *why);
void tokenizer_close(struct tokenizer *t); /* NULL is fine */

enum {
    ENCODE_ADD_SPECIAL = 1,   /* BOS/EOS (or the post-processor's template) as the model wants */
    ENCODE_PARSE_SPECIAL = 2, /* control tokens written in the text become their ids */
};

struct tok_ids {
    int32_t *id; /* owned; free with tok_ids_fini */
    size_t n, cap;
};
void tok_ids_fini(struct tok_ids *ids);

/* Appends to *ids. text need not be NUL-terminated and may contain NUL.
 * ERR_INVAL: not UTF-8 (the reason names the byte offset). O(n log n) at worst. */
MUST_CHECK err tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, unsigned flags,
                                struct tok_ids *ids, struct why *why);

/* One span of text with its own flags: templates mark what comes from users. */
struct tok_span {
    const char *text;
    size_t len;
    bool parse_special;
};
/* As if the spans were one text (pre-tokenization crosses their edges), except
 * that control tokens are recognised only inside spans that allow it. */
MUST_CHECK err tokenizer_encode_spans(const struct tokenizer *t, const struct tok_span *spans, size_t n,
                                      unsigned flags, struct tok_ids *ids, struct why *why);

/* Appends the bytes of ids to out, as one text (an SPM leading space is removed
 * at the start). Ids out of range are an ERR_INVAL.
 * skip_special: control tokens print nothing. */
MUST_CHECK err tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                                struct buf *out, struct why *why);

/* Streaming decode: feed ids one by one, get whole UTF-8 characters only.
 * Zero-initialise through tok_stream_init; the pieces concatenated equal
 * tokenizer_decode of all ids (bytes that can never become valid come out as
 * U+FFFD, at the latest at tok_stream_end). One exception: tokenizer_decode turns a
 * whole run of <0xXX> pieces into U+FFFD if any of it is invalid, as HF does;
 * a stream has already sent the characters that were complete before. */
struct tok_stream {
    const struct tokenizer *t;
    bool skip_special, at_start;
    bool bad_run;      /* inside a run of byte pieces that is not UTF-8 */
    size_t strip_left; /* characters that may still be dropped at the text's start */
    struct buf held;   /* bytes of an unfinished character */
};
void tok_stream_init(struct tok_stream *s, const struct tokenizer *t, bool skip_special, bool at_start);
void tok_stream_fini(struct tok_stream *s);
MUST_CHECK err tok_stream_push(struct tok_stream *s, int32_t id, struct buf *out, struct why *why);
MUST_CHECK err tok_stream_end(struct tok_stream *s, struct buf *out, struct why *why);

/* "BPE", "SentencePiece BPE", "unigram" or "WordPiece"; static storage. */
const char *tokenizer_kind(const struct tokenizer *t);
int tokenizer_size(const struct tokenizer *t);
int tokenizer_bos(const struct tokenizer *t); /* -1: none */
int tokenizer_eos(const struct tokenizer *t);
/* Vocabulary string of an id (not decoded); NULL if out of range. */
const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *len);
enum tok_type tokenizer_type(const struct tokenizer *t, int32_t id);
/* Bytes that one id stands for in the middle of a text (never cut, may be half a
 * character). Appends. */
MUST_CHECK err tokenizer_token_bytes(const struct tokenizer *t, int32_t id, struct buf *out, struct why *why);
/* Id of an exact vocabulary string; -1 if there is none. */
int32_t tokenizer_find(const struct tokenizer *t, const char *piece, size_t len);
/* End-of-generation ids (eos and the end-of-turn tokens that the vocabulary
 * names, e.g. <|eot_id|>, <end_of_turn>, <|im_end|>). */
size_t tokenizer_eog(const struct tokenizer *t, const int32_t **ids);
/* Adds end ids that some other file of the model names (generation_config.json).
 * Those known already or out of range are ignored. Only right after opening, before
 * the tokenizer is shared. ERR_NOMEM. */
MUST_CHECK err tokenizer_add_end(struct tokenizer *t, const int32_t *ids, size_t n, struct why *why);

#endif
