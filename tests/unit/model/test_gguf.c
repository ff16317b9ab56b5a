/* The GGUF reader against well-formed, truncated and hostile files built here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/tools/gguf_writer.h"

/* Opens from an exact-size block, so that a sanitizer sees one byte too many. */
static err open_copy(const struct buf *b, size_t len, struct why *why)
{
    struct gguf *g = NULL;
    uint8_t *copy = malloc(len ? len : 1);

    assert_non_null(copy);
    memcpy(copy, b->data, len);
    err e = gguf_open_memory(copy, len, "x.gguf", &g, why);
    gguf_close(g);
    free(copy);
    return e;
}

static void refuses(struct buf *b, err want, const char *reason)
{
    struct why why = {""};
    err e = open_copy(b, b->len, &why);

    if (e != want || !strstr(why.text, reason))
        print_error("wanted \"%s\", got %s: %s\n", reason, err_name(e), why.text);
    assert_int_equal(e, want);
    assert_non_null(strstr(why.text, reason));
    assert_non_null(strstr(why.text, "x.gguf"));
    buf_fini(b);
}

/* Two tensors, a few values of every shape. */
static void good(struct buf *b)
{
    put_head(b, 3, 2, 5);
    put_value_u32(b, "a.count", 7);
    put_text(b, "a.name");
    put_u32(b, GGUF_STRING);
    put_text(b, "seven");
    put_text(b, "a.list");
    put_u32(b, GGUF_ARRAY);
    put_u32(b, GGUF_STRING);
    put_u64(b, 3);
    put_text(b, "x");
    put_text(b, "");
    put_text(b, "zz");
    put_text(b, "a.empty");
    put_u32(b, GGUF_ARRAY);
    put_u32(b, GGUF_I32);
    put_u64(b, 0);
    put_text(b, "a.half");
    put_u32(b, GGUF_F64);
    double half = 0.5;
    buf_put(b, &half, sizeof half);
    put_tensor(b, "w", 4, 2, 0, 0);     /* 32 bytes of F32 */
    put_tensor(b, "q", 32, 1, 9, 32);   /* Q8_1: listed, not computed with */
    put_pad(b, 32);
    put_zeros(b, 32 + 36);
}

static void reads_what_was_written(void **state)
{
    struct buf b;
    struct gguf *g;
    struct why why;
    double x;
    const char *s;
    size_t len;

    (void)state;
    good(&b);
    assert_int_equal(gguf_open_memory(b.data, b.len, "x.gguf", &g, &why), ERR_OK);
    assert_true(gguf_number(gguf_find(g, "a.count"), 0, &x) && x == 7);
    assert_true(gguf_number(gguf_find(g, "a.half"), 0, &x) && x == 0.5);
    assert_null(gguf_find(g, "a"));
    assert_int_equal(gguf_find(g, "a.empty")->n, 0);
    struct gguf_strings w = gguf_strings(gguf_find(g, "a.list"));
    assert_true(gguf_string_next(&w, &s, &len) && len == 1 && s[0] == 'x');
    assert_true(gguf_string_next(&w, &s, &len) && len == 0);
    assert_true(gguf_string_next(&w, &s, &len) && len == 2);
    assert_false(gguf_string_next(&w, &s, &len));

    const struct file_tensor *t = catalog_find(gguf_tensors(g), "w");
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 4);
    assert_int_equal(t->bytes, 32);
    assert_int_equal(t->fmt, FMT_F32);
    t = catalog_find(gguf_tensors(g), "q");
    assert_int_equal(t->fmt, FMT_COUNT);
    assert_string_equal(t->type_name, "Q8_1");
    gguf_close(g);
    buf_fini(&b);
}

/* Every prefix of a good file is refused with a reason, and none reads past its end. */
static void every_truncation_is_refused(void **state)
{
    struct buf b;

    (void)state;
    good(&b);
    for (size_t len = 0; len < b.len; len++) {
        struct why why = {""};
        assert_int_not_equal(open_copy(&b, len, &why), ERR_OK);
        assert_true(why.text[0] != 0);
    }
    buf_fini(&b);
}

