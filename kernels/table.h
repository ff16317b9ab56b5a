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

#define KERNEL(slot, isa, type, fn) type##_fn fn;
#define MUL(precision, format, isa, act, fn, ...) mul_fn fn;
#include "kernels/kernels.inc"
#undef KERNEL
#undef MUL

#endif
