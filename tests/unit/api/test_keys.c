/* test_keys.c - API keys from a value and from files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/keys.h"

static char path[] = "/tmp/cordee-keys-XXXXXX";

static void file_put(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_open_to_all(void **state)
{
    (void)state;
    struct keys *k = (struct keys *)path;
    struct why why;
    assert_int_equal(keys_open(NULL, NULL, &k, &why), ERR_OK);
    assert_null(k);
    assert_int_equal(keys_check(k, NULL), 0);
    assert_int_equal(keys_check(k, "Bearer "), 0); /* what clients without a key send */
    keys_close(k);
}

static void test_check(void **state)
{
    (void)state;
    struct keys *k;
    struct why why;
    char long_key[300];
    file_put("# ours\n\nfirst\r\nsecond  \n");
    assert_int_equal(keys_open("zeroth", path, &k, &why), ERR_OK);
    assert_int_equal(keys_check(k, "Bearer zeroth"), 0);
    assert_int_equal(keys_check(k, "bearer first"), 1);
    assert_int_equal(keys_check(k, "Bearer   second"), 2);
    assert_int_equal(keys_check(k, "Bearer firs"), -1);
    assert_int_equal(keys_check(k, "Bearer first1"), -1);
    assert_int_equal(keys_check(k, "Bearer "), -1);
    assert_int_equal(keys_check(k, "first"), -1);
    assert_int_equal(keys_check(k, NULL), -1);
    memcpy(long_key, "Bearer ", 7);
    memset(long_key + 7, 'a', sizeof long_key - 8);
    long_key[sizeof long_key - 1] = '\0';
    assert_int_equal(keys_check(k, long_key), -1);
    keys_close(k);
}

static void test_bad_files(void **state)
{
    (void)state;
    struct keys *k;
    struct why why;
    file_put("# nothing\n");
    assert_int_equal(keys_open(NULL, path, &k, &why), ERR_INVAL);
    file_put("two words\n");
    assert_int_equal(keys_open(NULL, path, &k, &why), ERR_INVAL);
    assert_int_equal(keys_open("", NULL, &k, &why), ERR_INVAL);
    assert_int_equal(keys_open(NULL, "/nowhere/keys", &k, &why), ERR_IO);
    assert_non_null(strstr(why.text, "/nowhere/keys"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_open_to_all), cmocka_unit_test(test_check),
                                        cmocka_unit_test(test_bad_files) };
    int fd = mkstemp(path);
    if (fd >= 0)
        close(fd);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rc;
}
