/* control_msg.h - the bytes of the control plane: messages and the handshake.
 *
 * A message is a varint length (at most 5 bytes, of what follows it), a kind byte
 * and a body. The handshake, short:
 *
 *   hub -> member   CHALLENGE  magic[8] | hub nonce[32]
 *   member -> hub   HELLO      member u32 | epoch u32 | member nonce[32] | mac[32]
 *   hub -> member   WELCOME    mac[32]      or REFUSE with a reason
 *   member -> hub   BEAT       "I am in": until then the number is only reserved
 *
 * mac = HMAC-SHA256(key, role | hub nonce | member nonce | member | epoch), role
 * being the sender's, so neither side can be answered with its own words. The key
 * never travels; both nonces are fresh, so nothing recorded can be replayed.
 * What follows is plain TCP: the handshake keeps strangers and old epochs out, it
 * does not hide or seal the traffic.
 *
 * Pure: no sockets. Integers little-endian.
 */
#ifndef CORDEE_TRANSPORT_CONTROL_MSG_H
#define CORDEE_TRANSPORT_CONTROL_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum control_msg {
    CONTROL_MSG_CHALLENGE = 1,
    CONTROL_MSG_HELLO,
    CONTROL_MSG_WELCOME,
    CONTROL_MSG_REFUSE,
    CONTROL_MSG_BEAT,
    CONTROL_MSG_FRAME,
    CONTROL_MSG_BYE,
    CONTROL_MSG_COUNT
};

enum {
    CONTROL_NONCE = 32,
    CONTROL_MAC = 32,
    CONTROL_AUTH_MAX = 128,                 /* bytes of a stranger that are kept */
    CONTROL_AUTH_CAP = CONTROL_AUTH_MAX - 8 /* ... hold any message with so long a body */
};

struct control_view {
    enum control_msg kind;
    const uint8_t *body; /* into the bytes given */
    size_t len;
};

/* Appends one message. */
void control_msg_put(struct buf *out, enum control_msg kind, const void *body, size_t len);
/* The first message of p[0..len). Returns the bytes it takes; 0: not all there
 * yet; -1: no message, or its body is longer than cap. */
long control_msg_get(const uint8_t *p, size_t len, size_t cap, struct control_view *out);

/* What both sides know of one handshake. */
struct control_auth {
    uint8_t hub_nonce[CONTROL_NONCE], member_nonce[CONTROL_NONCE];
    uint32_t member, epoch;
};

/* Each draws its nonce, or takes the other's, and appends or checks one message.
 * false / ERR_FORMAT: not such a message. ERR_PEER: a wrong mac, that is, another
 * key. ERR_IO: no random numbers or no HMAC. */
MUST_CHECK err control_put_challenge(struct buf *out, struct control_auth *a, struct why *why);
bool control_get_challenge(const struct control_view *m, struct control_auth *a);
MUST_CHECK err control_put_hello(struct buf *out, struct control_auth *a, const char *key, struct why *why);
MUST_CHECK err control_get_hello(const struct control_view *m, struct control_auth *a, const char *key,
                                 struct why *why);
MUST_CHECK err control_put_welcome(struct buf *out, const struct control_auth *a, const char *key, struct why *why);
MUST_CHECK err control_get_welcome(const struct control_view *m, const struct control_auth *a, const char *key,
                                   struct why *why);

#endif
