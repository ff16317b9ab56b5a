/* bind.h - a thread's own core, let go of while somebody else runs there.
 *
 * A bound thread is never put on a core where its mates compute, but the kernel
 * cannot move it away either when another program takes its core. So a bound thread
 * looks now and then at how long it was kept waiting for the core. More than a few
 * percent: it may run on all cores of its group for a second, then tries again.
 *
 * Threads: every call is made by the bound thread itself. Where the kernel refuses
 * (cores taken away meanwhile), the thread stays as it was: binding is advice.
 */
#ifndef CORDEE_BASE_BIND_H
#define CORDEE_BASE_BIND_H

#include <stdbool.h>
#include <stdint.h>

struct bind {
    const int *group; /* CPUs of the group, borrowed until bind_end() */
    int n_group, cpu; /* cpu: this thread's */
    int fd;           /* the thread's scheduler statistics; -1: not to be had */
    bool narrow;      /* on `cpu` alone */
    uint64_t looked_ns, waited_ns;
};

/* Binds the calling thread to group[i]. */
void bind_begin(struct bind *b, const int *group, int n_group, int i);
/* To be called often: looks at the clock it is given, seldom at anything else. */
void bind_turn(struct bind *b, uint64_t now_ns);
/* The thread stays where it may run now. */
void bind_end(struct bind *b);

/* Whether a thread that waited waited_ns for its core in the last elapsed_ns
 * should let go of it. */
bool bind_disturbed(uint64_t waited_ns, uint64_t elapsed_ns);

#endif
