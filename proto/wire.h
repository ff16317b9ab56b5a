/* wire.h - the rank-to-rank message: a fixed header, a batch descriptor, activations.
 *
 * Little-endian, asserted offsets. A message is one MPI message:
 *
 *   ACTS    msg_head | descriptor (desc_bytes) | pad to 64 | x [n_rows][n_embd]
 *           rank 0 -> stage 1 (no x), stage k -> stage k+1
 *   TOKENS  msg_head | n_rows result records
 *           last stage -> rank 0 (all results), and -> stage 1 (the ring: the
 *           sampled tokens only; see proto/ring.h)
 *   STOP    msg_head          rank 0 -> all, forwarded: drain and end
 *
 * Every message carries the epoch, a sequence number per (sender, receiver) and a
 * checksum over head and body: a 1 MB send to a dead rank returns success in
 * MPICH, so nothing is believed that was not checked. Buffers hold the whole
 * message; codecs never read past `len` whatever the bytes say.
 *
 * The descriptor, every part at a multiple of 8 bytes:
 *
 *   u32 n_rows, n_gen, n_seqs, used_bytes | wire_row [n_rows]
 *   n_seqs times: u32 slot, n_pages, has_sampler, 0 | u32 page [n_pages]
 *                 with a sampler: 64 bytes | bias [n_bias] | end [n_end] | prompt [n_prompt]
 *   zeroes up to a multiple of 64
 *
 * Threads: everything here is a pure function of its arguments.
 * Cost: linear; the checksum runs at memory speed. Nothing allocates.
 */
#ifndef CORDEE_PROTO_WIRE_H
#define CORDEE_PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define WIRE_MAGIC 0x44524f43u /* "CORD" */
#define WIRE_VERSION 2

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
    uint64_t body_hash;  /* XXH3-64 of the body, seeded with that of this head (hash 0) */
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
 * n_rows, desc_bytes, x_type are the caller's), the body follows.
 * data: 8-byte aligned, len >= 64. */
void wire_seal(void *data, size_t len, uint32_t epoch, uint32_t sequence);

/* Checks everything: length, magic, version, kind, epoch, sequence, checksum, and
 * that descriptor and body fit each other.
 * ERR_FORMAT  damaged; ERR_PEER  of another epoch, out of order, duplicated.
 * On success *head points into data (8-byte aligned, see wire_seal). */
MUST_CHECK err wire_check(const void *data, size_t len, uint32_t epoch, uint32_t sequence,
                          const struct msg_head **head, struct why *why);

/* "acts"; "unknown" outside the list. Static storage. */
const char *wire_kind_name(unsigned kind);

/* Where the activations of a checked ACTS message start, and how many bytes of
 * them there are (0: none). */
static inline const void *wire_x(const struct msg_head *h)
{
    return (const char *)(h + 1) + h->desc_bytes;
}
static inline uint64_t wire_x_len(const struct msg_head *h)
{
    return h->body_bytes - h->desc_bytes;
}

/* ---- batch descriptor -------------------------------------------------------
 * A stage forwards the descriptor bytes as they came; stage 1 first writes the
 * tokens that arrive over the ring into them (wire_batch_patch), so later stages
 * see no WIRE_ROW_RING. Ring rows carry no name of their own: the token of a ring
 * row is found by (slot, pos - 1), and `target` means the same as in any row. */

enum {
    /* As model/batch.h's ROW_*; who includes both asserts that they agree. */
    WIRE_ROW_GENERATED = 1,
    WIRE_ROW_SAMPLE = 2,
    WIRE_ROW_SCORE = 4,
    WIRE_ROW_DEAD = 8,
    WIRE_ROW_LONG = 16,
    WIRE_ROW_EMBED = 32,
    WIRE_ROW_FAILED = 0x40, /* results only: no number came of the row; its sequence fails, nothing else */
    WIRE_ROW_RING = 0x80, /* token unknown to rank 0 yet: stage 1 has or gets it over the ring */
    WIRE_ROW_KNOWN = 0xbf,

    WIRE_MAX_TOP = 20, /* model/sample.h's SAMPLE_MAX_TOP */

    WIRE_MAX_BIAS = 1024, /* of one sampler */
    WIRE_MAX_END = 256,
};

