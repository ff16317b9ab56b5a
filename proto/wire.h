/* wire.h - the rank-to-rank message: a fixed header, a batch descriptor, activations.
 *
 * Little-endian, asserted offsets. A message is one MPI message:
 *
 *   ACTS    msg_head | descriptor (desc_bytes) | pad to 64 | x [n_rows][n_embd]
 *           rank 0 -> stage 1 (no x), stage k -> stage k+1
 *   TOKENS  msg_head | n_rows row records
 *           last stage -> rank 0 (all results), and -> stage 1 (the ring: tokens only)
 *   STOP    msg_head          rank 0 -> all, forwarded: drain and end
 *
 * Every message carries the epoch, a sequence number per (sender, receiver) and a
 * checksum over all that follows the head: a 1 MB send to a dead rank returns
 * success in MPICH, so nothing is believed that was not checked. Buffers hold the
 * whole message; codecs never read past `len` whatever the bytes say.
 */
#ifndef CORDEE_PROTO_WIRE_H
#define CORDEE_PROTO_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define WIRE_MAGIC 0x44524f43u /* "CORD" */
#define WIRE_VERSION 1

/*     kind    name      */
#define WIRE_KINDS(X)  \
    X(ACTS, "acts")    \
    X(TOKENS, "tokens") \
    X(STOP, "stop")

enum wire_kind {
#define WIRE_ENUM(id, name) WIRE_##id,
    WIRE_KINDS(WIRE_ENUM)
#undef WIRE_ENUM
    WIRE_KIND_COUNT
};

enum wire_type { WIRE_F32, WIRE_F16, WIRE_BF16, WIRE_TYPE_COUNT };

struct msg_head {
    uint32_t magic;
    uint16_t version;
    uint16_t kind; /* enum wire_kind */
    uint32_t epoch;
    uint32_t sequence; /* per sender and receiver, from 0 */
    uint32_t step;     /* micro-batch number */
    uint32_t n_rows;
    uint32_t desc_bytes;
    uint32_t x_type; /* enum wire_type; 0 without activations */
    uint64_t body_bytes; /* all that follows this head */
    uint64_t body_hash;  /* XXH3-64 of it, seeded with the epoch */
    uint64_t reserved[2];
};
#define WIRE_AT(field, off) _Static_assert(offsetof(struct msg_head, field) == (off), "wire layout: " #field)
WIRE_AT(magic, 0);
WIRE_AT(version, 4);
WIRE_AT(kind, 6);
WIRE_AT(epoch, 8);
WIRE_AT(sequence, 12);
WIRE_AT(step, 16);
WIRE_AT(n_rows, 20);
WIRE_AT(desc_bytes, 24);
WIRE_AT(x_type, 28);
WIRE_AT(body_bytes, 32);
WIRE_AT(body_hash, 40);
_Static_assert(sizeof(struct msg_head) == 64, "wire layout: head");

/* Completes a message in place: data[0..64) is the head to be filled (kind, step,
 * n_rows, desc_bytes, x_type are the caller's), the body follows. */
void wire_seal(void *data, size_t len, uint32_t epoch, uint32_t sequence);

/* Checks everything: length, magic, version, kind, epoch, sequence, checksum.
 * ERR_FORMAT  damaged; ERR_PEER  of another epoch, out of order, duplicated.
 * On success *head points into data (64-byte aligned buffer). */
MUST_CHECK err wire_check(const void *data, size_t len, uint32_t epoch, uint32_t sequence,
                          const struct msg_head **head, struct why *why);

/* ---- batch descriptor -------------------------------------------------------
 * A stage forwards the descriptor bytes as they came; stage 1 first writes the
 * tokens that arrive over the ring into them (wire_batch_patch). */

enum {
    WIRE_ROW_RING = 0x80, /* flag: the token comes over the ring, from `target`'s step (see wire_row) */
};

struct wire_row {
    int32_t token; /* WIRE_ROW_RING: unknown yet, comes over the ring */
    int32_t pos;
    int32_t target;
    uint16_t seq;
    uint8_t flags; /* model/batch.h's ROW_* and WIRE_ROW_RING */
    uint8_t n_top;
};
_Static_assert(sizeof(struct wire_row) == 16, "wire layout: row");

/* A sequence that the last stage meets for the first time in this batch (or again
 * after its slot was reused): its sampler. Follows in the descriptor. */
struct wire_sampler {
    float temperature, top_p, min_p;
    float repetition_penalty, presence_penalty, frequency_penalty;
    int32_t top_k;
    int32_t min_tokens;
    uint64_t seed;
    uint32_t choice;
    uint32_t n_bias, n_end, n_prompt;
    const void *bias;    /* [n_bias] {int32 token, float bias} */
    const int32_t *end;  /* [n_end] */
    const int32_t *prompt; /* [n_prompt] */
};

struct wire_seq {
    uint32_t slot;
    uint32_t n_pages;
    const uint32_t *pages;
    const struct wire_sampler *sampler; /* NULL: known already */
};

struct wire_batch {
    uint32_t n_rows, n_gen, n_seqs;
    const struct wire_row *rows;
    const struct wire_seq *seqs;
};

/* Bytes the descriptor will take (to size buffers); a multiple of 64. */
size_t wire_batch_bytes(const struct wire_batch *b);
/* dst: wire_batch_bytes() bytes. */
void wire_put_batch(void *dst, const struct wire_batch *b);

struct wire_limits {
    uint32_t max_rows, max_seqs, max_slots, n_pages, max_context;
    int32_t n_vocab;
};
/* Decodes and checks every count, index, flag and order against `lim`. `out` and
 * what it points to live in `space` (space_bytes; wire_batch_space(lim) is always
 * enough) and in src. */
MUST_CHECK err wire_get_batch(const void *src, size_t len, const struct wire_limits *lim, void *space,
                              size_t space_bytes, struct wire_batch *out, struct why *why);
size_t wire_batch_space(const struct wire_limits *lim);
/* Writes row i's token into descriptor bytes (after the ring brought it), or marks it dead. */
void wire_batch_patch(void *desc, uint32_t row, int32_t token, int dead);

/* ---- results ------------------------------------------------------------- */
struct wire_top {
    int32_t token;
    float logprob;
};
struct wire_result {
    uint32_t slot;
    int32_t pos, token, argmax;
    float logprob;
    uint8_t flags, n_top;
    uint16_t ended; /* 1: the sampled token ended the sequence (an end token) */
    const struct wire_top *top; /* [n_top] */
};
size_t wire_result_bytes(const struct wire_result *r);
size_t wire_put_result(void *dst, const struct wire_result *r);
/* Reads one record at *at and advances it. ERR_FORMAT past the end or out of range. */
MUST_CHECK err wire_get_result(const void *src, size_t len, size_t *at, const struct wire_limits *lim,
                               struct wire_result *out, struct why *why);

/* ---- activations ---------------------------------------------------------- */
size_t wire_x_bytes(enum wire_type t, size_t n);
void wire_put_x(void *dst, enum wire_type t, const float *x, size_t n);
void wire_get_x(float *x, enum wire_type t, const void *src, size_t n);

#endif
