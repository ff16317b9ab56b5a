/* probe_ref.c - the roof of plain C code. */
#include <string.h>

#include "kernels/table.h"

uint64_t probe_read_ref(const void *p, size_t bytes)
{
    uint64_t sum = 0, word;
    for (size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
        memcpy(&word, (const char *)p + i, sizeof word);
        sum ^= word;
    }
    return sum;
}

double probe_mul_ref(long rounds)
{
    enum { CHAINS = 8 };
    volatile float seed = 1;
    float acc[CHAINS] = {seed}, x = seed;
    for (long i = 0; i < rounds; i++)
        for (int j = 0; j < CHAINS; j++)
            acc[j] = acc[j] * x + x;
    for (int j = 0; j < CHAINS; j++)
        seed = seed + acc[j];
    return 2.0 * CHAINS * (double)rounds;
}
