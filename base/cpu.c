/* cpu.c - instruction sets, cores and caches of this process.
 *
 * CPUID says what the core can do; XGETBV says which registers the operating
 * system saves at a context switch. Without the second check a virtual machine
 * that hides AVX-512 state ends the process with SIGILL. AMX needs a third step:
 * Linux gives a process the 8 KiB tile registers only on request, because they
 * make every signal frame larger.
 */
#include "base/cpu.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cpu_limits.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Bits of XCR0: registers the operating system saves. */
enum {
    XCR0_AVX = 3u << 1,    /* XMM, YMM */
    XCR0_AVX512 = 7u << 5, /* masks, upper ZMM, ZMM16-31 */
    XCR0_AMX = 3u << 17,   /* tile configuration, tile data */
};

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

static bool amx_permitted(void)
{
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static unsigned probe_isa(void)
{
    unsigned a, b, c, d, b7, c7, d7, a71 = 0, xcr0, xcr0_high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return ISA_REF;
    __asm__("xgetbv" : "=a"(xcr0), "=d"(xcr0_high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
        return ISA_REF;
    if (a >= 1) { /* highest subleaf of 7 */
        unsigned ignored;
        __get_cpuid_count(7, 1, &a71, &ignored, &ignored, &ignored);
    }
    const unsigned leaf1 = bit_FMA | bit_F16C | bit_AVX;
    const unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL | bit_AVX512CD;
    const unsigned amx = 1u << 22 | 1u << 24 | 1u << 25; /* BF16, TILE, INT8 */
    unsigned isa = ISA_REF;

    /* Each step needs the one before: the masks are cumulative. */
    if ((xcr0 & XCR0_AVX) != XCR0_AVX || (c & leaf1) != leaf1 || !(b7 & bit_AVX2))
        return isa;
    isa |= ISA_AVX2;
    if ((xcr0 & XCR0_AVX512) != XCR0_AVX512 || (b7 & avx512) != avx512)
        return isa;
    isa |= ISA_AVX512;
    if (!(c7 & 1u << 11))
        return isa;
    isa |= ISA_VNNI;
    if (!(a71 & 1u << 5))
        return isa;
    isa |= ISA_BF16;
    if ((xcr0 & XCR0_AMX) == XCR0_AMX && (d7 & amx) == amx && amx_permitted())
        isa |= ISA_AMX;
    return isa;
}
#elif defined(__aarch64__)
static unsigned probe_isa(void)
{
    return ISA_NEON; /* part of the architecture */
}
#else
static unsigned probe_isa(void)
{
    return ISA_REF;
}
#endif

static unsigned probed_isa;

static void probe_once(void)
{
    probed_isa = probe_isa();
}

unsigned cpu_isa(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, probe_once);
    return probed_isa;
}

/* Weakest first; a mask holds everything its set builds on. */
static const struct {
    const char *name;
    unsigned mask;
} isa_sets[] = {
    {"ref", ISA_REF},
    {"neon", ISA_NEON},
    {"avx2", ISA_AVX2},
    {"avx512", ISA_AVX2 | ISA_AVX512},
    {"vnni", ISA_AVX2 | ISA_AVX512 | ISA_VNNI},
    {"bf16", ISA_AVX2 | ISA_AVX512 | ISA_VNNI | ISA_BF16},
    {"amx", ISA_AVX2 | ISA_AVX512 | ISA_VNNI | ISA_BF16 | ISA_AMX},
};
enum { N_ISA_SETS = sizeof isa_sets / sizeof isa_sets[0] };

err cpu_isa_parse(const char *name, unsigned *mask, struct why *why)
{
    if (strcmp(name, "native") == 0) {
        *mask = cpu_isa();
        return ERR_OK;
    }
    for (int i = 0; i < N_ISA_SETS; i++) {
        if (strcmp(name, isa_sets[i].name) != 0)
            continue;
        if (isa_sets[i].mask & ~cpu_isa())
            return why_set(why, ERR_UNSUPPORTED, "instruction set %s: this machine has up to %s", name,
                           cpu_isa_name(cpu_isa()));
        *mask = isa_sets[i].mask;
        return ERR_OK;
    }
    return why_set(why, ERR_INVAL,
                   "instruction set \"%.32s\": expected ref, avx2, avx512, vnni, bf16, amx, neon or native",
                   name);
}

const char *cpu_isa_name(unsigned mask)
{
    for (int i = N_ISA_SETS - 1; i > 0; i--)
        if ((isa_sets[i].mask & ~mask) == 0)
            return isa_sets[i].name;
    return isa_sets[0].name;
}

static int affinity_cores(void)
{
    /* The kernel's mask may be wider than cpu_set_t: grow until it fits. */
    for (int bits = 1024; bits <= 1 << 20; bits *= 2) {
        cpu_set_t *set = CPU_ALLOC(bits);
        size_t size = CPU_ALLOC_SIZE(bits);
        if (!set)
            break;
        int n = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (n > 0)
            return n;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

int cpu_cores(void)
{
    struct cpu_limits limits;
    cpu_limits_read("", &limits);
    int cores = affinity_cores();
    /* A part of a core is not counted: threads beyond the quota are stopped
     * together for the rest of each period, which stalls the whole pipeline. */
    if (limits.quota_cores > 0 && limits.quota_cores < cores)
        cores = (int)floor(limits.quota_cores + 1e-6);
    return cores > 0 ? cores : 1;
}

uint64_t cpu_memory_bytes(void)
{
    struct cpu_limits limits;
    cpu_limits_read("", &limits);
    return limits.memory_bytes;
}

uint64_t cpu_available_bytes(void)
{
    struct cpu_limits limits;
    cpu_limits_read("", &limits);
    return limits.available_bytes;
}

uint64_t cpu_l2_bytes(void)
{
    long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return bytes > 0 ? (uint64_t)bytes : 1u << 20;
}
