/* cpu_limits.h - the least of hardware and cgroup limits, read from files.
 *
 * Apart from cpu.h so that tests can point it at a made-up /proc and /sys.
 */
#ifndef CORDEE_BASE_CPU_LIMITS_H
#define CORDEE_BASE_CPU_LIMITS_H

#include <stdint.h>

struct cpu_limits {
    double quota_cores;        /* cgroup CPU quota in cores; 0: none */
    uint64_t memory_bytes;     /* total this process may use; 0: unknown */
    uint64_t available_bytes;  /* of that, obtainable now; 0: unknown */
};

/* Reads <root>/proc/meminfo, <root>/proc/self/{cgroup,mountinfo} and, at every
 * level from this process's cgroup up to the mount point, the v1 or v2 limit
 * files. root: "" on a real system. A file that is missing or makes no sense
 * sets no limit. */
void cpu_limits_read(const char *root, struct cpu_limits *out);

#endif
