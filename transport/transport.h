/* transport.h - the data plane: moves opaque messages between the ranks of one epoch.
 *
 * Implementations: MPI (transport_mpi.c), in-process queues (transport_loop.c),
 * and a wrapper that breaks things on purpose (transport_fault.c). Nothing ever
 * blocks: transport_send() starts, transport_poll() progresses everything and
 * yields one event. Messages between two ranks arrive in order; their contents
 * (epoch, sequence, checksum) are checked by the caller with proto/wire.h.
 *
 * Buffers: fixed at transport_start(), 64-byte aligned, max_bytes long each. A
 * buffer got for sending belongs to the transport from send until it is sent; a
 * received one belongs to the caller until released. Four receive buffers a
 * source: a caller that keeps two unreleased still hears everything at once; one
 * that keeps four stops that source (its sender then runs out of buffers), and
 * no other source.
 *
 * Threads: one owner thread per transport calls everything here.
 * Cost: alpha + n * beta; figures in docs/transport.md.
 */
#ifndef CORDEE_TRANSPORT_TRANSPORT_H
#define CORDEE_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct transport;

struct tbuf {
    void *data; /* 64-byte aligned */
    size_t len; /* bytes in use */
    size_t cap;
};

struct transport_event {
    int from;           /* rank */
    struct tbuf *buf;   /* release with transport_release() */
};

int transport_rank(const struct transport *t);
int transport_size(const struct transport *t);

/* Allocates buffers and posts receives (two per source, always re-posted at once).
 * Once per transport, before anything below.
 * from: [n_from] ranks this one hears from. max_bytes: the longest message. */
MUST_CHECK err transport_start(struct transport *t, const int *from, int n_from, size_t max_bytes,
                               int n_send_bufs, struct why *why);

/* A free buffer to fill, or NULL: all are in flight; poll and try again. */
struct tbuf *transport_buf(struct transport *t);
/* Starts sending buf->len bytes. Takes the buffer in every case. */
MUST_CHECK err transport_send(struct transport *t, int to, struct tbuf *buf, struct why *why);
/* ERR_OK: *ev is set. ERR_AGAIN: nothing now. ERR_PEER: the plane is broken; end the epoch. */
MUST_CHECK err transport_poll(struct transport *t, struct transport_event *ev, struct why *why);
/* Gives back a received buffer, or one got for sending that was not sent. */
void transport_release(struct transport *t, struct tbuf *buf);
/* Sends that have not completed. */
int transport_unsent(const struct transport *t);
uint64_t transport_sent_bytes(const struct transport *t);
uint64_t transport_received_bytes(const struct transport *t);

/* Frees buffers. Over MPI this does not finalize (it may hang: mpi-faults): the
 * process ends with _exit after the control plane's "done". */
void transport_close(struct transport *t);

/* ---- MPI -------------------------------------------------------------------
 * Starts MPI (MPI_THREAD_FUNNELED, errors returned), before the process has other
 * threads: defaults for UCX are put into the environment first. The caller is the
 * owner thread. No deadline: MPI's own start blocks until all ranks are there.
 * ERR_INVAL  a world of one process inside a step of many: the reason names the
 *            launcher's missing option (srun without --mpi=pmi2) */
MUST_CHECK err transport_mpi_open(struct transport **out, struct why *why);

/* Hands a small blob from rank 0 to all, before transport_start(), with
 * non-blocking calls and a deadline: how ranks learn the control plane's address,
 * the job's key and the epoch. boot: rank 0 in, others out; the same size on all.
 * ERR_TIMEOUT, ERR_PEER  the world did not come together. */
#define TRANSPORT_BOOT_BYTES 4096
MUST_CHECK err transport_mpi_boot(struct transport *t, void *boot, size_t boot_bytes,
                                  unsigned deadline_ms, struct why *why);
/* A barrier with a deadline before the orderly end; then _exit is safe. */
MUST_CHECK err transport_mpi_drain(struct transport *t, unsigned deadline_ms, struct why *why);

/* ---- in process ------------------------------------------------------------
 * out: [n] connected endpoints; each may be used by its own thread. */
MUST_CHECK err transport_loop_open(int n, struct transport **out, struct why *why);

/* ---- faults ---------------------------------------------------------------- */
enum fault_kind { FAULT_DROP, FAULT_DELAY, FAULT_CORRUPT, FAULT_DUPLICATE, FAULT_CUT };
struct fault_rule {
    enum fault_kind kind;
    int to;            /* -1: any */
    unsigned every;    /* each n-th message sent (0: every one); CUT: from the n-th on */
    unsigned delay_ms;
};
/* Wraps inner and, on success, owns it. Rules are copied; all that fire apply. */
MUST_CHECK err transport_fault_open(struct transport *inner, const struct fault_rule *rules, int n,
                                    struct transport **out, struct why *why);

#endif
