/* process.h - the processes of an epoch: start, watch, end; no orphan ever.
 *
 * The supervisor makes itself a child subreaper: proxies and ranks whose parent
 * died become its own children, so "no child left" means that everything on this
 * machine is gone, and what is left can be killed by pid. The child gets SIGKILL
 * when the supervisor dies (PDEATHSIG), whatever killed it.
 *
 * Threads: one owner; it must have no other child processes.
 */
#ifndef CORDEE_COORDINATOR_PROCESS_H
#define CORDEE_COORDINATOR_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Once per program, before the first process_start(). */
MUST_CHECK err process_init(struct why *why);

/* Runs argv with `add` ("KEY=VALUE", NULL-terminated) on top of the environment,
 * in a session of its own, stdin from /dev/null, stdout joined to stderr.
 * ERR_IO  fork failed, or the program cannot be executed (the reason says which). */
MUST_CHECK err process_start(char *const *argv, char *const *add, pid_t *pid, struct why *why);

/* Collects what has ended. *leader_status: wait status of `leader` if it was among
 * them, else untouched. Returns true when no child is left at all. */
bool process_reap(pid_t leader, int *leader_status);

/* SIGKILL to the leader's group and to every child (adopted ones too). */
void process_kill(pid_t leader);

#endif
