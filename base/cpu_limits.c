/* cpu_limits.c - how many cores and how much memory cgroups leave us.
 *
 * A limit may sit at any level above the process: Slurm sets it on the job,
 * systemd on the slice, a container runtime on the container. So both
 * hierarchies, v1 and v2, are walked from the process's own group up to the
 * mount point and the least value counts.
 *
 * Inside a container the path in /proc/self/cgroup may be the host's while only
 * the container's part is mounted; mountinfo's "root" field says which part, and
 * if the path does not lie under it the mount point itself is our group.
 *
 * Page cache that the kernel can drop counts as available: "usage" includes the
 * mapped model files, and a warm cache must not look like a full machine.
 */
#include "base/cpu_limits.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 4096, NAME_BYTES = 512 };

enum controller { CPU, MEMORY, CONTROLLER_COUNT };

/* Where one controller's files are, for this process. */
struct cgroup {
    bool found, v2;
    char mount[NAME_BYTES]; /* with the test's root in front */
    char path[NAME_BYTES];  /* below mount: "" or "/a/b" */
};

/* The first line of dir/name; false if there is none. */
static bool read_line(const char *dir, const char *name, char *line, size_t size)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return false;
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(line, (int)size, f) != NULL;
    fclose(f);
    return ok;
}

/* A whole decimal number; "max", negative and junk are not numbers here. */
static bool parse_u64(const char *s, uint64_t *out)
{
    if (*s < '0' || *s > '9')
        return false;
    *out = strtoull(s, NULL, 10);
    return true;
}

static bool read_u64(const char *dir, const char *name, uint64_t *out)
{
    char line[64];
    return read_line(dir, name, line, sizeof line) && parse_u64(line, out);
}

/* Value of "key value" or "key: value kB" in a file of such lines. */
static bool read_key(const char *path, const char *key, uint64_t *out)
{
    FILE *f = fopen(path, "re");
    char line[256];
    bool ok = false;
    size_t len = strlen(key);
    while (f && !ok && fgets(line, sizeof line, f)) {
        const char *p = line + len;
        if (strncmp(line, key, len) == 0 && (*p == ' ' || *p == ':'))
            ok = parse_u64(p + strspn(p, ": \t"), out);
    }
    if (f)
        fclose(f);
    return ok;
}

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = list; (p = strstr(p, word)) != NULL; p += len)
        if ((p == list || p[-1] == ',') && (p[len] == ',' || p[len] == '\0' || p[len] == '\n'))
            return true;
    return false;
}

static const char *const controller_names[CONTROLLER_COUNT] = {"cpu", "memory"};

/* Lines of /proc/self/cgroup: "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1). */
static void read_paths(const char *root, char v1[CONTROLLER_COUNT][NAME_BYTES], char v2[NAME_BYTES])
{
    char line[LINE_BYTES], path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
        if (!group)
            continue;
        *list++ = '\0';
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (strcmp(line, "0") == 0 && *list == '\0')
            snprintf(v2, NAME_BYTES, "%.*s", NAME_BYTES - 1, group);
        for (int c = 0; c < CONTROLLER_COUNT; c++)
            if (has_word(list, controller_names[c]))
                snprintf(v1[c], NAME_BYTES, "%.*s", NAME_BYTES - 1, group);
    }
    if (f)
        fclose(f);
}

static void place(struct cgroup *g, const char *root, bool v2, const char *mount, const char *mount_root,
                  const char *path)
{
    size_t skip = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
    if (strncmp(path, mount_root, skip) != 0 || (path[skip] != '/' && path[skip] != '\0'))
        path = "", skip = 0;
    /* ".." is a group outside our namespace: nothing of it is mounted here. */
    if (strcmp(path + skip, "/") == 0 || strstr(path + skip, "/.."))
        path = "", skip = 0;
    *g = (struct cgroup){.found = true, .v2 = v2};
    snprintf(g->mount, sizeof g->mount, "%s%s", root, mount);
    snprintf(g->path, sizeof g->path, "%s", path + skip);
}

/* mountinfo: "36 35 98:0 /root /mount options ... - type source super-options".
 * A v1 mount of a controller wins: then v2 does not have that controller. */
