/* emulated_tiles.h - AMX kernels on any machine with AVX-512 and BF16: the same
 * source as the real ones, with the tile operations in plain C. */
#ifndef CORDEE_TESTS_TOOLS_EMULATED_TILES_H
#define CORDEE_TESTS_TOOLS_EMULATED_TILES_H

#include <stdbool.h>

#include "kernels/table.h"

/* Makes of a table what the mask with ISA_AMX added would be, but emulated. False, and
 * nothing changed, where the vector half of these kernels cannot run. */
#if KERNELS_X86
bool emulate_tiles(struct kernels *k);
#else
static inline bool emulate_tiles(struct kernels *k)
{
    (void)k;
    return false;
}
#endif

#endif
