/* codebooks.h - the points that GGML's IQ1, IQ2 and IQ3 types choose from.
 *
 * A point is 8 (or, for IQ3, 4) neighbouring weights without their signs: small
 * digits side by side, the first column in the lowest bits, 2 bits each (IQ3: 3).
 * The tables are constants of the file formats, written by
 * tests/tools/make_codebooks.py; split_codebook.c knows what a digit is worth.
 */
#ifndef CORDEE_KERNELS_CODEBOOKS_H
#define CORDEE_KERNELS_CODEBOOKS_H

#include <stdint.h>

extern const uint16_t codebook_iq1[2048]; /* of IQ1_S and IQ1_M */
extern const uint16_t codebook_iq2_xxs[256];
extern const uint16_t codebook_iq2_xs[512];
extern const uint16_t codebook_iq2_s[1024];
extern const uint16_t codebook_iq3_xxs[256];
extern const uint16_t codebook_iq3_s[512];

#endif
