/* test_err.c - reasons are cut, never overrun, and survive being prefixed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void test_set_and_prefix(void **state)
{
    (void)state;
    struct why why;
    assert_int_equal(why_set(&why, ERR_SHAPE, "%d columns, expected %d", 7, 8), ERR_SHAPE);
    assert_string_equal(why.text, "7 columns, expected 8");
    assert_int_equal(why_prefix(&why, ERR_FORMAT, "tensor %s", "a"), ERR_FORMAT);
    assert_string_equal(why.text, "tensor a: 7 columns, expected 8");
}

static void test_null_why_drops_the_reason(void **state)
{
    (void)state;
    assert_int_equal(why_set(NULL, ERR_IO, "x"), ERR_IO);
    assert_int_equal(why_prefix(NULL, ERR_IO, "x"), ERR_IO);
}

static void test_why_may_be_its_own_argument(void **state)
{
    (void)state;
    struct why why;
    why_set(&why, ERR_IO, "inner");
    why_set(&why, ERR_IO, "outer (%s)", why.text);
    assert_string_equal(why.text, "outer (inner)");
}

static void test_long_texts_are_cut(void **state)
{
    (void)state;
    char big[2000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    struct {
        struct why why;
        char guard[8];
    } s;
    memset(&s, 0, sizeof s);
    size_t full = sizeof s.why.text - 1;
    why_set(&s.why, ERR_IO, "%s", big);
    assert_int_equal(strlen(s.why.text), full);
    for (size_t cut = full - 4; cut <= full + 1; cut++) {
        why_set(&s.why, ERR_IO, "%s", "tail");
        why_prefix(&s.why, ERR_IO, "%.*s", (int)cut, big);
        assert_true(strlen(s.why.text) <= full);
    }
    assert_memory_equal(s.guard, "\0\0\0\0\0\0\0\0", sizeof s.guard);
}

static void test_every_code_has_a_name(void **state)
{
    (void)state;
    for (int e = 0; e < ERR_COUNT; e++) {
        assert_true(strlen(err_name((err)e)) > 0);
        assert_true(strlen(err_text((err)e)) > 0);
    }
    assert_string_equal(err_name(ERR_NOMEM), "NOMEM");
    assert_string_equal(err_name((err)999), "UNKNOWN");
    assert_int_equal(ERR_OK, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_prefix),
        cmocka_unit_test(test_null_why_drops_the_reason),
        cmocka_unit_test(test_why_may_be_its_own_argument),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_every_code_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
