/* guard.h - buffers that end at an unmapped page, random data, and the list of
 * instruction sets to test: one access too many is a crash, not a fluke. */
#ifndef CORDEE_TESTS_KERNELS_GUARD_H
#define CORDEE_TESTS_KERNELS_GUARD_H

#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "kernels/kernels.h"

/* `bytes` bytes that end at the guard page, filled with 0xff (NaN). Multiples of
 * 64 are therefore 64-byte aligned. */
static void *guarded(size_t bytes)
{
    size_t page = 4096, room = (bytes + page - 1) / page * page;
    char *base = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(base != MAP_FAILED);
    assert_int_equal(mprotect(base + room, page, PROT_NONE), 0);
    memset(base, 0xff, room);
    return base + room - bytes;
}

static void guarded_free(void *p, size_t bytes)
{
    size_t page = 4096, room = (bytes + page - 1) / page * page;
    munmap((char *)p + bytes - room, room + page);
}

static uint32_t random_state = 1;

static uint32_t random_u32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static float random_unit(void) /* [-1, 1) */
{
    return (float)(int32_t)random_u32() * 0x1p-31f;
}

static inline void random_floats(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_unit() * (i % 97 == 13 ? 8.0f : 1.0f); /* a few large ones, as activations have */
}

/* The masks to test, weakest first; returns how many. */
static inline int isa_masks(unsigned *masks, int max)
{
    unsigned have = cpu_isa();
    int n = 0;
    masks[n++] = ISA_REF;
    for (unsigned bit = 1, mask = 0; bit && bit <= have && n < max; bit <<= 1)
        if (bit & have) {
            mask |= bit;
            masks[n++] = mask;
        }
    return n;
}

#endif
