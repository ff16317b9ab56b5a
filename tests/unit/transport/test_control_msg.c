/* test_control_msg.c - messages and the handshake, without sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transport/control_msg.h"

static struct control_view view(const struct buf *b)
{
    struct control_view m = {0};
    assert_int_equal(control_msg_get((const uint8_t *)b->data, b->len, 1 << 20, &m), b->len);
    return m;
}

static void test_messages_of_all_lengths_come_back(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 126, 127, 128, 16383, 70000};
    static char body[70000];
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct buf b;
        struct control_view m;
        buf_init(&b);
        control_msg_put(&b, CONTROL_MSG_FRAME, body, lengths[i]);
        m = view(&b);
        assert_int_equal(m.kind, CONTROL_MSG_FRAME);
        assert_int_equal(m.len, lengths[i]);
        for (size_t cut = 0; cut < b.len; cut += 1 + cut / 16)
            assert_int_equal(control_msg_get((uint8_t *)b.data, cut, 70000, &m), 0);
        if (lengths[i])
            assert_int_equal(control_msg_get((uint8_t *)b.data, b.len, lengths[i] - 1, &m), -1);
        buf_fini(&b);
    }
}

static void test_bad_heads_are_refused_early(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[8];
        size_t len;
    } rows[] = {
        {{0}, 1},                                   /* no kind byte */
        {{1, 0}, 2}, {{1, 99}, 2},                  /* unknown kinds */
        {{0x7f, 99}, 2},                            /* ... before the body is there */
        {{0xff, 0xff, 0xff, 0xff, 0x7f}, 5},        /* more than the cap */
        {{0x80, 0x80, 0x80, 0x80, 0x80}, 5},        /* a length without an end */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct control_view m;
        assert_int_equal(control_msg_get(rows[i].bytes, rows[i].len, 1000, &m), -1);
    }
}

/* Both sides of a handshake, with the key each believes in. */
static err shake(const char *hub_key, const char *member_key, int flip_bit, struct why *why)
{
    struct control_auth hub = {0}, member = {.member = 3, .epoch = 7};
    struct buf b;
    struct control_view m;
    err e;
    buf_init(&b);
    TRY(control_put_challenge(&b, &hub, why));
    m = view(&b);
    if (!control_get_challenge(&m, &member))
        FAIL(ERR_FORMAT, "challenge");
    buf_clear(&b);
    TRY(control_put_hello(&b, &member, member_key, why));
    if (flip_bit >= 0)
        b.data[2 + flip_bit / 8] ^= (char)(1 << flip_bit % 8);
    m = view(&b);
    TRY(control_get_hello(&m, &hub, hub_key, why));
    assert_int_equal(hub.member, 3);
    assert_int_equal(hub.epoch, 7);
    buf_clear(&b);
    TRY(control_put_welcome(&b, &hub, hub_key, why));
    m = view(&b);
    TRY(control_get_welcome(&m, &member, member_key, why));
out:
    buf_fini(&b);
    return e;
}

static void test_the_handshake(void **state)
{
    (void)state;
    struct why why = {""};
    assert_int_equal(shake("secret", "secret", -1, &why), ERR_OK);
    assert_int_equal(shake("secret", "guess", -1, &why), ERR_PEER);
    assert_non_null(strstr(why.text, "wrong key"));
    for (int bit = 0; bit < 72 * 8; bit++)
        assert_int_equal(shake("secret", "secret", bit, &why), ERR_PEER);
}

static void test_a_hello_cannot_be_reflected_or_replayed(void **state)
{
    (void)state;
    struct control_auth hub = {0}, member = {.member = 1, .epoch = 1}, other = {0};
    struct buf b;
    struct why why;
    buf_init(&b);
    assert_int_equal(control_put_challenge(&b, &hub, &why), ERR_OK);
    struct control_view m = view(&b);
    assert_true(control_get_challenge(&m, &member));
    buf_clear(&b);
    assert_int_equal(control_put_hello(&b, &member, "k", &why), ERR_OK);
    m = view(&b);
    struct control_view as_welcome = {CONTROL_MSG_WELCOME, m.body + 40, 32};
    assert_int_equal(control_get_welcome(&as_welcome, &member, "k", &why), ERR_PEER);
    struct buf again;
    buf_init(&again);
    assert_int_equal(control_put_challenge(&again, &other, &why), ERR_OK);
    assert_int_equal(control_get_hello(&m, &other, "k", &why), ERR_PEER);
    assert_int_equal(control_get_hello(&m, &hub, "k", &why), ERR_OK);
    buf_fini(&b);
    buf_fini(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_of_all_lengths_come_back),
        cmocka_unit_test(test_bad_heads_are_refused_early),
        cmocka_unit_test(test_the_handshake),
        cmocka_unit_test(test_a_hello_cannot_be_reflected_or_replayed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