static void find_cgroups(const char *root, struct cgroup groups[CONTROLLER_COUNT])
{
    char v1[CONTROLLER_COUNT][NAME_BYTES] = {{0}}, v2[NAME_BYTES] = {0};
    char line[LINE_BYTES], path[PATH_MAX];
    read_paths(root, v1, v2);
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        char mount_root[NAME_BYTES], mount[NAME_BYTES], type[32], super[NAME_BYTES];
        char *tail = strstr(line, " - ");
        if (!tail || sscanf(line, "%*s %*s %*s %511s %511s", mount_root, mount) != 2 ||
            sscanf(tail, " - %31s %*s %511s", type, super) != 2)
            continue;
        for (int c = 0; c < CONTROLLER_COUNT; c++) {
            if (strcmp(type, "cgroup") == 0 && has_word(super, controller_names[c]))
                place(&groups[c], root, false, mount, mount_root, v1[c]);
            else if (strcmp(type, "cgroup2") == 0 && !groups[c].found)
                place(&groups[c], root, true, mount, mount_root, v2);
        }
    }
    if (f)
        fclose(f);
}

/* Calls at(dir) for the process's group and every group above it. */
static void walk_up(const struct cgroup *g, void (*at)(const char *dir, bool v2, struct cpu_limits *out),
                    struct cpu_limits *out)
{
    char dir[2 * NAME_BYTES];
    size_t top = strlen(g->mount);
    if (!g->found)
        return;
    snprintf(dir, sizeof dir, "%s%s", g->mount, g->path);
    for (;;) {
        at(dir, g->v2, out);
        char *slash = strrchr(dir, '/');
        if (!slash || strlen(dir) <= top)
            break;
        *slash = '\0';
    }
}

static void cpu_at(const char *dir, bool v2, struct cpu_limits *out)
{
    char line[64];
    uint64_t quota, period;
    if (v2) {
        if (!read_line(dir, "cpu.max", line, sizeof line) ||
            sscanf(line, "%" SCNu64 " %" SCNu64, &quota, &period) != 2)
            return; /* "max 100000" fails to scan: no quota */
    } else if (!read_u64(dir, "cpu.cfs_quota_us", &quota) || !read_u64(dir, "cpu.cfs_period_us", &period)) {
        return; /* "-1" is no number: no quota */
    }
    if (period == 0 || quota == 0)
        return;
    double cores = (double)quota / (double)period;
    if (out->quota_cores == 0 || cores < out->quota_cores)
        out->quota_cores = cores;
}

static void memory_at(const char *dir, bool v2, struct cpu_limits *out)
{
    uint64_t limit, usage = 0, cache = 0;
    char stat[PATH_MAX];
    if (!read_u64(dir, v2 ? "memory.max" : "memory.limit_in_bytes", &limit))
        return;
    if (out->memory_bytes && limit >= out->memory_bytes)
        limit = out->memory_bytes; /* v1 writes "no limit" as 2^63 - 4096 */
    out->memory_bytes = limit;

    read_u64(dir, v2 ? "memory.current" : "memory.usage_in_bytes", &usage);
    if (snprintf(stat, sizeof stat, "%s/memory.stat", dir) < (int)sizeof stat)
        read_key(stat, v2 ? "inactive_file" : "total_inactive_file", &cache);
    usage -= cache < usage ? cache : usage;
    uint64_t free_bytes = usage < limit ? limit - usage : 0;
    if (free_bytes < out->available_bytes)
        out->available_bytes = free_bytes;
}

void cpu_limits_read(const char *root, struct cpu_limits *out)
{
    struct cgroup groups[CONTROLLER_COUNT] = {{0}};
    char path[PATH_MAX];
    uint64_t total_kib = 0, available_kib = 0;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    read_key(path, "MemTotal", &total_kib);
    read_key(path, "MemAvailable", &available_kib);
    *out = (struct cpu_limits){.memory_bytes = total_kib << 10, .available_bytes = available_kib << 10};

    find_cgroups(root, groups);
    walk_up(&groups[CPU], cpu_at, out);
    walk_up(&groups[MEMORY], memory_at, out);
}
