/* energy.c - see energy.h. */
#include "coordinator/batch/energy.h"

#include <inttypes.h>
#include <stdio.h>

static bool counter(const char *root, int package, const char *name, uint64_t *out)
{
    char path[512];
    snprintf(path, sizeof path, "%s/intel-rapl:%d/%s", root, package, name);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool good = fscanf(f, "%" SCNu64, out) == 1;
    fclose(f);
    return good;
}

void energy_init(struct energy *e, const char *root)
{
    *e = (struct energy){ 0 };
    for (int i = 0; i < ENERGY_MAX_PACKAGES; i++) {
        uint64_t now, wrap;
        if (!counter(root, i, "energy_uj", &now) || !counter(root, i, "max_energy_range_uj", &wrap))
            continue;
        e->package[e->n] = i;
        e->last_uj[e->n] = now;
        e->wrap_uj[e->n] = wrap;
        e->n++;
    }
}

void energy_update(struct energy *e, const char *root)
{
    for (int i = 0; i < e->n; i++) {
        uint64_t now;
        if (!counter(root, e->package[i], "energy_uj", &now))
            continue;
        uint64_t used = now >= e->last_uj[i] ? now - e->last_uj[i] : now + e->wrap_uj[i] - e->last_uj[i];
        e->joules += (double)used / 1e6;
        e->last_uj[i] = now;
    }
}