struct wire_row {
    int32_t token; /* -1 in a ring row */
    int32_t pos;
    int32_t target; /* WIRE_ROW_SCORE: the token that really follows; WIRE_ROW_EMBED: how to pool */
    uint16_t seq;   /* index into seqs */
    uint8_t flags;  /* WIRE_ROW_* */
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
    uint32_t adapter; /* 0: the model as it is, else adapter number adapter - 1 */
};

struct wire_batch {
    uint32_t n_rows, n_gen, n_seqs;
    const struct wire_row *rows;
    const struct wire_seq *seqs;
};

/* Rules a batch keeps (checked by wire_get_batch, so the sender must):
 * 1 <= n_rows; generated rows are [0, n_gen) and only they have GENERATED or RING;
 * the rows of one sequence are adjacent, at consecutive positions; every sequence
 * has a row; no slot occurs twice. */

/* Bytes the descriptor will take (to size buffers); a multiple of 64. */
size_t wire_batch_bytes(const struct wire_batch *b);
/* dst: wire_batch_bytes() bytes, 8-byte aligned. */
void wire_put_batch(void *dst, const struct wire_batch *b);

struct wire_limits {
    uint32_t max_rows, max_seqs, max_slots, n_pages, max_context;
    int32_t n_vocab;
    uint32_t page_rows; /* positions a page holds: pages must cover the rows; 0: not checked */
    bool no_ring;       /* stages after the first: a ring row left over is an error */
    uint32_t n_adapters; /* that the model has */
    uint32_t n_hidden;   /* of an encoder: floats of a text's embedding; 0: the model gives none */
};
/* Bytes of samplers that rank 0 puts into one descriptor at most: the longest
 * there can be, or many usual ones. */
size_t wire_sampler_budget(const struct wire_limits *lim);
/* The longest message of a pipeline with these limits (page_rows is needed),
 * whichever kind it is: what transport_start() wants to know on every rank. */
size_t wire_max_message(const struct wire_limits *lim, int n_embd, enum wire_type x);

/* Decodes and checks every count, index, flag and order against `lim`. `out` and
 * what it points to live in `space` (space_bytes; wire_batch_space(lim) is always
 * enough) and in src; both 8-byte aligned. ERR_FORMAT says which part is wrong. */
MUST_CHECK err wire_get_batch(const void *src, size_t len, const struct wire_limits *lim, void *space,
                              size_t space_bytes, struct wire_batch *out, struct why *why);
size_t wire_batch_space(const struct wire_limits *lim);
/* Writes a row's token into checked descriptor bytes (after the ring brought it),
 * or marks it dead (token 0). Either way the row is no ring row any more. */
void wire_batch_patch(void *desc, uint32_t row, int32_t token, int dead);

/* ---- results ------------------------------------------------------------- */
struct wire_top {
    int32_t token;
    float logprob;
};
struct wire_result {
    uint32_t slot;
    int32_t pos;           /* of the row: the token belongs to pos + 1 */
    int32_t token, argmax; /* -1: none */
    float logprob;
    uint8_t flags, n_top;  /* WIRE_ROW_* of the row */
    uint16_t ended; /* 1: the sampled token ended the sequence (an end token) */
    const struct wire_top *top; /* [n_top] */
    uint32_t n_hidden;          /* the limits' with WIRE_ROW_EMBED, else 0 */
    const float *hidden;        /* [n_hidden] the text's pooled hidden states */
};
size_t wire_result_bytes(const struct wire_result *r); /* a multiple of 8 */
/* dst 8-byte aligned; returns wire_result_bytes(). */
size_t wire_put_result(void *dst, const struct wire_result *r);
/* Reads one record at *at and advances it. ERR_FORMAT past the end or out of range. */
MUST_CHECK err wire_get_result(const void *src, size_t len, size_t *at, const struct wire_limits *lim,
                               struct wire_result *out, struct why *why);

/* ---- activations ------------------------------------------------------------
 * n floats; f32 travels bit for bit, f16 and bf16 round to nearest even. */
size_t wire_x_bytes(enum wire_type t, size_t n);
void wire_put_x(void *dst, enum wire_type t, const float *x, size_t n);
void wire_get_x(float *x, enum wire_type t, const void *src, size_t n);

#endif
