/* test_cpu.c - instruction-set names, and cgroup limits from a made-up /proc. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/cpu_limits.h"

static void test_isa(void **state)
{
    (void)state;
    unsigned isa = cpu_isa(), mask = 99;
    struct why why;
    assert_int_equal(cpu_isa_parse("native", &mask, &why), ERR_OK);
    assert_int_equal(mask, isa);
    assert_int_equal(cpu_isa_parse("ref", &mask, &why), ERR_OK);
    assert_int_equal(mask, ISA_REF);
    assert_string_equal(cpu_isa_name(ISA_REF), "ref");
    assert_int_equal(cpu_isa_parse(cpu_isa_name(isa), &mask, &why), ERR_OK);

    mask = 77;
    assert_int_equal(cpu_isa_parse("sse9", &mask, &why), ERR_INVAL);
    assert_int_equal(mask, 77);
    assert_non_null(strstr(why.text, "sse9"));

    static const char *const names[] = {"avx2", "avx512", "vnni", "bf16", "amx", "neon"};
    static const unsigned masks[] = {1, 3, 7, 15, 31, 32};
    for (int i = 0; i < 6; i++) {
        assert_string_equal(cpu_isa_name(masks[i]), names[i]);
        err e = cpu_isa_parse(names[i], &mask, &why);
        if (masks[i] & ~isa) {
            assert_int_equal(e, ERR_UNSUPPORTED);
        } else {
            assert_int_equal(e, ERR_OK);
            assert_int_equal(mask, masks[i]);
        }
    }
}

static void test_this_machine(void **state)
{
    (void)state;
    assert_true(cpu_cores() >= 1);
    assert_true(cpu_memory_bytes() > 1 << 20);
    assert_true(cpu_available_bytes() <= cpu_memory_bytes());
    assert_true(cpu_l2_bytes() >= 1 << 16);
}

/* ---- a made-up root directory ---- */

static char root[64];

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static int root_begin(void **state)
{
    (void)state;
    strcpy(root, "/tmp/cordee-cpu-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int root_end(void **state)
{
    (void)state;
    return nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void put_file(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = full + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define MEMINFO "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n"
#define GIB ((uint64_t)1 << 30)
#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"

static struct cpu_limits read_limits(void)
{
    struct cpu_limits out;
    cpu_limits_read(root, &out);
    return out;
}

static void test_no_cgroup(void **state)
{
    (void)state;
    put_file("/proc/meminfo", MEMINFO);
    struct cpu_limits l = read_limits();
    assert_true(l.quota_cores == 0);
    assert_int_equal(l.memory_bytes, 16 * GIB);
    assert_int_equal(l.available_bytes, 8 * GIB);
}

static void test_nothing_readable(void **state)
{
    (void)state;
    struct cpu_limits l = read_limits();
    assert_int_equal(l.memory_bytes, 0);
    assert_true(l.quota_cores == 0);
}

static void test_v2_least_of_all_levels(void **state)
{
    (void)state;
    put_file("/proc/meminfo", MEMINFO);
    put_file("/proc/self/cgroup", "0::/job_7/step_0\n");
    put_file("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/x rw\n" V2_MOUNT);
    put_file("/sys/fs/cgroup/job_7/cpu.max", "250000 100000\n");
    put_file("/sys/fs/cgroup/job_7/memory.max", "4294967296\n");
    put_file("/sys/fs/cgroup/job_7/memory.current", "3221225472\n");
    put_file("/sys/fs/cgroup/job_7/memory.stat", "anon 5\ninactive_file 1073741824\n");
    put_file("/sys/fs/cgroup/job_7/step_0/cpu.max", "max 100000\n");
    put_file("/sys/fs/cgroup/job_7/step_0/memory.max", "max\n");
    struct cpu_limits l = read_limits();
    assert_true(l.quota_cores == 2.5);
    assert_int_equal(l.memory_bytes, 4 * GIB);
    assert_int_equal(l.available_bytes, 2 * GIB); /* 4 - (3 used - 1 droppable) */
}

static void test_v1(void **state)
{
    (void)state;
    put_file("/proc/meminfo", MEMINFO);
    put_file("/proc/self/cgroup", "5:cpu,cpuacct:/a/b\n4:memory:/a\n3:cpuset:/\n0::/x\n");
    put_file("/proc/self/mountinfo",
             "40 23 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
             "41 23 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
             "42 23 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put_file("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
    put_file("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
    put_file("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n");
    put_file("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "50000\n");
    put_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put_file("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2147483648\n");
    put_file("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1073741824\n");
    struct cpu_limits l = read_limits();
    assert_true(l.quota_cores == 3.0);
    assert_int_equal(l.memory_bytes, 2 * GIB);
    assert_int_equal(l.available_bytes, 1 * GIB);
}

/* In a container without a cgroup namespace the path is the host's, and only the
 * container's part of the tree is mounted. */
static void test_container_paths(void **state)
{
    (void)state;
    put_file("/proc/meminfo", MEMINFO);
    put_file("/proc/self/cgroup", "0::/docker/abc/inner\n");
    put_file("/proc/self/mountinfo", "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
    put_file("/sys/fs/cgroup/memory.max", "3221225472\n");
    put_file("/sys/fs/cgroup/inner/memory.max", "1073741824\n");
    assert_int_equal(read_limits().memory_bytes, 1 * GIB);

    put_file("/proc/self/cgroup", "0::/elsewhere\n");
    assert_int_equal(read_limits().memory_bytes, 3 * GIB);
    put_file("/proc/self/cgroup", "0::/../../sibling\n");
    assert_int_equal(read_limits().memory_bytes, 3 * GIB);
}

static void test_junk_sets_no_limit(void **state)
{
    (void)state;
    put_file("/proc/meminfo", MEMINFO);
    put_file("/proc/self/cgroup", "nonsense\n0::\n:::\n0::/j\n");
    put_file("/proc/self/mountinfo", "x\n - \n1 2 3\n" V2_MOUNT);
    put_file("/sys/fs/cgroup/j/cpu.max", "0 0\n");
    put_file("/sys/fs/cgroup/j/memory.max", "-5\n");
    put_file("/sys/fs/cgroup/memory.max", "");
    struct cpu_limits l = read_limits();
    assert_true(l.quota_cores == 0);
    assert_int_equal(l.memory_bytes, 16 * GIB);
}

int main(void)
{
#define WITH_ROOT(test) cmocka_unit_test_setup_teardown(test, root_begin, root_end)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_isa),
        cmocka_unit_test(test_this_machine),
        WITH_ROOT(test_no_cgroup),
        WITH_ROOT(test_nothing_readable),
        WITH_ROOT(test_v2_least_of_all_levels),
        WITH_ROOT(test_v1),
        WITH_ROOT(test_container_paths),
        WITH_ROOT(test_junk_sets_no_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
