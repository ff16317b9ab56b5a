/* test_wire.c - heads, checksums, results and activations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "base/f16.h"
#include "proto/wire.h"

enum { EPOCH = 7, SEQUENCE = 3, LEN = 64 + 128 };

static const struct wire_limits limits = {
    .max_rows = 16, .max_seqs = 8, .max_slots = 8, .n_pages = 64, .max_context = 1024, .n_vocab = 1000,
};

static void sealed(uint64_t *words)
{
    unsigned char *data = (unsigned char *)words;
    for (int i = 0; i < LEN; i++)
        data[i] = (unsigned char)(i * 7);
    struct msg_head *h = (struct msg_head *)words;
    *h = (struct msg_head){.kind = WIRE_ACTS, .step = 9, .n_rows = 4, .desc_bytes = 64};
    wire_seal(words, LEN, EPOCH, SEQUENCE);
}

static void test_a_sealed_message_is_accepted(void **state)
{
    (void)state;
    uint64_t words[LEN / 8];
    const struct msg_head *h = NULL;
    struct why why;
    sealed(words);
    assert_int_equal(wire_check(words, LEN, EPOCH, SEQUENCE, &h, &why), ERR_OK);
    assert_ptr_equal(h, words);
    assert_int_equal(h->step, 9);
    assert_int_equal(wire_x_len(h), 64);
    assert_ptr_equal(wire_x(h), (char *)words + 128);
}

static void test_every_bit_flip_and_truncation_is_refused(void **state)
{
    (void)state;
    uint64_t words[LEN / 8];
    const struct msg_head *h = NULL;
    struct why why;
    for (int bit = 0; bit < LEN * 8; bit++) {
        sealed(words);
        ((unsigned char *)words)[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_not_equal(wire_check(words, LEN, EPOCH, SEQUENCE, &h, &why), ERR_OK);
        assert_null(h);
    }
    sealed(words);
    for (size_t len = 0; len < LEN; len++)
        assert_int_equal(wire_check(words, len, EPOCH, SEQUENCE, &h, &why), ERR_FORMAT);
}

static void test_other_epochs_and_numbers_are_the_peers_fault(void **state)
{
    (void)state;
    uint64_t words[LEN / 8];
    const struct msg_head *h = NULL;
    struct why why;
    sealed(words);
    assert_int_equal(wire_check(words, LEN, EPOCH + 1, SEQUENCE, &h, &why), ERR_PEER);
    assert_int_equal(wire_check(words, LEN, EPOCH, SEQUENCE + 1, &h, &why), ERR_PEER);
    assert_non_null(strstr(why.text, "duplicated"));
    assert_int_equal(wire_check(words, LEN, EPOCH, SEQUENCE - 1, &h, &why), ERR_PEER);
    assert_non_null(strstr(why.text, "lost"));
}

/* A sender that is wrong but not damaged: the checksum holds, the parts do not fit. */
static void test_parts_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct msg_head wrong[] = {
        {.kind = WIRE_ACTS},                                       /* no descriptor */
        {.kind = WIRE_ACTS, .desc_bytes = 32},                     /* not a multiple of 64 */
        {.kind = WIRE_ACTS, .desc_bytes = 192},                    /* longer than the body */
        {.kind = WIRE_ACTS, .desc_bytes = 64, .x_type = 3},        /* unknown type */
        {.kind = WIRE_TOKENS, .desc_bytes = 64},                   /* a descriptor elsewhere */
        {.kind = WIRE_STOP},                                       /* with a body */
        {.kind = WIRE_KIND_COUNT},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint64_t words[LEN / 8] = {0};
        const struct msg_head *h = NULL;
        struct why why;
        memcpy(words, &wrong[i], sizeof wrong[i]);
        wire_seal(words, LEN, EPOCH, SEQUENCE);
        assert_int_equal(wire_check(words, LEN, EPOCH, SEQUENCE, &h, &why), ERR_FORMAT);
    }
    assert_string_equal(wire_kind_name(WIRE_TOKENS), "tokens");
    assert_string_equal(wire_kind_name(99), "unknown");
}

static size_t put_some_results(uint64_t *words)
{
    static const struct wire_top top[] = {{5, -0.25f}, {9, -1.5f}};
    struct wire_result a = {.slot = 1, .pos = 10, .token = 5, .argmax = 5, .logprob = -0.25f,
                            .flags = WIRE_ROW_GENERATED | WIRE_ROW_SAMPLE, .n_top = 2, .ended = 1, .top = top};
    struct wire_result b = {.slot = 7, .pos = 1023, .token = 999, .argmax = -1, .flags = WIRE_ROW_SCORE};
    size_t n = wire_put_result(words, &a);
    return n + wire_put_result((char *)words + n, &b);
}

