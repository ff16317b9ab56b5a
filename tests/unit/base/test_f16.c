/* test_f16.c - half and bfloat16 against the definition and against hardware.
 *
 * Narrowing is checked where it can go wrong: at every representable value, at
 * every midpoint between two neighbours and one float to either side of both,
 * and on a coarse walk through all 2^32 floats.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/f16.h"

static double half_value(uint16_t h)
{
    int exp = h >> 10 & 31, man = h & 0x3ff;
    double v = exp ? ldexp(1024 + man, exp - 25) : ldexp(man, -24);
    return h & 0x8000 ? -v : v;
}

static bool half_is_nan(uint16_t h)
{
    return (h & 0x7fff) > 0x7c00;
}

static void test_f16_widens_exactly(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = f16_to_f32((uint16_t)h);
        if (half_is_nan((uint16_t)h)) {
            assert_true(isnan(f));
            assert_int_equal(f32_to_f16(f), h | 0x200); /* quiet, payload kept */
        } else {
            if ((h & 0x7fff) == 0x7c00)
                assert_true(isinf(f));
            else
                assert_true((double)f == half_value((uint16_t)h));
            assert_int_equal(signbit(f) != 0, h >> 15);
            assert_int_equal(f32_to_f16(f), h);
        }
    }
}

static void test_f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        /* The value after the largest half would be 65536: from there, infinity. */
        double lo = half_value((uint16_t)h), hi = h == 0x7bff ? 65536.0 : half_value((uint16_t)(h + 1));
        float mid = (float)((lo + hi) / 2); /* exact: one bit more than a half */
        uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
        assert_int_equal(f32_to_f16(mid), even);
        assert_int_equal(f32_to_f16(-mid), even | 0x8000);
        assert_int_equal(f32_to_f16(nextafterf(mid, -INFINITY)), h);
        assert_int_equal(f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
    }
    assert_int_equal(f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(f32_to_f16(1e-30f), 0);
}

static void test_bf16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = bf16_to_f32((uint16_t)h);
        uint32_t bits = h << 16;
        if ((h & 0x7fff) > 0x7f80) {
            assert_int_equal(f32_to_bf16(f), h | 0x40);
            continue;
        }
        assert_int_equal(f32_to_bf16(f), h);
        if ((h & 0x7fff) == 0x7f80)
            continue; /* behind infinity there are only NaNs */
        assert_int_equal(f32_to_bf16(f32_from_bits(bits | 0x7fff)), h);
        assert_int_equal(f32_to_bf16(f32_from_bits(bits | 0x8000)), h + (h & 1));
        assert_int_equal(f32_to_bf16(f32_from_bits(bits | 0x8001)), h + 1);
    }
    /* A NaN whose payload is all in the dropped bits must not become infinity. */
    assert_int_equal(f32_to_bf16(f32_from_bits(0x7f800001u)), 0x7fc0);
    assert_int_equal(f32_to_bf16(f32_from_bits(0xff80ffffu)), 0xffc0);
}

#if defined(__x86_64__)
/* F16C by assembly: needs no compiler flag, so the file stays runnable anywhere. */
static float hw_widen(uint16_t h)
{
    float f;
    __asm__("vmovd %1, %%xmm0\n\tvcvtph2ps %%xmm0, %%xmm0\n\tvmovd %%xmm0, %0"
            : "=m"(f) : "r"((uint32_t)h) : "xmm0");
    return f;
}

static uint16_t hw_narrow(float f)
{
    uint32_t h;
    __asm__("vmovd %1, %%xmm0\n\tvcvtps2ph $0, %%xmm0, %%xmm0\n\tvmovd %%xmm0, %0"
            : "=r"(h) : "m"(f) : "xmm0");
    return (uint16_t)h;
}

static void test_f16_equals_hardware(void **state)
{
    (void)state;
    if (!(cpu_isa() & ISA_AVX2))
        skip();
    for (uint32_t h = 0; h < 0x10000; h++)
        assert_int_equal(f32_bits(f16_to_f32((uint16_t)h)), f32_bits(hw_widen((uint16_t)h)));
    for (uint64_t u = 0; u <= UINT32_MAX; u += 1009) { /* a prime: all low bits occur */
        float f = f32_from_bits((uint32_t)u);
        if (f32_to_f16(f) != hw_narrow(f))
            fail_msg("0x%08x: %04x, hardware %04x", (unsigned)u, f32_to_f16(f), hw_narrow(f));
    }
}
#else
static void test_f16_equals_hardware(void **state)
{
    (void)state;
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_widens_exactly),
        cmocka_unit_test(test_f16_rounds_to_nearest_even),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_f16_equals_hardware),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
