/* vocab.h - the table of pieces: id -> string, score, type, and string -> id.
 *
 * Ids may have holes (added tokens of tokenizer.json need not be contiguous);
 * a hole has no text, type UNUSED, and is never found. A piece that only the
 * added-token matcher may produce has in_model == false, so that no merge and
 * no best path can turn a user's text into a control token.
 */
#ifndef CORDEE_TOKENIZER_VOCAB_H
#define CORDEE_TOKENIZER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { VOCAB_MAX_IDS = 1 << 24, VOCAB_MAX_PIECE_BYTES = 1 << 16 };

struct vocab_piece {
    const char *text; /* owned by the vocab, NUL-terminated; NULL: hole */
    uint32_t len;
    uint8_t type; /* enum tok_type */
    bool in_model;
    double score;
};

struct vocab {
    struct vocab_piece *piece; /* [n] */
    size_t n;
    uint32_t *slot; /* hash table of id + 1 */
    size_t mask;
    int32_t byte_id[256]; /* ids of <0x00>..<0xFF>, or -1 */
    struct vocab_chunk *chunks; /* text storage */
};

/* n ids, all holes. */
MUST_CHECK err vocab_init(struct vocab *v, size_t n, struct why *why);
void vocab_fini(struct vocab *v);

/* Fills a hole with a copy of text. ERR_FORMAT: id out of range or taken, or
 * the string is there already under another id. */
MUST_CHECK err vocab_put(struct vocab *v, int32_t id, const char *text, size_t len, double score, uint8_t type,
                         bool in_model, struct why *why);

/* -1: none. */
int32_t vocab_find(const struct vocab *v, const char *text, size_t len);
/* The same among pieces that the model itself may produce. */
int32_t vocab_find_model(const struct vocab *v, const char *text, size_t len);

/* Fills byte_id from pieces named <0xXX>; returns how many there are. */
int vocab_find_bytes(struct vocab *v);

/* Value 0..255 of a piece named <0xXX>, else -1. */
int vocab_byte_value(const char *text, size_t len);

#endif
