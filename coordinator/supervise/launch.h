/* launch.h - how one epoch is started: mpiexec's arguments and environment.
 *
 * A pure function of the configuration and of what is known about the site; no
 * process is touched here. Facts about hydra (order of -hosts under Slurm, who
 * gets which rank) come from docs/launching.md.
 *
 * Rank 0 (coordinator) shares the node of stage 1; stages fill the hosts in
 * order, contiguous runs of stages on one host when there are more stages than
 * hosts.
 */
#ifndef CORDEE_COORDINATOR_LAUNCH_H
#define CORDEE_COORDINATOR_LAUNCH_H

#include "base/err.h"
#include "coordinator/config.h"

/* What the process learned about where it runs (cli/ fills it from the environment). */
struct launch_site {
    const char *program;   /* absolute path of the cordee binary */
    bool in_slurm;         /* inside an allocation */
    const char *const *allocation; /* [n_allocation] its hosts in Slurm's order */
    int n_allocation;
};

/* All hosts that there are, in order: the configuration's nodes, else the allocation's,
 * else none (this machine). Under Slurm the configured nodes must be a subset of the
 * allocation and are put in its order (hydra numbers its proxies by Slurm's node order
 * whatever -hosts says). out: [CONFIG_MAX_NODES], borrowed names. */
MUST_CHECK err launch_hosts(const struct config *c, const struct launch_site *site, const char **out, int *n,
                            struct why *why);

struct launch {
    char **argv; /* NULL-terminated, owned */
    char **env;  /* "KEY=VALUE" to add to the environment, NULL-terminated, owned */
};

struct launch_epoch {
    const char *serve_address; /* where rank 0 dials the supervisor */
    const char *key;
    const char *model_hash; /* of serve's own file: a node with another one is told apart */
    uint32_t epoch;
    int workers; /* stages of this epoch */
};

/* hosts: those to use, workers at most; n_hosts 0: this machine. */
MUST_CHECK err launch_build(const struct config *c, const struct launch_site *site,
                            const struct launch_epoch *ep, const char *const *hosts, int n_hosts,
                            struct launch *out, struct why *why);
/* The smallest launch on one host, by the same way as an epoch's: mpiexec ends with 0
 * when the launcher, the way back to this machine, the program and the model are there.
 * tag: what its processes carry in CORDEE_PROBE (process.h). */
MUST_CHECK err launch_probe(const struct config *c, const struct launch_site *site, const char *host, int tag,
                            struct launch *out, struct why *why);
void launch_fini(struct launch *l);

/* Stages on host i of n_hosts (rank 0 not counted). */
int launch_stages_on(int workers, int n_hosts, int i);
/* Which of n_hosts runs a rank; -1: no such rank. */
int launch_host_of(int workers, int n_hosts, int rank);

#endif
