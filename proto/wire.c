/* wire.c - heads and checksums of rank-to-rank messages, and activations.
 *
 * The head is hashed first, with its hash field zero and the epoch as seed; the
 * result seeds the hash of the body. So one number covers every byte, and a
 * message of another epoch fails even if its epoch field was damaged into ours.
 *
 * Integers are little-endian on the wire and are not swapped: all ranks of an
 * epoch run this program, and it is built for little-endian machines only.
 */
#include "proto/wire.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

#include "base/f16.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is little-endian");

const char *wire_kind_name(unsigned kind)
{
    static const char *const names[] = {
#define WIRE_NAME(id, name) name,
        WIRE_KINDS(WIRE_NAME)
#undef WIRE_NAME
    };
    return kind < WIRE_KIND_COUNT ? names[kind] : "unknown";
}

static uint64_t message_hash(const void *data, size_t len, uint32_t epoch)
{
    struct msg_head head;
    memcpy(&head, data, sizeof head);
    head.body_hash = 0;
    uint64_t seed = XXH3_64bits_withSeed(&head, sizeof head, epoch);
    return XXH3_64bits_withSeed((const char *)data + sizeof head, len - sizeof head, seed);
}

void wire_seal(void *data, size_t len, uint32_t epoch, uint32_t sequence)
{
    assert(len >= sizeof(struct msg_head) && (uintptr_t)data % 8 == 0);
    struct msg_head *head = data;
    head->magic = WIRE_MAGIC;
    head->version = WIRE_VERSION;
    head->epoch = epoch;
    head->sequence = sequence;
    head->body_bytes = len - sizeof *head;
    memset(head->reserved, 0, sizeof head->reserved);
    head->body_hash = message_hash(data, len, epoch);
}

/* The parts of the head that depend on each other, once the checksum holds. */
static err check_layout(const struct msg_head *h, struct why *why)
{
    if (h->x_type >= WIRE_TYPE_COUNT)
        return why_set(why, ERR_FORMAT, "message: activation type %u", h->x_type);
    if (h->desc_bytes % 64 || h->desc_bytes > h->body_bytes)
        return why_set(why, ERR_FORMAT, "message: descriptor of %u bytes in a body of %llu", h->desc_bytes,
                       (unsigned long long)h->body_bytes);
    if (h->kind != WIRE_ACTS && (h->desc_bytes || h->x_type))
        return why_set(why, ERR_FORMAT, "message: a descriptor in kind %s", wire_kind_name(h->kind));
    if (h->kind == WIRE_ACTS && !h->desc_bytes)
        return why_set(why, ERR_FORMAT, "message: activations without a descriptor");
    if (h->kind == WIRE_STOP && (h->body_bytes || h->n_rows))
        return why_set(why, ERR_FORMAT, "message: a stop with a body");
    if (h->reserved[0] || h->reserved[1])
        return why_set(why, ERR_FORMAT, "message: reserved fields are set");
    return ERR_OK;
}

err wire_check(const void *data, size_t len, uint32_t epoch, uint32_t sequence, const struct msg_head **head,
               struct why *why)
{
    const struct msg_head *h = data;
    err e;
    assert((uintptr_t)data % 8 == 0);
    if (len < sizeof *h)
        FAIL(ERR_FORMAT, "message: %zu bytes, a head has %zu", len, sizeof *h);
    if (h->magic != WIRE_MAGIC)
        FAIL(ERR_FORMAT, "message: magic %08x", h->magic);
    if (h->version != WIRE_VERSION)
        FAIL(ERR_FORMAT, "message: version %u, expected %u", h->version, WIRE_VERSION);
    if (h->kind >= WIRE_KIND_COUNT)
        FAIL(ERR_FORMAT, "message: kind %u", h->kind);
    if (h->body_bytes != len - sizeof *h)
        FAIL(ERR_FORMAT, "message: body of %llu bytes, %zu arrived", (unsigned long long)h->body_bytes,
             len - sizeof *h);
    if (h->epoch != epoch)
        FAIL(ERR_PEER, "message: of epoch %u, this is %u", h->epoch, epoch);
    if (h->body_hash != message_hash(data, len, epoch))
        FAIL(ERR_FORMAT, "message: %s of step %u has a wrong checksum", wire_kind_name(h->kind), h->step);
    if (h->sequence != sequence)
        FAIL(ERR_PEER, "message: number %u, expected %u (%s)", h->sequence, sequence,
             (int32_t)(h->sequence - sequence) < 0 ? "duplicated" : "one was lost");
    TRY(check_layout(h, why));
    *head = h;
out:
    return e;
}

size_t wire_x_bytes(enum wire_type t, size_t n)
{
    return n * (t == WIRE_F32 ? 4 : 2);
}

void wire_put_x(void *dst, enum wire_type t, const float *x, size_t n)
{
    uint16_t *half = dst;
    switch (t) {
    case WIRE_F16:
        for (size_t i = 0; i < n; i++)
            half[i] = f32_to_f16(x[i]);
        break;
    case WIRE_BF16:
        for (size_t i = 0; i < n; i++)
            half[i] = f32_to_bf16(x[i]);
        break;
    default:
        memcpy(dst, x, n * sizeof *x);
    }
}

void wire_get_x(float *x, enum wire_type t, const void *src, size_t n)
{
    const uint16_t *half = src;
    switch (t) {
    case WIRE_F16:
        for (size_t i = 0; i < n; i++)
            x[i] = f16_to_f32(half[i]);
        break;
    case WIRE_BF16:
        for (size_t i = 0; i < n; i++)
            x[i] = bf16_to_f32(half[i]);
        break;
    default:
        memcpy(x, src, n * sizeof *x);
    }
}
