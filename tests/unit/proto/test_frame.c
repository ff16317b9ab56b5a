/* test_frame.c - varints, envelopes there and back, and frames that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/frame.h"

static void test_heads(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[6];
        size_t len;
        uint32_t cap;
        int want;
        uint32_t body;
    } rows[] = {
        {{0}, 0, 100, 0, 0},
        {{0}, 1, 100, 1, 0},
        {{100}, 1, 100, 1, 100},
        {{101}, 1, 100, -1, 0},
        {{0x80}, 1, 1000, 0, 0},
        {{0x80, 1}, 2, 1000, 2, 128},
        {{0xff, 0xff, 0xff, 0xff, 0x0f}, 5, UINT32_MAX, 5, UINT32_MAX},
        {{0xff, 0xff, 0xff, 0xff, 0x1f}, 5, UINT32_MAX, -1, 0}, /* 33 bits */
        {{0x80, 0x80, 0x80, 0x80, 0x80, 0}, 6, UINT32_MAX, -1, 0}, /* six bytes */
        {{0xff, 0xff}, 2, 1000, -1, 0}, /* already too long, whatever follows */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t body = 7;
        assert_int_equal(frame_head(rows[i].bytes, rows[i].len, rows[i].cap, &body), rows[i].want);
        assert_int_equal(body, rows[i].want > 0 ? rows[i].body : 7);
    }
}

static void test_an_envelope_comes_back(void **state)
{
    (void)state;
    uint32_t ids[300];
    for (uint32_t i = 0; i < 300; i++)
        ids[i] = i * 1000;
    Cordee__Generate g = CORDEE__GENERATE__INIT;
    g.ids = ids;
    g.n_ids = 300;
    g.has_text = 1;
    g.text = (ProtobufCBinaryData){.data = (uint8_t *)"a\0b", .len = 3};
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT, *back = NULL;
    env.has_id = 1;
    env.id = 77;
    env.body_case = CORDEE__ENVELOPE__BODY_GENERATE;
    env.generate = &g;

    struct buf out;
    struct why why;
    uint32_t body;
    buf_init(&out);
    assert_int_equal(frame_put(&out, &env, &why), ERR_OK);
    int head = frame_head((uint8_t *)out.data, out.len, FRAME_MAX_BYTES, &body);
    assert_int_equal(head, 2);
    assert_int_equal((size_t)head + body, out.len);
    assert_int_equal(frame_get(out.data + head, body, &back, &why), ERR_OK);
    assert_int_equal(back->id, 77);
    assert_int_equal(back->body_case, CORDEE__ENVELOPE__BODY_GENERATE);
    assert_int_equal(back->generate->n_ids, 300);
    assert_int_equal(back->generate->ids[299], 299000);
    assert_memory_equal(back->generate->text.data, "a\0b", 3);
    frame_free(back);

    for (size_t cut = 0; cut + 1 < body; cut++) {
        back = NULL;
        if (frame_get(out.data + head, cut, &back, &why) == ERR_OK)
            frame_free(back); /* a prefix may be a shorter message; it must only be sound */
        else
            assert_null(back);
    }
    buf_fini(&out);
}

/* The densest frame an honest sender makes: a million bare tokens. */
static void test_a_dense_honest_frame_is_accepted(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    static Cordee__Token token[N];
    static Cordee__Token *list[N];
    Cordee__Tokens tokens = CORDEE__TOKENS__INIT;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT, *back = NULL;
    for (int i = 0; i < N; i++) {
        cordee__token__init(&token[i]);
        list[i] = &token[i];
    }
    tokens.token = list;
    tokens.n_token = N;
    env.body_case = CORDEE__ENVELOPE__BODY_TOKENS;
    env.tokens = &tokens;
    struct buf out;
    struct why why;
    uint32_t body;
    buf_init(&out);
    assert_int_equal(frame_put(&out, &env, &why), ERR_OK);
    int head = frame_head((uint8_t *)out.data, out.len, FRAME_MAX_BYTES, &body);
    assert_int_equal(frame_get(out.data + head, body, &back, &why), ERR_OK);
    assert_int_equal(back->tokens->n_token, N);
    frame_free(back);
    buf_fini(&out);
}

/* Three bytes on the wire ask for a StageStats of hundreds in memory. */
static void test_a_frame_that_asks_for_too_much_memory_is_refused(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    struct buf body, msg;
    struct why why;
    Cordee__Envelope *back = NULL;
    buf_init(&body);
    buf_init(&msg);
    for (int i = 0; i < N; i++) /* Stats.stage (field 20), empty */
        buf_put(&body, "\xa2\x01\x00", 3);
    /* Envelope.stats (field 36), length-delimited */
    size_t left = body.len;
    buf_put(&msg, "\xa2\x02", 2);
    for (; left > 0x7f; left >>= 7)
        buf_putc(&msg, (char)(left | 0x80));
    buf_putc(&msg, (char)left);
    buf_put(&msg, body.data, body.len);
    assert_int_equal(frame_get(msg.data, msg.len, &back, &why), ERR_LIMIT);
    assert_null(back);
    buf_fini(&body);
    buf_fini(&msg);
    assert_int_equal(frame_get("", FRAME_MAX_BYTES + 1u, &back, &why), ERR_LIMIT);
}

static void test_garbage_is_refused(void **state)
{
    (void)state;
    struct why why;
    Cordee__Envelope *back = NULL;
    assert_int_equal(frame_get("\xff\xff\xff", 3, &back, &why), ERR_FORMAT);
    assert_null(back);
    frame_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_an_envelope_comes_back),
        cmocka_unit_test(test_a_dense_honest_frame_is_accepted),
        cmocka_unit_test(test_a_frame_that_asks_for_too_much_memory_is_refused),
        cmocka_unit_test(test_garbage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
