/* rng.h - a counter-based random generator: Philox 4x32-10.
 *
 * A number is a pure function of (seed, choice, position): no state to carry, so
 * a replay on another rank, in another order, draws the same number.
 */
#ifndef CORDEE_MODEL_RNG_H
#define CORDEE_MODEL_RNG_H

#include <stdint.h>

/* out[4] = the block at `counter` under `key`. */
void rng_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Uniform in [0, 1), 53 random bits. */
double rng_uniform(uint64_t seed, uint32_t choice, uint32_t position);

#endif