static void test_results_come_back(void **state)
{
    (void)state;
    uint64_t words[16];
    struct wire_result r;
    struct why why;
    size_t len = put_some_results(words), at = 0;
    assert_int_equal(wire_get_result(words, len, &at, &limits, &r, &why), ERR_OK);
    assert_int_equal(r.slot, 1);
    assert_int_equal(r.pos, 10);
    assert_int_equal(r.token, 5);
    assert_int_equal(r.ended, 1);
    assert_int_equal(r.n_top, 2);
    assert_int_equal(r.top[1].token, 9);
    assert_true(r.top[1].logprob == -1.5f);
    assert_int_equal(wire_get_result(words, len, &at, &limits, &r, &why), ERR_OK);
    assert_int_equal(r.token, 999);
    assert_null(r.top);
    assert_int_equal(at, len);
    assert_int_equal(wire_get_result(words, len, &at, &limits, &r, &why), ERR_FORMAT);
}

static void test_embeddings_come_back(void **state)
{
    (void)state;
    static const float hidden[] = {0.5f, -2.0f, 1e-20f};
    struct wire_limits lim = limits;
    struct wire_result a = {.slot = 1, .pos = 10, .token = -1, .argmax = -1, .flags = WIRE_ROW_EMBED,
                            .n_hidden = 3, .hidden = hidden}, r;
    uint64_t words[8];
    struct why why;
    size_t len = wire_put_result(words, &a), at = 0;
    assert_int_equal(len, 24 + 16);
    assert_int_equal(wire_get_result(words, len, &at, &lim, &r, &why), ERR_FORMAT); /* of a decoder */
    lim.n_hidden = 3;
    assert_int_equal(wire_get_result(words, len, &at, &lim, &r, &why), ERR_OK);
    assert_int_equal(at, len);
    assert_int_equal(r.n_hidden, 3);
    assert_memory_equal(r.hidden, hidden, sizeof hidden);
    for (size_t cut = 0; cut < len; cut++) {
        at = 0;
        assert_int_equal(wire_get_result(words, cut, &at, &lim, &r, &why), ERR_FORMAT);
    }
    ((float *)(words + 3))[2] = NAN;
    at = 0;
    assert_int_equal(wire_get_result(words, len, &at, &lim, &r, &why), ERR_FORMAT);
}

static void test_damaged_results_never_leave_the_range(void **state)
{
    (void)state;
    uint64_t words[16];
    struct wire_result r;
    struct why why;
    size_t len = put_some_results(words);
    for (size_t bit = 0; bit < len * 8; bit++) {
        size_t at = 0;
        put_some_results(words);
        ((unsigned char *)words)[bit / 8] ^= (unsigned char)(1 << bit % 8);
        while (at < len && wire_get_result(words, len, &at, &limits, &r, &why) == ERR_OK) {
            assert_true(r.slot < limits.max_slots && (uint32_t)r.pos < limits.max_context);
            assert_true(r.token >= -1 && r.token < limits.n_vocab && r.n_top <= WIRE_MAX_TOP);
        }
    }
    put_some_results(words);
    for (size_t cut = 0; cut < 24 + 16; cut++) {
        size_t at = 0;
        assert_int_equal(wire_get_result(words, cut, &at, &limits, &r, &why), ERR_FORMAT);
        assert_int_equal(at, 0);
    }
}

static void test_activations_travel_in_three_types(void **state)
{
    (void)state;
    float x[257], y[257];
    char bytes[sizeof x];
    for (int i = 0; i < 257; i++)
        x[i] = (float)(i - 128) * 0.37f;
    for (enum wire_type t = WIRE_F32; t < WIRE_TYPE_COUNT; t++) {
        assert_int_equal(wire_x_bytes(t, 257), t == WIRE_F32 ? 1028 : 514);
        wire_put_x(bytes, t, x, 257);
        wire_get_x(y, t, bytes, 257);
        for (int i = 0; i < 257; i++) {
            float want = t == WIRE_F32   ? x[i]
                         : t == WIRE_F16 ? f16_to_f32(f32_to_f16(x[i]))
                                         : bf16_to_f32(f32_to_bf16(x[i]));
            assert_memory_equal(&y[i], &want, sizeof want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sealed_message_is_accepted),
        cmocka_unit_test(test_every_bit_flip_and_truncation_is_refused),
        cmocka_unit_test(test_other_epochs_and_numbers_are_the_peers_fault),
        cmocka_unit_test(test_parts_that_do_not_fit_are_refused),
        cmocka_unit_test(test_results_come_back),
        cmocka_unit_test(test_embeddings_come_back),
        cmocka_unit_test(test_damaged_results_never_leave_the_range),
        cmocka_unit_test(test_activations_travel_in_three_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
