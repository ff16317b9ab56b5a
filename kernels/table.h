/* table.h - declares every kernel that kernels.inc lists. */
#ifndef CORDEE_KERNELS_TABLE_H
#define CORDEE_KERNELS_TABLE_H

#include "kernels/kernels.h"

#if (defined(__x86_64__) || defined(_M_X64)) && !defined(CORDEE_REF_ONLY)
#define KERNELS_X86 1
#else
#define KERNELS_X86 0
#endif

/* Room for the expanded weights of 16 rows by 128 columns, kept in the first-level cache. */
#define MUL_PANEL_BYTES 8192

/* Activation rows of one call of OpenBLAS, and room for 16 expanded weight rows and the result. */
#define BLAS_PANEL_ROWS 64
#define BLAS_SCRATCH_BYTES (PACK_ROWS * (MUL_MAX_K + BLAS_PANEL_ROWS) * sizeof(float))

/* AMX prompts: columns of weights expanded at a time, activation rows that share them, and room for both as
 * bf16 (two groups of weights) and four tiles of sums. 32 KiB of weights belong in a first-level cache of 48,
 * 512 KiB of activations in a second-level cache of 2 MiB. */
#define AMX_PANEL_COLS 512
#define AMX_BEST_ROWS 512
#define AMX_SCRATCH_BYTES ((AMX_BEST_ROWS + 2 * PACK_ROWS) * AMX_PANEL_COLS * 2 + 4096)
/* AMX decode: codes, sums and accumulators between tiles and vectors. */
#define AMX_Q8_SCRATCH_BYTES (2 * 4096 + 2 * 16384 + 4096)

#define KERNEL(slot, isa, type, fn) type##_fn fn;
#define KERNEL_FAST(slot, isa, type, fn) type##_fn fn;
#define MUL(precision, format, isa, act, fn, ...) mul_fn fn;
#include "kernels/kernels.inc"
#undef KERNEL
#undef KERNEL_FAST
#undef MUL

#endif
