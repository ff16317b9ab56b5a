/* test_arena.c - alignment, zeroing, limits and overflow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

static void assert_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(p[i], 0);
}

static void test_blocks_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0);
    enum { N = 3000 };
    static unsigned char *blocks[N];
    size_t total = 0;
    for (int i = 0; i < N; i++) {
        size_t bytes = (size_t)(i * 37 % 301);
        if (i % 500 == 0)
            bytes = 3u << 20; /* larger than any chunk */
        blocks[i] = arena_alloc(&a, bytes);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % (bytes >= 64 ? 64 : 16), 0);
        assert_zero(blocks[i], bytes);
        memset(blocks[i], i % 251 + 1, bytes);
        total += bytes;
    }
    for (int i = 0; i < N; i++)
        if (i * 37 % 301 && i % 500)
            assert_int_equal(blocks[i][i * 37 % 301 - 1], i % 251 + 1);
    assert_int_equal(a.used_bytes, total);
    arena_fini(&a);
    assert_int_equal(a.used_bytes, 0);
    assert_non_null(arena_alloc(&a, 10)); /* usable again */
    arena_fini(&a);
}

static void test_limit(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1000);
    assert_null(arena_alloc(&a, 1001));
    assert_non_null(arena_alloc(&a, 600));
    assert_null(arena_alloc(&a, 401));
    assert_non_null(arena_alloc(&a, 400));
    assert_null(arena_alloc(&a, 1));
    arena_fini(&a);
}

static void test_overflow(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0);
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 64));
    assert_null(arena_strndup(&a, "x", SIZE_MAX));
    assert_null(mem_alloc(SIZE_MAX / 2, 3));
    assert_null(mem_alloc(SIZE_MAX, 1));
    arena_fini(&a);
}

static void test_strndup(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0);
    assert_string_equal(arena_strndup(&a, "hello world", 5), "hello");
    assert_string_equal(arena_strndup(&a, NULL, 0), "");
    arena_fini(&a);
}

static void test_mem_alloc(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4097, (2u << 20) - 1, 2u << 20, (5u << 20) + 7};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *p = mem_alloc(sizes[i], 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_zero(p, sizes[i]);
        free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_are_aligned_zeroed_and_apart),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_strndup),
        cmocka_unit_test(test_mem_alloc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
