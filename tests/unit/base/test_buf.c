/* test_buf.c - the byte buffer, UTF-8 validity and JSON strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"

static void test_append_drop_take(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b);
    assert_null(b.data);
    buf_put(&b, NULL, 0);
    assert_null(b.data);
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    buf_putc(&b, '!');
    assert_false(b.failed);
    assert_memory_equal(b.data, "0,1,2,", 6);
    assert_int_equal(b.data[b.len], '\0');
    assert_int_equal(b.len, 10 + 180 + 2700 + 1000 + 1);

    buf_drop(&b, 2);
    assert_memory_equal(b.data, "1,2,", 4);
    buf_drop(&b, b.len + 100);
    assert_int_equal(b.len, 0);
    buf_puts(&b, "kept");
    size_t len;
    char *s = buf_take(&b, &len);
    assert_int_equal(len, 4);
    assert_string_equal(s, "kept");
    assert_null(b.data);
    free(s);
    buf_fini(&b);
}

static void test_failure_is_sticky_until_cleared(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b);
    buf_puts(&b, "ab");
    buf_put(&b, "x", SIZE_MAX - 1); /* cannot be had: nothing is copied */
    assert_true(b.failed);
    buf_puts(&b, "cd");
    assert_int_equal(b.len, 2);
    buf_clear(&b);
    assert_false(b.failed);
    buf_puts(&b, "cd");
    assert_string_equal(b.data, "cd");
    buf_fini(&b);
}

static void test_utf8_valid_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        size_t len, valid;
    } cases[] = {
        {"", 0, 0},
        {"a\0b", 3, 3},
        {"\xc3\xa9", 2, 2},
        {"\xe2\x82\xac", 3, 3},
        {"\xf0\x9f\x98\x80", 4, 4},
        {"\xf4\x8f\xbf\xbf", 4, 4},      /* U+10FFFF */
        {"\xf4\x90\x80\x80", 4, 0},      /* past it */
        {"\xf5\x80\x80\x80", 4, 0},
        {"x\xc0\xaf", 3, 1},             /* long forms of "/" */
        {"x\xc1\xbf", 3, 1},
        {"x\xe0\x80\xaf", 4, 1},
        {"x\xe0\x9f\xbf", 4, 1},
        {"x\xf0\x8f\xbf\xbf", 5, 1},
        {"\xe0\xa0\x80", 3, 3},          /* shortest three-byte form */
        {"\xf0\x90\x80\x80", 4, 4},
        {"\xed\x9f\xbf", 3, 3},          /* below the surrogates */
        {"\xed\xa0\x80", 3, 0},          /* a surrogate */
        {"\xed\xbf\xbf", 3, 0},
        {"\xee\x80\x80", 3, 3},          /* above them */
        {"ab\x80", 3, 2},                /* stray continuation */
        {"ab\xe2\x82", 4, 2},            /* cut off */
        {"ab\xf0\x9f\x98", 5, 2},
        {"\xe2\x28\xa1", 3, 0},
        {"\xff", 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(utf8_valid_prefix(cases[i].s, cases[i].len), cases[i].valid);
}

/* Every code point, encoded by the definition, decodes to itself. */
static void test_utf8_decode_all(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x110fff; cp++) {
        char s[4];
        size_t n;
        if (cp < 0x80) {
            s[0] = (char)cp, n = 1;
        } else if (cp < 0x800) {
            s[0] = (char)(0xc0 | cp >> 6), s[1] = (char)(0x80 | (cp & 63)), n = 2;
        } else if (cp < 0x10000) {
            s[0] = (char)(0xe0 | cp >> 12), s[1] = (char)(0x80 | (cp >> 6 & 63));
            s[2] = (char)(0x80 | (cp & 63)), n = 3;
        } else {
            s[0] = (char)(0xf0 | cp >> 18), s[1] = (char)(0x80 | (cp >> 12 & 63));
            s[2] = (char)(0x80 | (cp >> 6 & 63)), s[3] = (char)(0x80 | (cp & 63)), n = 4;
        }
        uint32_t got = 0;
        int used = utf8_decode(s, n, &got);
        if ((cp >= 0xd800 && cp < 0xe000) || cp > 0x10ffff) {
            assert_true(used < 0);
        } else {
            assert_int_equal(used, (int)n);
            assert_int_equal(got, cp);
        }
    }
}

static void check_json(const char *s, size_t len, bool ascii, const char *want)
{
    struct buf b;
    buf_init(&b);
    buf_put_json(&b, s, len, ascii);
    assert_string_equal(b.data, want);
    json_t *parsed = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(parsed);
    json_decref(parsed);
    buf_fini(&b);
}

static void test_json(void **state)
{
    (void)state;
    check_json("", 0, false, "\"\"");
    check_json("a\"b\\c", 5, false, "\"a\\\"b\\\\c\"");
    check_json("\b\f\n\r\t\x01\x1f\0z", 9, false, "\"\\b\\f\\n\\r\\t\\u0001\\u001f\\u0000z\"");
    check_json("\xc3\xa9\x7f", 3, false, "\"\xc3\xa9\x7f\"");
    check_json("\xc3\xa9\x7f~", 4, true, "\"\\u00e9\\u007f~\"");
    check_json("\xf0\x9f\x98\x80", 4, true, "\"\\ud83d\\ude00\"");
    /* One replacement for each maximal bad part, as in Unicode 3.9. */
    check_json("a\xf0\x9f\x98z", 5, false, "\"a\xef\xbf\xbdz\"");
    check_json("\xed\xa0\x80", 3, true, "\"\\ufffd\\ufffd\\ufffd\"");
    check_json("\xff\xfe", 2, true, "\"\\ufffd\\ufffd\"");
}

/* Random bytes always give a string that a strict parser accepts. */
static void test_json_of_random_bytes(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        char s[24];
        for (size_t i = 0; i < sizeof s; i++) {
            seed = seed * 1664525u + 1013904223u;
            s[i] = (char)(seed >> 24);
        }
        struct buf b;
        buf_init(&b);
        buf_put_json(&b, s, seed % sizeof s, round & 1);
        json_t *parsed = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(parsed);
        json_decref(parsed);
        buf_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_drop_take),
        cmocka_unit_test(test_failure_is_sticky_until_cleared),
        cmocka_unit_test(test_utf8_valid_prefix),
        cmocka_unit_test(test_utf8_decode_all),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_of_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
