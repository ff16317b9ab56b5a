/* wire_batch.c - the batch descriptor: written once by rank 0, checked by every stage.
 *
 * One layout function serves both sizing and writing: putting into a NULL
 * destination only counts. Reading goes through a cursor whose `take` is the
 * only place that looks at the length, so no count in the bytes can lead past
 * the end. Rows and page lists are used where they lie; only the small seq and
 * sampler structs are built in the caller's space.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "proto/wire.h"

struct desc_head {
    uint32_t n_rows, n_gen, n_seqs;
    uint32_t used_bytes; /* without the padding to 64 */
};
struct seq_record {
    uint32_t slot, n_pages, has_sampler, adapter;
};
struct sampler_record {
    float temperature, top_p, min_p;
    float repetition_penalty, presence_penalty, frequency_penalty;
    int32_t top_k, min_tokens;
    uint64_t seed;
    uint32_t choice, n_bias, n_end, n_prompt;
    uint64_t zero;
};
struct bias_record {
    int32_t token;
    float bias;
};
_Static_assert(sizeof(struct desc_head) == 16, "wire layout: descriptor");
_Static_assert(sizeof(struct seq_record) == 16, "wire layout: sequence");
_Static_assert(sizeof(struct sampler_record) == 64, "wire layout: sampler");
_Static_assert(sizeof(struct bias_record) == 8, "wire layout: bias");

static size_t round_to(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* ---- writing ---------------------------------------------------------------- */

/* Appends at `at` and returns where the next part starts; dst NULL only counts. */
static size_t put(char *dst, size_t at, const void *src, size_t bytes)
{
    size_t next = round_to(at + bytes, 8);
    if (dst) {
        if (bytes)
            memcpy(dst + at, src, bytes);
        memset(dst + at + bytes, 0, next - at - bytes);
    }
    return next;
}

static size_t put_sampler(char *dst, size_t at, const struct wire_sampler *s)
{
    struct sampler_record rec = {
        .temperature = s->temperature, .top_p = s->top_p, .min_p = s->min_p,
        .repetition_penalty = s->repetition_penalty, .presence_penalty = s->presence_penalty,
        .frequency_penalty = s->frequency_penalty, .top_k = s->top_k, .min_tokens = s->min_tokens,
        .seed = s->seed, .choice = s->choice, .n_bias = s->n_bias, .n_end = s->n_end, .n_prompt = s->n_prompt,
    };
    at = put(dst, at, &rec, sizeof rec);
    at = put(dst, at, s->bias, s->n_bias * sizeof(struct bias_record));
    at = put(dst, at, s->end, s->n_end * sizeof *s->end);
    return put(dst, at, s->prompt, s->n_prompt * sizeof *s->prompt);
}

static size_t lay_out(char *dst, const struct wire_batch *b, uint32_t used_bytes)
{
    struct desc_head head = {b->n_rows, b->n_gen, b->n_seqs, used_bytes};
    size_t at = put(dst, 0, &head, sizeof head);
    at = put(dst, at, b->rows, b->n_rows * sizeof *b->rows);
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        const struct wire_seq *q = &b->seqs[i];
        struct seq_record rec = {q->slot, q->n_pages, q->sampler != NULL, q->adapter};
        at = put(dst, at, &rec, sizeof rec);
        at = put(dst, at, q->pages, q->n_pages * sizeof *q->pages);
        if (q->sampler)
            at = put_sampler(dst, at, q->sampler);
    }
    return at;
}

size_t wire_batch_bytes(const struct wire_batch *b)
{
    return round_to(lay_out(NULL, b, 0), 64);
}

void wire_put_batch(void *dst, const struct wire_batch *b)
{
    assert((uintptr_t)dst % 8 == 0);
    size_t used = lay_out(NULL, b, 0);
    assert(used <= UINT32_MAX - 64);
    lay_out(dst, b, (uint32_t)used);
    memset((char *)dst + used, 0, round_to(used, 64) - used);
}

void wire_batch_patch(void *desc, uint32_t row, int32_t token, int dead)
{
    struct desc_head *head = desc;
    struct wire_row *r = (struct wire_row *)(head + 1) + row;
    assert(row < head->n_rows);
    r->token = dead ? 0 : token;
    r->flags = (uint8_t)((r->flags & ~WIRE_ROW_RING) | (dead ? WIRE_ROW_DEAD : 0));
}

/* ---- reading ---------------------------------------------------------------- */

struct cursor {
    const char *src;
    size_t at, len; /* at is a multiple of 8 */
};

/* The next n things of `size` bytes, or NULL when they are not all there. */
static const void *take(struct cursor *c, size_t n, size_t size)
{
    if (n > (c->len - c->at) / size)
        return NULL;
    const char *p = c->src + c->at;
    size_t next = round_to(c->at + n * size, 8);
    c->at = next < c->len ? next : c->len;
    return p;
}

static bool test_and_set(uint64_t *bits, uint32_t i)
{
    uint64_t bit = UINT64_C(1) << (i % 64);
    bool was = bits[i / 64] & bit;
    bits[i / 64] |= bit;
    return was;
}

