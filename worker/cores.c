/* cores.c - see cores.h. hwloc is asked once and closed again: what a rank needs of a
 * topology is a list. */
#include "worker/cores.h"

#include <errno.h>
#include <hwloc.h>
#include <stdlib.h>
#include <string.h>

static int domain_of(hwloc_obj_t core)
{
    int node = core->nodeset ? hwloc_bitmap_first(core->nodeset) : -1;
    return node < 0 ? 0 : node;
}

static void add_core(struct cores *c, hwloc_obj_t obj, hwloc_const_cpuset_t mask)
{
    struct core core = {.id = hwloc_bitmap_first(obj->cpuset), .domain = domain_of(obj)};
    for (int pu = core.id; pu >= 0 && core.n_pus < CORES_MAX_PUS; pu = hwloc_bitmap_next(obj->cpuset, pu))
        if (hwloc_bitmap_isset(mask, (unsigned)pu))
            core.pu[core.n_pus++] = pu;
    if (core.n_pus == 0)
        return;
    c->at[c->n++] = core;
    for (int d = 0; d < c->n_domains; d++)
        if (c->domains[d] == core.domain)
            return;
    c->domains[c->n_domains++] = core.domain;
}

/* Some virtual machines show hardware threads and no cores. */
static hwloc_obj_type_t unit_type(hwloc_topology_t t)
{
    return hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
}

static err read_cores(hwloc_topology_t t, hwloc_const_cpuset_t mask, struct cores *out, struct why *why)
{
    hwloc_obj_type_t type = unit_type(t);
    int n = hwloc_get_nbobjs_by_type(t, type);
    struct cores c = {.all = hwloc_bitmap_isincluded(hwloc_topology_get_allowed_cpuset(t), mask)};
    if (n <= 0)
        return why_set(why, ERR_IO, "hwloc finds no cores");
    c.at = calloc((size_t)n, sizeof *c.at);
    c.domains = calloc((size_t)n, sizeof *c.domains);
    if (!c.at || !c.domains) {
        cores_close(&c);
        return why_set(why, ERR_NOMEM, "a list of %d cores", n);
    }
    for (hwloc_obj_t obj = NULL; (obj = hwloc_get_next_obj_by_type(t, type, obj));)
        add_core(&c, obj, mask);
    if (c.n == 0) {
        cores_close(&c);
        return why_set(why, ERR_IO, "no core of the machine is in the process's mask");
    }
    *out = c;
    return ERR_OK;
}

/* description NULL: this machine. */
static err load(const char *description, hwloc_topology_t *out, struct why *why)
{
    static const char *const slow[] = {"gl", "opencl", "cuda"}; /* plugins that look for accelerators */
    hwloc_topology_t t;
    if (hwloc_topology_init(&t) != 0)
        return why_set(why, ERR_IO, "hwloc: %s", strerror(errno));
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++)
        hwloc_topology_set_components(t, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, slow[i]);
    if ((description && hwloc_topology_set_synthetic(t, description) != 0) || hwloc_topology_load(t) != 0) {
        hwloc_topology_destroy(t);
        return why_set(why, ERR_IO, "hwloc: the topology cannot be read");
    }
    *out = t;
    return ERR_OK;
}

static err open_cores(const char *description, const char *list, struct cores *out, struct why *why)
{
    hwloc_topology_t t;
    err e = load(description, &t, why);
    if (e)
        return e;
    hwloc_bitmap_t mask = hwloc_bitmap_alloc();
    bool ok = mask != NULL;
    if (ok && list)
        ok = hwloc_bitmap_list_sscanf(mask, list) == 0;
    else if (ok && description)
        ok = hwloc_bitmap_copy(mask, hwloc_topology_get_allowed_cpuset(t)) == 0;
    else if (ok)
        ok = hwloc_get_cpubind(t, mask, HWLOC_CPUBIND_THREAD) == 0;
    e = ok ? read_cores(t, mask, out, why) : why_set(why, ERR_IO, "hwloc: the process's mask cannot be read");
    hwloc_bitmap_free(mask);
    hwloc_topology_destroy(t);
    return e;
}

err cores_open(struct cores *out, struct why *why)
{
    return open_cores(NULL, NULL, out, why);
}

err cores_open_synthetic(const char *description, const char *mask, struct cores *out, struct why *why)
{
    return open_cores(description, mask, out, why);
}

void cores_close(struct cores *c)
{
    free(c->at);
    free(c->domains);
    *c = (struct cores){0};
}
