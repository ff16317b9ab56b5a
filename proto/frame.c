/* frame.c - varint-delimited Envelopes.
 *
 * protobuf-c takes as much memory as the bytes ask for. A byte on the wire can
 * ask for a hundred in memory (an empty StageStats is three bytes), so frames
 * are unpacked with an allocator that counts and refuses beyond a multiple of
 * the frame's length. The densest honest frame, bare Token records of four bytes,
 * needs below 50 times its length. What it hands out is plain malloc memory, so freeing needs no counter.
 */
#include "proto/frame.h"

#include <stdlib.h>

enum {
    VARINT_MAX = 5,
    UNPACK_FACTOR = 64,            /* bytes of memory for one byte of a frame */
    UNPACK_BASE = 64 << 10,        /* ... and for the smallest frame */
    UNPACK_MAX = 1 << 29,          /* ... and never more than this */
};

int frame_head(const uint8_t *p, size_t len, uint32_t cap, uint32_t *body)
{
    uint64_t value = 0;
    for (int i = 0; i < VARINT_MAX; i++) {
        if ((size_t)i >= len)
            return 0;
        value |= (uint64_t)(p[i] & 0x7f) << (7 * i);
        if (value > cap)
            return -1; /* more bytes can only make it longer */
        if (!(p[i] & 0x80)) {
            *body = (uint32_t)value;
            return i + 1;
        }
    }
    return -1;
}

/* protobuf-c writes through a ProtobufCBuffer; ours appends to a struct buf. */
struct sink {
    ProtobufCBuffer base;
    struct buf *out;
};

static void sink_append(ProtobufCBuffer *base, size_t len, const uint8_t *data)
{
    buf_put(((struct sink *)base)->out, data, len);
}

static err put(struct buf *out, const Cordee__Envelope *env, bool with_length, struct why *why)
{
    size_t bytes = cordee__envelope__get_packed_size(env), left = bytes;
    if (bytes > FRAME_MAX_BYTES)
        return why_set(why, ERR_LIMIT, "a frame of %zu bytes, at most %u", bytes, FRAME_MAX_BYTES);
    while (with_length) {
        buf_putc(out, (char)((left & 0x7f) | (left > 0x7f ? 0x80 : 0)));
        left >>= 7;
        with_length = left != 0;
    }
    struct sink sink = {.base = {.append = sink_append}, .out = out};
    cordee__envelope__pack_to_buffer(env, &sink.base);
    if (out->failed)
        return why_set(why, ERR_NOMEM, "a frame of %zu bytes", bytes);
    return ERR_OK;
}

err frame_put(struct buf *out, const Cordee__Envelope *env, struct why *why)
{
    return put(out, env, true, why);
}

err frame_put_body(struct buf *out, const Cordee__Envelope *env, struct why *why)
{
    return put(out, env, false, why);
}

struct counter {
    size_t left;
    bool refused;
};

static void *counted_alloc(void *data, size_t bytes)
{
    struct counter *c = data;
    if (bytes > c->left) {
        c->refused = true;
        return NULL;
    }
    c->left -= bytes;
    return malloc(bytes);
}

static void plain_free(void *data, void *p)
{
    (void)data;
    free(p);
}

err frame_get(const void *body, size_t len, Cordee__Envelope **out, struct why *why)
{
    if (len > FRAME_MAX_BYTES)
        return why_set(why, ERR_LIMIT, "a frame of %zu bytes, at most %u", len, FRAME_MAX_BYTES);
    size_t budget = UNPACK_BASE + len * UNPACK_FACTOR;
    struct counter counter = {.left = budget < UNPACK_MAX ? budget : UNPACK_MAX};
    ProtobufCAllocator allocator = {.alloc = counted_alloc, .free = plain_free, .allocator_data = &counter};
    Cordee__Envelope *env = cordee__envelope__unpack(&allocator, len, body);
    if (!env && counter.refused)
        return why_set(why, ERR_LIMIT, "a frame of %zu bytes asks for too much memory", len);
    if (!env)
        return why_set(why, ERR_FORMAT, "a frame of %zu bytes is not an Envelope", len);
    *out = env;
    return ERR_OK;
}

void frame_free(Cordee__Envelope *env)
{
    if (env)
        cordee__envelope__free_unpacked(env, NULL);
}
