/* energy.h - the energy that this machine's processors have used, where Linux tells.
 *
 * Reads the package counters of RAPL (/sys/class/powercap). They wrap after some
 * minutes to hours, so energy_update() must be called every minute or so.
 */
#ifndef CORDEE_COORDINATOR_ENERGY_H
#define CORDEE_COORDINATOR_ENERGY_H

#include <stdbool.h>
#include <stdint.h>

enum { ENERGY_MAX_PACKAGES = 16 };

struct energy {
    int n;               /* packages that can be read; 0: no counters, or root only */
    int package[ENERGY_MAX_PACKAGES];
    uint64_t last_uj[ENERGY_MAX_PACKAGES], wrap_uj[ENERGY_MAX_PACKAGES];
    double joules;       /* since energy_init() */
};

/* root: "/sys/class/powercap" but in tests. */
void energy_init(struct energy *e, const char *root);
void energy_update(struct energy *e, const char *root);

#endif
