/* frame.h - varint-delimited Envelopes in a byte stream.
 *
 * Pure byte work: no sockets. A reader is fed whatever arrived and yields whole
 * frames; the cap is checked on the varint, before memory is taken.
 */
#ifndef CORDEE_PROTO_FRAME_H
#define CORDEE_PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "proto/cordee.pb-c.h"

#define FRAME_MAX_BYTES (64u << 20)

/* Length of the varint at p (1..5) and its value; 0: more bytes needed; -1: not a
 * length (over 5 bytes, or above cap). */
int frame_head(const uint8_t *p, size_t len, uint32_t cap, uint32_t *body);

/* Appends one envelope as a frame. ERR_LIMIT: longer than FRAME_MAX_BYTES. */
MUST_CHECK err frame_put(struct buf *out, const Cordee__Envelope *env, struct why *why);
/* The envelope alone, for senders that write the length themselves (control_send). */
MUST_CHECK err frame_put_body(struct buf *out, const Cordee__Envelope *env, struct why *why);

/* Unpacks a frame's body with a counting allocator bounded by a multiple of len.
 * Free with frame_free(). ERR_FORMAT: not an Envelope; ERR_LIMIT: longer than
 * FRAME_MAX_BYTES, or it asks for more memory than any honest frame. */
MUST_CHECK err frame_get(const void *body, size_t len, Cordee__Envelope **out, struct why *why);
void frame_free(Cordee__Envelope *env);

#endif
