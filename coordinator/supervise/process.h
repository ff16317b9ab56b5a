/* process.h - the processes of an epoch, and of probes: start, watch, end; no orphan ever.
 *
 * The supervisor makes itself a child subreaper: proxies and ranks whose parent
 * died become its own children, so what is left of an epoch is found among them and
 * can be killed by pid, whatever session it moved to. A start has a tag, by which its
 * orphans are known: 0 is the epoch, others are probes, which carry CORDEE_PROBE=tag in
 * their environment (whoever shows none is the epoch's). The child gets SIGKILL when
 * the supervisor dies (PDEATHSIG), whatever killed it.
 *
 * Threads: one owner; it must have no other child processes.
 */
#ifndef CORDEE_COORDINATOR_PROCESS_H
#define CORDEE_COORDINATOR_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct process {
    pid_t pid;  /* 0: none */
    int tag;
    bool ended; /* its leader; others of it may live: process_left() */
    int status; /* as waitpid() gave it, once it ended */
};

/* Once per program, before the first process_start(). */
MUST_CHECK err process_init(struct why *why);

/* Runs argv with `add` ("KEY=VALUE", NULL-terminated; with CORDEE_PROBE for a tag
 * other than 0) on top of the environment, in a session of its own, stdin from
 * /dev/null, stdout joined to stderr; quiet: both to /dev/null.
 * ERR_IO  fork failed, or the program cannot be executed (the reason says which). */
MUST_CHECK err process_start(char *const *argv, char *const *add, int tag, bool quiet, struct process *out,
                             struct why *why);

/* Collects all children that ended and notes those of the list. */
void process_reap(struct process *const *list, int n);
/* True while the leader or an adopted process of that tag lives. Reap before. */
bool process_left(const struct process *p);
/* SIGKILL to the leader's group and to all that process_left() would count. */
void process_kill(const struct process *p);

/* True when the i-th child that the leader started has ended and was not collected
 * by it: how a launcher (ssh, ...) that failed looks, since hydra waits on regardless. */
bool process_child_ended(const struct process *p, int i);

#endif
