/* probe.tmpl.h - what the vector unit and the memory can do at best.
 *
 * PROBE_MUL(function, type, zero, operations, step) defines a probe that keeps
 * PROBE_CHAINS independent accumulators busy; the empty asm keeps the compiler
 * from merging steps.
 */
#include "kernels/table.h"

enum { PROBE_CHAINS = 12 };

#define PROBE_MUL(function, type, zero, operations, step)                              \
    double function(long rounds)                                                       \
    {                                                                                  \
        type acc[PROBE_CHAINS], x = zero, y = zero;                                    \
        UNROLL                                                                         \
        for (int j = 0; j < PROBE_CHAINS; j++)                                         \
            acc[j] = zero;                                                             \
        __asm__ volatile("" : "+x"(x), "+x"(y)); /* not known to be zero */            \
        for (long i = 0; i < rounds; i++) {                                            \
            UNROLL                                                                     \
            for (int j = 0; j < PROBE_CHAINS; j++) {                                   \
                acc[j] = step(acc[j], x, y);                                           \
                __asm__ volatile("" : "+x"(acc[j]));                                   \
            }                                                                          \
        }                                                                              \
        return (double)(operations)*PROBE_CHAINS * (double)rounds;                     \
    }

#define PROBE_READ(function)                                                           \
    uint64_t function(const void *p, size_t bytes)                                     \
    {                                                                                  \
        const char *at = p;                                                            \
        vu sum[4] = {{0}};                                                             \
        uint64_t words[V_BYTES / 8];                                                   \
        for (size_t i = 0; i + 4 * V_BYTES <= bytes; i += 4 * V_BYTES) {               \
            UNROLL                                                                     \
            for (int j = 0; j < 4; j++)                                                \
                sum[j] ^= (vu)v_load(at + i + j * V_BYTES);                            \
        }                                                                              \
        sum[0] ^= sum[1] ^ sum[2] ^ sum[3];                                            \
        memcpy(words, &sum[0], sizeof words);                                          \
        for (int j = 1; j < V_BYTES / 8; j++)                                          \
            words[0] ^= words[j];                                                      \
        return words[0];                                                               \
    }

INLINE vf probe_fma(vf acc, vf x, vf y)
{
    return v_fma(x, y, acc);
}

INLINE vi probe_maddubs(vi acc, vi x, vi y)
{
    (void)y;
    return v_maddubs(acc, x);
}
