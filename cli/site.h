/* site.h - where this process runs: its own path, Slurm, hydra's facts.
 *
 * The one place that reads launchers' environment variables.
 */
#ifndef CORDEE_CLI_SITE_H
#define CORDEE_CLI_SITE_H

#include "base/err.h"
#include "coordinator/supervise/launch.h"

struct site {
    struct launch_site launch; /* strings point into this struct */
    char program[4096];
    char **hosts; /* [launch.n_allocation], owned */
};

/* ERR_IO  /proc/self/exe unreadable, or `scontrol show hostnames` failed inside an allocation. */
MUST_CHECK err site_init(struct site *s, struct why *why);
void site_fini(struct site *s);

/* How this rank's node is called in reports: as serve's configuration calls it, else
 * Slurm's name for the step's node, else the host name. (Under hydra the batch host's SLURMD_NODENAME is copied to every
 * rank, so it is never used.) */
void site_node_name(int rank, int size, char *out, size_t cap);

/* Stage ranks that share this node, rank 0 not counted; at least 1. */
int site_stages_here(int rank, int size);
/* Which of them this rank is, from 0 on; 0 if the launcher does not say. */
int site_stage_index(int rank);

#endif
