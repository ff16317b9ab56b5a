/* control_msg.c - see control_msg.h. */
#include "transport/control_msg.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

static const char magic[8] = "CORDEE1";

struct hello {
    uint32_t member, epoch;
    uint8_t nonce[CONTROL_NONCE], mac[CONTROL_MAC];
};
_Static_assert(sizeof(struct hello) == 72, "control layout: hello");
_Static_assert(sizeof(struct control_auth) == 72, "control layout: what is signed");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the control plane is little-endian");

void control_msg_put(struct buf *out, enum control_msg kind, const void *body, size_t len)
{
    assert(len < UINT32_MAX);
    size_t left = len + 1;
    do {
        buf_putc(out, (char)((left & 0x7f) | (left > 0x7f ? 0x80 : 0)));
        left >>= 7;
    } while (left);
    buf_putc(out, (char)kind);
    buf_put(out, body, len);
}

long control_msg_get(const uint8_t *p, size_t len, size_t cap, struct control_view *out)
{
    uint64_t bytes = 0;
    size_t head = 0;
    for (;;) {
        if (head == 5)
            return -1;
        if (head == len)
            return 0;
        uint8_t byte = p[head];
        bytes |= (uint64_t)(byte & 0x7f) << (7 * head);
        head++;
        if (bytes > (uint64_t)cap + 1)
            return -1;
        if (!(byte & 0x80))
            break;
    }
    if (bytes < 1)
        return -1;
    if (head < len && (p[head] < 1 || p[head] >= CONTROL_MSG_COUNT))
        return -1; /* said as soon as it is seen, not after the body has come */
    if (len - head < bytes)
        return 0;
    *out = (struct control_view){.kind = p[head], .body = p + head + 1, .len = (size_t)bytes - 1};
    return (long)(head + bytes);
}

/* role: "hub" or "member", of the one who signs. */
static err sign(const char *role, const struct control_auth *a, const char *key, uint8_t mac[CONTROL_MAC],
                struct why *why)
{
    uint8_t text[16 + sizeof *a] = {0};
    size_t len = 0;
    memcpy(text, role, strlen(role));
    memcpy(text + 16, a, sizeof *a);
    if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key, strlen(key), text, sizeof text, mac, CONTROL_MAC, &len) ||
        len != CONTROL_MAC)
        return why_set(why, ERR_IO, "control: no HMAC-SHA256 in this OpenSSL");
    return ERR_OK;
}

static err check_mac(const char *role, const struct control_auth *a, const char *key, const uint8_t *got,
                     struct why *why)
{
    uint8_t want[CONTROL_MAC];
    err e = sign(role, a, key, want, why);
    if (e == ERR_OK && CRYPTO_memcmp(want, got, sizeof want) != 0)
        e = why_set(why, ERR_PEER, "wrong key");
    return e;
}

static err draw_nonce(uint8_t nonce[CONTROL_NONCE], struct why *why)
{
    if (RAND_bytes(nonce, CONTROL_NONCE) != 1)
        return why_set(why, ERR_IO, "control: no random numbers");
    return ERR_OK;
}

err control_put_challenge(struct buf *out, struct control_auth *a, struct why *why)
{
    uint8_t body[sizeof magic + CONTROL_NONCE];
    err e = draw_nonce(a->hub_nonce, why);
    if (e != ERR_OK)
        return e;
    memcpy(body, magic, sizeof magic);
    memcpy(body + sizeof magic, a->hub_nonce, CONTROL_NONCE);
    control_msg_put(out, CONTROL_MSG_CHALLENGE, body, sizeof body);
    return ERR_OK;
}

bool control_get_challenge(const struct control_view *m, struct control_auth *a)
{
    if (m->kind != CONTROL_MSG_CHALLENGE || m->len != sizeof magic + CONTROL_NONCE ||
        memcmp(m->body, magic, sizeof magic) != 0)
        return false;
    memcpy(a->hub_nonce, m->body + sizeof magic, CONTROL_NONCE);
    return true;
}

err control_put_hello(struct buf *out, struct control_auth *a, const char *key, struct why *why)
{
    struct hello h = {.member = a->member, .epoch = a->epoch};
    err e;
    TRY(draw_nonce(a->member_nonce, why));
    memcpy(h.nonce, a->member_nonce, sizeof h.nonce);
    TRY(sign("member", a, key, h.mac, why));
    control_msg_put(out, CONTROL_MSG_HELLO, &h, sizeof h);
out:
    return e;
}

err control_get_hello(const struct control_view *m, struct control_auth *a, const char *key, struct why *why)
{
    struct hello h;
    if (m->kind != CONTROL_MSG_HELLO || m->len != sizeof h)
        return why_set(why, ERR_FORMAT, "not a hello");
    memcpy(&h, m->body, sizeof h);
    a->member = h.member;
    a->epoch = h.epoch;
    memcpy(a->member_nonce, h.nonce, sizeof h.nonce);
    return check_mac("member", a, key, h.mac, why);
}

err control_put_welcome(struct buf *out, const struct control_auth *a, const char *key, struct why *why)
{
    uint8_t mac[CONTROL_MAC];
    err e = sign("hub", a, key, mac, why);
    if (e == ERR_OK)
        control_msg_put(out, CONTROL_MSG_WELCOME, mac, sizeof mac);
    return e;
}

err control_get_welcome(const struct control_view *m, const struct control_auth *a, const char *key, struct why *why)
{
    if (m->kind != CONTROL_MSG_WELCOME || m->len != CONTROL_MAC)
        return why_set(why, ERR_FORMAT, "not a welcome");
    return check_mac("hub", a, key, m->body, why);
}
