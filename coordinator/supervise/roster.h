/* roster.h - the hosts of a cluster: who is in the present epoch, who came, who is
 * out and why.
 *
 * Between the pure machine (hosts.h) and the world: it names hosts, knows which ranks
 * run where, counts who registered for an epoch, starts and collects probes, and says
 * in one log line what becomes of a host. A cluster without `nodes:` and outside Slurm
 * has no hosts; then nothing here does anything.
 *
 * Threads: single owner. Times are now_ms()'s.
 */
#ifndef CORDEE_COORDINATOR_ROSTER_H
#define CORDEE_COORDINATOR_ROSTER_H

#include "coordinator/config.h"
#include "coordinator/front/status.h"
#include "coordinator/supervise/hosts.h"
#include "coordinator/supervise/launch.h"
#include "coordinator/supervise/process.h"

struct roster;

/* Both borrowed. ERR_INVAL: see launch_hosts(). */
MUST_CHECK err roster_open(const struct config *c, const struct launch_site *site, struct roster **out,
                           struct why *why);
/* Its probes are killed and collected. NULL is fine. */
void roster_close(struct roster *r);

/* ---- an epoch ---- */

/* Chooses the hosts of the next epoch. Returns its stages; 0: wait. */
int roster_choose(struct roster *r);
int roster_stages(const struct roster *r); /* ... again */
/* The chosen ones, borrowed until the next choice; NULL with *n 0: this machine. */
const char *const *roster_hosts(const struct roster *r, int *n);
/* The launch has begun: nobody has come yet. */
void roster_begin(struct roster *r);
/* A rank registered. */
void roster_came(struct roster *r, int rank);
/* Looks for hosts that do not come: patience is over, or their launcher ended. True:
 * the launch is lost, `why` says by whom. */
bool roster_misses(struct roster *r, const struct process *mpiexec, struct why *why);
/* Something happened on a rank's host. True: the next epoch does without that host. */
bool roster_blame(struct roster *r, int rank, enum host_event ev, const char *reason);
/* The epoch ended. before_ready: those who had not come are doubted, if others had.
 * lived_ms: how long it was ready. */
void roster_end(struct roster *r, bool before_ready, uint64_t lived_ms);
/* The host of a rank in the present epoch; "": not known. */
const char *roster_host_of(const struct roster *r, int rank);

/* ---- between times ---- */

/* Probes that are due begin, those that ended are counted. True: a host came back.
 * Call after processes were reaped with roster_processes(). */
bool roster_turn(struct roster *r);
/* Appends the probes' processes to a list for process_reap(); at most
 * ROSTER_PROBES_MAX. Returns how many. */
#define ROSTER_PROBES_MAX 8
int roster_processes(struct roster *r, struct process **list);
/* Until roster_turn() has work; -1: never by itself. */
int roster_wait_ms(const struct roster *r);

/* Would a launch now have more stages than the present epoch? */
bool roster_could_grow(const struct roster *r);
/* How many hosts a launch may use. */
int roster_usable(const struct roster *r);
/* Fewer than all hosts are OK, or fewer stages than configured run. */
bool roster_is_weakened(const struct roster *r);
/* One line for people: "1 of 4 hosts out: n2 (...)"; "" when all are OK. Borrowed
 * until the next call. */
const char *roster_describe(struct roster *r);
/* The hosts' states as reports want them, borrowed until the next call. */
const struct health_host *roster_report(struct roster *r, int *n);

#endif