static size_t bit_words(uint32_t n)
{
    return (size_t)n / 64 + 1;
}

/* What lives in the caller's space, largest alignment first. */
struct space {
    uint64_t *slot_seen, *seq_seen; /* bit sets */
    struct wire_seq *seqs;          /* [max_seqs] */
    struct wire_sampler *samplers;  /* [max_seqs] */
};

size_t wire_batch_space(const struct wire_limits *lim)
{
    return (bit_words(lim->max_slots) + bit_words(lim->max_seqs)) * 8 +
           lim->max_seqs * (sizeof(struct wire_seq) + sizeof(struct wire_sampler));
}

static struct space space_init(void *mem, const struct wire_limits *lim)
{
    struct space s = {.slot_seen = mem};
    s.seq_seen = s.slot_seen + bit_words(lim->max_slots);
    s.seqs = (struct wire_seq *)(s.seq_seen + bit_words(lim->max_seqs));
    s.samplers = (struct wire_sampler *)(s.seqs + lim->max_seqs);
    memset(mem, 0, (bit_words(lim->max_slots) + bit_words(lim->max_seqs)) * 8);
    return s;
}

static bool token_ok(int32_t token, const struct wire_limits *lim)
{
    return token >= 0 && token < lim->n_vocab;
}

static bool tokens_ok(const int32_t *tokens, uint32_t n, const struct wire_limits *lim)
{
    for (uint32_t i = 0; i < n; i++)
        if (!token_ok(tokens[i], lim))
            return false;
    return true;
}

static bool sampler_numbers_ok(const struct sampler_record *s)
{
    return isfinite(s->temperature) && s->temperature >= 0 && isfinite(s->top_p) && isfinite(s->min_p) &&
           isfinite(s->repetition_penalty) && isfinite(s->presence_penalty) && isfinite(s->frequency_penalty) &&
           s->top_k >= 0 && s->min_tokens >= 0 && s->zero == 0;
}

static err get_sampler(struct cursor *c, const struct wire_limits *lim, struct wire_sampler *out, struct why *why)
{
    const struct sampler_record *rec = take(c, 1, sizeof *rec);
    err e = ERR_OK;
    if (!rec || !sampler_numbers_ok(rec))
        FAIL(ERR_FORMAT, "batch: a sampler is cut or out of range");
    if (rec->n_bias > (uint32_t)lim->n_vocab || rec->n_end > (uint32_t)lim->n_vocab ||
        rec->n_prompt > lim->max_context)
        FAIL(ERR_FORMAT, "batch: a sampler's lists are too long");
    const struct bias_record *bias = take(c, rec->n_bias, sizeof *bias);
    const int32_t *end = bias ? take(c, rec->n_end, sizeof *end) : NULL;
    const int32_t *prompt = end ? take(c, rec->n_prompt, sizeof *prompt) : NULL;
    if (!prompt)
        FAIL(ERR_FORMAT, "batch: a sampler is cut");
    for (uint32_t i = 0; i < rec->n_bias; i++)
        if (!token_ok(bias[i].token, lim) || !isfinite(bias[i].bias))
            FAIL(ERR_FORMAT, "batch: bias %u is out of range", i);
    if (!tokens_ok(end, rec->n_end, lim) || !tokens_ok(prompt, rec->n_prompt, lim))
        FAIL(ERR_FORMAT, "batch: a sampler's token is out of range");
    *out = (struct wire_sampler){
        .temperature = rec->temperature, .top_p = rec->top_p, .min_p = rec->min_p,
        .repetition_penalty = rec->repetition_penalty, .presence_penalty = rec->presence_penalty,
        .frequency_penalty = rec->frequency_penalty, .top_k = rec->top_k, .min_tokens = rec->min_tokens,
        .seed = rec->seed, .choice = rec->choice, .n_bias = rec->n_bias, .n_end = rec->n_end,
        .n_prompt = rec->n_prompt, .bias = bias, .end = end, .prompt = prompt,
    };
out:
    return e;
}

static err get_seq(struct cursor *c, const struct wire_limits *lim, struct space *space, uint32_t i, struct why *why)
{
    const struct seq_record *rec = take(c, 1, sizeof *rec);
    err e = ERR_OK;
    if (!rec)
        FAIL(ERR_FORMAT, "batch: cut at sequence %u", i);
    if (rec->slot >= lim->max_slots || rec->has_sampler > 1)
        FAIL(ERR_FORMAT, "batch: sequence %u has slot %u of %u", i, rec->slot, lim->max_slots);
    if (rec->adapter > lim->n_adapters)
        FAIL(ERR_FORMAT, "batch: sequence %u has adapter %u of %u", i, rec->adapter, lim->n_adapters);
    if (test_and_set(space->slot_seen, rec->slot))
        FAIL(ERR_FORMAT, "batch: slot %u occurs twice", rec->slot);
    const uint32_t *pages = rec->n_pages <= lim->n_pages ? take(c, rec->n_pages, sizeof *pages) : NULL;
    if (!pages)
        FAIL(ERR_FORMAT, "batch: the %u pages of sequence %u are not there", rec->n_pages, i);
    for (uint32_t j = 0; j < rec->n_pages; j++)
        if (pages[j] >= lim->n_pages)
            FAIL(ERR_FORMAT, "batch: sequence %u has page %u of %u", i, pages[j], lim->n_pages);
    if (rec->has_sampler)
        TRY(get_sampler(c, lim, &space->samplers[i], why));
    space->seqs[i] = (struct wire_seq){
        .slot = rec->slot, .n_pages = rec->n_pages, .pages = pages,
        .sampler = rec->has_sampler ? &space->samplers[i] : NULL, .adapter = rec->adapter,
    };
out:
    return e;
}

