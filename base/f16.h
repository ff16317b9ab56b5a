/* f16.h - half and bfloat16 conversions in plain C: round to nearest even, NaNs
 * made quiet, subnormals kept. Halves are bit-exact with F16C; the AVX512_BF16
 * instructions differ in that they flush subnormals to zero. static inline so
 * that no ISA-specific out-of-line copy can be shared by the linker. */
#ifndef CORDEE_BASE_F16_H
#define CORDEE_BASE_F16_H

#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float bf16_to_f32(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 64); /* quiet the NaN */
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, man = h & 0x3ff;
    if (exp == 0) { /* zero or subnormal: man * 2^-24 exactly */
        float f = (float)man * 0x1p-24f;
        return f32_from_bits(f32_bits(f) | sign);
    }
    if (exp == 31)
        return f32_from_bits(sign | 0x7f800000u | man << 13 | (uint32_t)(man != 0) << 22);
    return f32_from_bits(sign | (exp + 112) << 23 | man << 13);
}

static inline uint16_t f32_to_f16(float f)
{
    uint32_t u = f32_bits(f), sign = (u >> 16) & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000u) /* rounds to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000u) { /* subnormal: let the FPU round at the right place */
        float m = f32_from_bits(a) + 0.5f;
        return (uint16_t)(sign | (f32_bits(m) - 0x3f000000u));
    }
    a += 0xc8000fffu + ((a >> 13) & 1); /* rebias by -112, round to even */
    return (uint16_t)(sign | a >> 13);
}

#endif
