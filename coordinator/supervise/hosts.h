/* hosts.h - which hosts the next epoch may use: a pure state machine.
 *
 * An epoch dies for many reasons and few of them are a host's fault, so suspicion
 * comes in three steps. A host is OK until something happens on it; a rank that fell
 * silent makes it SUSPECT, which only a probe (one small launch on that host alone)
 * settles; it is OUT when the probe failed, when it did not come to a launch to which
 * others came, or after too many strikes. What is out is probed again, ever more
 * rarely, and is used by the first launch after a probe that went well.
 *
 * A launch takes the first hosts that are OK, in the order of `nodes:`, so the nodes
 * behind the first ones are the spares. When fewer are left than the stages need, the
 * pipeline gets fewer stages, as many a host as were planned and never more: rank 0's
 * planner then says whether the model still fits.
 *
 * Threads: single owner. No clock and no process is touched here: roster.c tells the
 * events and starts the probes.
 */
#ifndef CORDEE_COORDINATOR_HOSTS_H
#define CORDEE_COORDINATOR_HOSTS_H

#include <stdbool.h>
#include <stdint.h>

#define HOST_STATES(X)                                     \
    X(OK, "ok", "takes part")                              \
    X(SUSPECT, "suspect", "silent or absent; being probed") \
    X(OUT, "out", "not used; probed again later")

enum host_state {
#define HOST_ENUM(id, name, text) HOST_##id,
    HOST_STATES(HOST_ENUM)
#undef HOST_ENUM
    HOST_STATE_COUNT
};
const char *host_state_name(enum host_state s);

enum host_event {
    HOST_SILENT,   /* a rank of it was not heard of any more */
    HOST_BROKE,    /* a rank of it died or failed; the host itself answered */
    HOST_ABSENT,   /* others registered, it did not, in time */
    HOST_UNSURE,   /* it did not come, for which there may be other reasons */
    HOST_UNFIT,    /* a rank of it cannot work there: another or no model file, ... */
    HOST_SERVED,   /* an epoch with it lived for long enough */
    HOST_ANSWERED, /* the probe went well */
    HOST_FAILED,   /* the probe did not */
    HOST_EVENT_COUNT
};

enum { /* what a step changed, a mask */
    HOST_DOUBTED = 1, /* it is suspect now */
    HOST_LEFT = 2,    /* it is out now */
    HOST_BACK = 4,    /* it may be used again */
};

#define HOST_STRIKES_MOST 3       /* without a long epoch in between: out */
#define HOST_GRACE_MS 3000        /* a launch that needs a suspect waits so long for its probe */

struct host {
    enum host_state state;
    int strikes; /* since it last served */
    int outs;    /* times that it went or stayed out since then: the back-off */
    bool probing;
    uint64_t since_ms, probe_at_ms;
};

struct hosts {
    struct host *v; /* [n], owned */
    int n;
    uint64_t retry_ms; /* until the first probe of a host that is out; doubled up to 16 times that */
};

/* n >= 0 hosts, all OK. Returns false without memory. */
bool hosts_init(struct hosts *h, int n, uint64_t retry_ms);
void hosts_fini(struct hosts *h);

/* Returns what changed. */
unsigned hosts_step(struct hosts *h, int i, enum host_event ev, uint64_t now_ms);

/* A host whose probe is due; it counts as being probed until ANSWERED or FAILED. -1: none. */
int hosts_next_probe(struct hosts *h, uint64_t now_ms);

/* What a launch would use now.
 * workers   stages of the whole pipeline
 * chosen    [h->n], filled with the indices of hosts in order, as many as `n_hosts` says
 * Returns the stages to launch, workers at most; 0: wait (for a probe, or for any host). */
int hosts_choose(const struct hosts *h, int workers, uint64_t now_ms, int *chosen, int *n_hosts);

int hosts_count(const struct hosts *h, enum host_state s);

#endif
