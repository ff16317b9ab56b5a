/* cpu.h - what this process may really use: instruction sets, cores, memory.
 *
 * Cores and memory are the least of hardware, affinity mask and cgroup (v1 and
 * v2) limits. An instruction set counts only if CPUID has it and the operating
 * system saves its registers (XGETBV; for AMX, ARCH_REQ_XCOMP_PERM granted).
 */
#ifndef CORDEE_BASE_CPU_H
#define CORDEE_BASE_CPU_H

#include <stdint.h>

#include "base/err.h"

/* Each bit is a kernel set. ISA_REF is the absence of all bits. Kernel files
 * are named after the bit they need: _avx2.c, _avx512.c, _vnni.c, _bf16.c, _amx.c. */
enum {
    ISA_REF = 0,
    ISA_AVX2 = 1u << 0,   /* AVX2 + FMA + F16C */
    ISA_AVX512 = 1u << 1, /* F, BW, DQ, VL, CD */
    ISA_VNNI = 1u << 2,   /* AVX512_VNNI (implies AVX512 in our masks) */
    ISA_BF16 = 1u << 3,   /* AVX512_BF16 */
    ISA_AMX = 1u << 4,    /* AMX-TILE, -INT8, -BF16, and the kernel's leave */
    ISA_NEON = 1u << 5,
};

/* Everything this machine can run, probed once; thread-safe. */
unsigned cpu_isa(void);

/* "ref" | "avx2" | "avx512" | "vnni" | "bf16" | "amx" | "native" -> a cumulative
 * mask (vnni = avx2 + avx512 + vnni). ERR_INVAL for an unknown name,
 * ERR_UNSUPPORTED if this machine lacks a bit of it. */
MUST_CHECK err cpu_isa_parse(const char *name, unsigned *mask, struct why *why);

/* Name of the strongest set in the mask; static storage. */
const char *cpu_isa_name(unsigned mask);

int cpu_cores(void);               /* >= 1 */
uint64_t cpu_memory_bytes(void);   /* total this process may use */
uint64_t cpu_available_bytes(void); /* of that, free now (MemAvailable, cgroup) */
uint64_t cpu_l2_bytes(void);       /* per core; 1 MiB if unknown */

#endif