static void refuses_wrong_headers(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b);
    buf_puts(&b, "GGML0000000000000000000000");
    refuses(&b, ERR_FORMAT, "not a GGUF file");
    put_head(&b, 1, 0, 0);
    refuses(&b, ERR_UNSUPPORTED, "version 1");
    put_head(&b, 0x03000000, 0, 0);
    refuses(&b, ERR_UNSUPPORTED, "big-endian");
    put_head(&b, 3, 0, UINT64_MAX);
    refuses(&b, ERR_FORMAT, "metadata entries");
    put_head(&b, 3, 1ull << 60, 0);
    refuses(&b, ERR_FORMAT, "tensors");
}

static void refuses_wrong_metadata(void **state)
{
    struct buf b;

    (void)state;
    put_head(&b, 3, 0, 2);
    put_value_u32(&b, "k", 1);
    put_value_u32(&b, "k", 2);
    refuses(&b, ERR_FORMAT, "k is there twice");

    put_head(&b, 3, 0, 1);
    put_text(&b, "k");
    put_u32(&b, 99);
    put_zeros(&b, 16);
    refuses(&b, ERR_FORMAT, "unknown value type 99");

    put_head(&b, 3, 0, 1);
    put_text(&b, "k");
    put_u32(&b, GGUF_ARRAY);
    put_u32(&b, GGUF_ARRAY);
    put_u64(&b, 1);
    refuses(&b, ERR_UNSUPPORTED, "array of arrays");

    put_head(&b, 3, 0, 1);
    put_text(&b, "k");
    put_u32(&b, GGUF_ARRAY);
    put_u32(&b, GGUF_U64);
    put_u64(&b, UINT64_MAX / 8 + 2); /* times 8 wraps to 8 */
    put_zeros(&b, 32);
    refuses(&b, ERR_FORMAT, "claims");

    put_head(&b, 3, 0, 1);
    put_u64(&b, UINT64_MAX); /* key length */
    put_zeros(&b, 32);
    refuses(&b, ERR_FORMAT, "truncated");

    put_head(&b, 3, 0, 1);
    put_u64(&b, 3);
    buf_put(&b, "a\0b", 3);
    put_u32(&b, GGUF_U8);
    put_zeros(&b, 8);
    refuses(&b, ERR_FORMAT, "NUL");

    put_head(&b, 3, 0, 1);
    put_value_u32(&b, "general.alignment", 24);
    refuses(&b, ERR_FORMAT, "power of two");
}

static void refuses_wrong_tensors(void **state)
{
    struct buf b;
    static const struct {
        const char *reason;
        uint64_t cols, rows, offset;
        uint32_t type;
    } rows[] = {
        {"dimension 1 is 0", 4, 0, 0, 0},
        {"dimension 1 is", 1ull << 40, 1ull << 40, 0, 0},
        {"whole blocks", 100, 1, 0, 12},
        {"unknown type 77", 4, 4, 0, 77},
        {"unknown type 4", 4, 4, 0, 4},
        {"not a multiple of 32", 4, 4, 8, 0},
        {"needs bytes", 4, 4, UINT64_MAX - 31, 0},
        {"needs bytes", 1ull << 30, 1ull << 20, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put_head(&b, 3, 1, 0);
        put_tensor(&b, "w", rows[i].cols, rows[i].rows, rows[i].type, rows[i].offset);
        put_pad(&b, 32);
        put_zeros(&b, 64);
        refuses(&b, ERR_FORMAT, rows[i].reason);
    }
    put_head(&b, 3, 2, 0);
    put_tensor(&b, "w", 4, 4, 0, 0);
    put_tensor(&b, "v", 4, 4, 0, 32);
    put_pad(&b, 32);
    put_zeros(&b, 128);
    refuses(&b, ERR_FORMAT, "overlap");
    put_head(&b, 3, 2, 0);
    put_tensor(&b, "w", 4, 2, 0, 0);
    put_tensor(&b, "w", 4, 2, 0, 32);
    put_pad(&b, 32);
    put_zeros(&b, 64);
    refuses(&b, ERR_FORMAT, "there twice");
}

static void says_what_the_system_said(void **state)
{
    struct gguf *g;
    struct why why;

    (void)state;
    assert_int_equal(gguf_open("/nowhere/model.gguf", &g, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why.text, "/nowhere/model.gguf"));
    assert_int_equal(gguf_open("/dev", &g, &why), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written), cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(refuses_wrong_headers),  cmocka_unit_test(refuses_wrong_metadata),
        cmocka_unit_test(refuses_wrong_tensors),  cmocka_unit_test(says_what_the_system_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
