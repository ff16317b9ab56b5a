/* cores.h - the cores and memory domains of a node that a rank may use.
 *
 * Read once through hwloc: the affinity mask that mpiexec or Slurm gave, inside what
 * the container or the job's cpuset allows. A core with several hardware threads counts
 * once: two threads of a product on one core share its load ports and gain nothing.
 *
 * Threads: immutable once open.
 */
#ifndef CORDEE_WORKER_CORES_H
#define CORDEE_WORKER_CORES_H

#include <stdbool.h>

#include "base/err.h"

enum { CORES_MAX_PUS = 8 };

struct core {
    int n_pus, pu[CORES_MAX_PUS]; /* hardware threads in the mask, the kernel's numbers */
    int id;                       /* first hardware thread, in the mask or not */
    int domain;                   /* memory node, the kernel's number */
};

struct cores {
    int n, n_domains;
    bool all;        /* the mask is everything that the node (job, container) has */
    struct core *at; /* [n], in the order of the machine: domain after domain */
    int *domains;    /* [n_domains] memory nodes in that order */
};

/* Of the calling thread.  ERR_IO: the topology cannot be read. */
MUST_CHECK err cores_open(struct cores *out, struct why *why);
/* Of a machine that hwloc makes up from a description ("numa:2 core:4 pu:2").
 * mask: list of hardware threads ("0-3,8"); NULL: all. For tests. */
MUST_CHECK err cores_open_synthetic(const char *description, const char *mask, struct cores *out,
                                    struct why *why);
void cores_close(struct cores *c);

#endif
