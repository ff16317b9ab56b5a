/* test_growth.c - a tokenizer.json that makes much of little is stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tokenizer/tokenizer.h"

#define NINES "999999999999999999999999999999999999999999999999"

/* Encodes a short text with the given normalizer and pre-tokenizer, and decodes the first token. */
static err encode(const char *normalizer, const char *pre, const char *decoder, struct why *why)
{
    char json[8192];
    struct tokenizer *t = NULL;
    struct tok_ids ids = {0};
    const char *text = "two words";
    int n = snprintf(json, sizeof json,
                     "{\"version\":\"1.0\",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s]},"
                     "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[%s]},"
                     "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[%s]},"
                     "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\",-1.5],[\"b\",-2]]}}",
                     normalizer, pre, decoder);
    assert_in_range(n, 1, sizeof json - 1);
    assert_int_equal(tokenizer_open_json(json, (size_t)n, NULL, 0, &t, why), ERR_OK);
    err e = tokenizer_encode(t, text, strlen(text), 0, &ids, why);
    struct buf out;
    buf_init(&out);
    int32_t a = 0;
    if (e == ERR_OK)
        e = tokenizer_decode(t, &a, 1, false, &out, why);
    buf_fini(&out);
    tok_ids_fini(&ids);
    tokenizer_close(t);
    return e;
}

#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"z*\"},\"content\":\"" NINES "\"}"
#define WORDS "{\"type\":\"WhitespaceSplit\"}"
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":false}"
#define NFC "{\"type\":\"NFC\"}"
#define FUSE "{\"type\":\"Fuse\"}"
#define LETTER(a, b) "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" a "\"},\"content\":\"" b b b b b b b b b b b b b b b b b b b b "\"}"
#define FOUR(x) x "," x "," x "," x

static void replacements_of_nothing_are_bounded(void **state)
{
    struct why why;
    (void)state;
    assert_int_equal(encode(REPLACE, WORDS, FUSE, &why), ERR_OK);
    assert_int_equal(encode(FOUR(REPLACE), WORDS, FUSE, &why), ERR_LIMIT);
    assert_non_null(strstr(why.text, "normalizer"));
}

static void bytes_of_bytes_are_bounded(void **state)
{
    struct why why;
    (void)state;
    assert_int_equal(encode(NFC, BYTES, FUSE, &why), ERR_OK);
    assert_int_equal(encode(NFC, FOUR(FOUR(BYTES)), FUSE, &why), ERR_LIMIT);
}

static void a_decoded_token_is_bounded(void **state)
{
    struct why why;
    (void)state;
    assert_int_equal(encode(NFC, WORDS, LETTER("a", "c"), &why), ERR_OK);
    assert_int_equal(encode(NFC, WORDS, LETTER("a", "c") "," LETTER("c", "d") "," LETTER("d", "e"), &why), ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replacements_of_nothing_are_bounded),
        cmocka_unit_test(bytes_of_bytes_are_bounded),
        cmocka_unit_test(a_decoded_token_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