/* NULL, or what is wrong with a row taken alone. */
static const char *row_fault(const struct wire_row *r, const struct wire_limits *lim, bool generated)
{
    bool ring = r->flags & WIRE_ROW_RING;
    if (r->flags & ~WIRE_ROW_KNOWN || !!(r->flags & WIRE_ROW_GENERATED) != generated)
        return "flags";
    if (ring && (!generated || lim->no_ring || r->token != -1 || r->pos < 1))
        return "ring token";
    if (!ring && !token_ok(r->token, lim))
        return "token";
    if (r->pos < 0 || (uint32_t)r->pos >= lim->max_context)
        return "position";
    if (r->flags & WIRE_ROW_SCORE && !token_ok(r->target, lim))
        return "target";
    if (r->flags & WIRE_ROW_EMBED && (lim->n_hidden == 0 || r->flags & (WIRE_ROW_SCORE | WIRE_ROW_SAMPLE)))
        return "wish for an embedding";
    return r->n_top > WIRE_MAX_TOP ? "number of alternatives" : NULL;
}

/* Rows against their sequences: adjacency, consecutive positions, pages. */
static err check_rows(const struct wire_batch *b, const struct wire_limits *lim, uint64_t *seq_seen, struct why *why)
{
    uint32_t n_seen = 0;
    for (uint32_t i = 0; i < b->n_rows; i++) {
        const struct wire_row *r = &b->rows[i];
        const char *fault = row_fault(r, lim, i < b->n_gen);
        if (fault)
            return why_set(why, ERR_FORMAT, "batch: row %u has a wrong %s", i, fault);
        if (r->seq >= b->n_seqs)
            return why_set(why, ERR_FORMAT, "batch: row %u is of sequence %u of %u", i, r->seq, b->n_seqs);
        if (i > 0 && r[-1].seq == r->seq) {
            if (r->pos != r[-1].pos + 1)
                return why_set(why, ERR_FORMAT, "batch: row %u skips from position %d to %d", i, r[-1].pos, r->pos);
        } else {
            if (test_and_set(seq_seen, r->seq))
                return why_set(why, ERR_FORMAT, "batch: the rows of sequence %u are apart", r->seq);
            n_seen++;
        }
        if (lim->page_rows && (uint32_t)r->pos / lim->page_rows >= b->seqs[r->seq].n_pages)
            return why_set(why, ERR_FORMAT, "batch: no page for position %d of sequence %u", r->pos, r->seq);
    }
    if (n_seen != b->n_seqs)
        return why_set(why, ERR_FORMAT, "batch: a sequence has no rows");
    return ERR_OK;
}

err wire_get_batch(const void *src, size_t len, const struct wire_limits *lim, void *space, size_t space_bytes,
                   struct wire_batch *out, struct why *why)
{
    struct cursor c = {.src = src, .len = len};
    err e;
    assert((uintptr_t)src % 8 == 0 && (uintptr_t)space % 8 == 0 && space_bytes >= wire_batch_space(lim));

    const struct desc_head *head = take(&c, 1, sizeof *head);
    if (!head || head->used_bytes > len || round_to(head->used_bytes, 64) != len)
        FAIL(ERR_FORMAT, "batch: %zu bytes are not what it says", len);
    c.len = head->used_bytes;
    if (head->n_rows < 1 || head->n_rows > lim->max_rows || head->n_gen > head->n_rows)
        FAIL(ERR_FORMAT, "batch: %u rows (%u generated), at most %u", head->n_rows, head->n_gen, lim->max_rows);
    if (head->n_seqs < 1 || head->n_seqs > lim->max_seqs || head->n_seqs > head->n_rows)
        FAIL(ERR_FORMAT, "batch: %u sequences, at most %u", head->n_seqs, lim->max_seqs);
    struct wire_batch b = {.n_rows = head->n_rows, .n_gen = head->n_gen, .n_seqs = head->n_seqs};
    if (c.len < c.at || !(b.rows = take(&c, b.n_rows, sizeof *b.rows)))
        FAIL(ERR_FORMAT, "batch: cut in its rows");

    struct space s = space_init(space, lim);
    for (uint32_t i = 0; i < b.n_seqs; i++)
        TRY(get_seq(&c, lim, &s, i, why));
    if (c.at != c.len)
        FAIL(ERR_FORMAT, "batch: %zu bytes too many", c.len - c.at);
    b.seqs = s.seqs;
    TRY(check_rows(&b, lim, s.seq_seen, why));
    *out = b;
out:
    return e;
}
