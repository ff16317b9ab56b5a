/* transport_mpi.c - the data plane over MPI; the only file that knows <mpi.h>.
 *
 * What MPI is trusted with: moving bytes between living ranks, in order. Nothing
 * else. A receive from a dead rank never completes and a long send to one may
 * report success, so failure is found elsewhere (checksums and sequence numbers
 * of the messages, heartbeats of the control plane), and any error here simply
 * ends the epoch. For the same reason no call below can block: everything is
 * started with Isend, Irecv or Ibarrier and looked at with Test. MPICH makes
 * progress only inside its calls, so the owner keeps polling while anything is
 * on its way.
 *
 * Order: two receives per source are posted at any time. MPI matches messages
 * of one sender and tag to receives in the order of posting, so a source's
 * receives form a queue of which only the oldest is tested. Small and long
 * messages overtake each other on the network, but not here.
 *
 * A source whose four buffers are all with the caller has no receive posted; the
 * sender's next message then waits at the sender. Other sources are not touched.
 *
 * Threads: MPI_THREAD_FUNNELED; the thread that opens is the owner.
 * Memory:  fixed at start. Closing leaks the receive buffers that MPI will not
 *          give back: the process is about to end with _exit, and writing into
 *          freed memory would be worse.
 * Cost:    docs/transport.md; a poll with nothing to do is one MPI_Test a source
 *          plus one MPI_Testsome.
 */
#include <assert.h>
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/env.h"
#include "transport/plane.h"

enum {
    TAG_BOOT = 1,
    TAG_DATA = 2,
    CANCEL_MS = 50,      /* patience for cancelled receives at close */
    POLL_MAX_US = 1000,  /* back-off ceiling while opening and draining */
};

struct source {
    int rank;
    int n_posted; /* posted[0] is the oldest */
    struct {
        MPI_Request request;
        struct tbuf *buf;
    } posted[RECV_POSTED];
    struct tbuf_pool pool;
};

struct mpi_plane {
    struct transport base;
    struct source *sources; /* [n_from] */
    int n_from, turn;       /* turn: which source is asked first */
    struct tbuf_pool send;
    MPI_Request *requests; /* [n_active] sends on their way */
    struct tbuf **sending; /* [n_active] their buffers */
    int *done;             /* scratch of MPI_Testsome */
    int n_active;
};

static struct mpi_plane *plane_of(const struct transport *t)
{
    return (struct mpi_plane *)t;
}

/* The one place where MPI's error codes become ours. */
static err mpi_check(int code, const char *what, struct why *why)
{
    if (code == MPI_SUCCESS)
        return ERR_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int len = 0;
    MPI_Error_string(code, text, &len);
    text[strcspn(text, "\n")] = '\0'; /* MPICH adds its call stack */
    return why_set(why, ERR_PEER, "MPI %s: %s", what, text);
}

/* ---- receiving -------------------------------------------------------------- */

/* Keeps RECV_POSTED receives waiting, as far as there are buffers. */
static err post_receives(struct source *s, struct why *why)
{
    while (s->n_posted < RECV_POSTED) {
        struct tbuf *b = tbuf_pool_pop(&s->pool);
        if (!b)
            return ERR_OK;
        MPI_Request request;
        err e = mpi_check(MPI_Irecv(b->data, (int)b->cap, MPI_BYTE, s->rank, TAG_DATA, MPI_COMM_WORLD, &request),
                          "receive", why);
        if (e != ERR_OK) {
            tbuf_pool_push(&s->pool, b);
            return e;
        }
        s->posted[s->n_posted].request = request;
        s->posted[s->n_posted++].buf = b;
    }
    return ERR_OK;
}

/* The oldest message of a source; ERR_AGAIN: not there yet. */
static err take_from(struct source *s, struct tbuf **got, struct why *why)
{
    int done = 0, len = 0;
    MPI_Status status;
    err e;
    if (!s->n_posted)
        return ERR_AGAIN;
    TRY(mpi_check(MPI_Test(&s->posted[0].request, &done, &status), "receive", why));
    if (!done)
        return ERR_AGAIN;
    TRY(mpi_check(MPI_Get_count(&status, MPI_BYTE, &len), "receive", why));
    struct tbuf *b = s->posted[0].buf;
    b->len = (size_t)len;
    s->n_posted--;
    memmove(&s->posted[0], &s->posted[1], (size_t)s->n_posted * sizeof s->posted[0]);
    *got = b;
    return post_receives(s, why);
out:
    return e;
}

/* ---- sending ---------------------------------------------------------------- */

/* Takes back the buffers of sends that completed. */
static err progress_sends(struct mpi_plane *p, struct why *why)
{
    int n_done = 0;
    if (!p->n_active)
        return ERR_OK;
    err e = mpi_check(MPI_Testsome(p->n_active, p->requests, &n_done, p->done, MPI_STATUSES_IGNORE), "send", why);
    if (e != ERR_OK || n_done == 0 || n_done == MPI_UNDEFINED)
        return e;
    for (int i = 0; i < n_done; i++) {
        tbuf_pool_push(&p->send, p->sending[p->done[i]]);
        p->sending[p->done[i]] = NULL;
    }
    int kept = 0;
    for (int i = 0; i < p->n_active; i++)
        if (p->sending[i]) {
            p->requests[kept] = p->requests[i];
            p->sending[kept++] = p->sending[i];
        }
    p->n_active = kept;
    return ERR_OK;
}

static struct tbuf *mpi_buf(struct transport *t)
{
    return tbuf_pool_pop(&plane_of(t)->send);
}

static err mpi_send(struct transport *t, int to, struct tbuf *buf, struct why *why)
{
    struct mpi_plane *p = plane_of(t);
    MPI_Request request;
    err e = mpi_check(MPI_Isend(buf->data, (int)buf->len, MPI_BYTE, to, TAG_DATA, MPI_COMM_WORLD, &request), "send",
                      why);
    if (e != ERR_OK) {
        tbuf_pool_push(&p->send, buf);
        return e;
    }
    p->requests[p->n_active] = request;
    p->sending[p->n_active++] = buf;
    return ERR_OK;
}

static err mpi_poll(struct transport *t, struct transport_event *ev, struct why *why)
{
    struct mpi_plane *p = plane_of(t);
    err e = progress_sends(p, why);
    for (int i = 0; e == ERR_OK && i < p->n_from; i++) {
        struct source *s = &p->sources[p->turn];
        struct tbuf *b = NULL;
        p->turn = (p->turn + 1) % p->n_from;
        e = take_from(s, &b, why);
        if (e == ERR_OK) {
            *ev = (struct transport_event){.from = s->rank, .buf = b};
            return ERR_OK;
        }
        e = e == ERR_AGAIN ? ERR_OK : e;
    }
    return e == ERR_OK ? ERR_AGAIN : e;
}

static void mpi_release(struct transport *t, struct tbuf *buf)
{
    struct mpi_plane *p = plane_of(t);
    for (int i = 0; i < p->n_from; i++)
        if (tbuf_pool_owns(&p->sources[i].pool, buf)) {
            tbuf_pool_push(&p->sources[i].pool, buf);
            /* A failure here comes back at the next post or test of this source. */
            (void)!post_receives(&p->sources[i], NULL);
            return;
        }
    tbuf_pool_push(&p->send, buf);
}

static int mpi_unsent(const struct transport *t)
{
    return plane_of(t)->n_active;
}

/* ---- life ------------------------------------------------------------------- */

static err mpi_start(struct transport *t, const int *from, int n_from, size_t max_bytes, int n_send_bufs,
                     struct why *why)
{
    struct mpi_plane *p = plane_of(t);
    err e;
    assert(!p->sources);
    if (max_bytes > INT_MAX)
        FAIL(ERR_LIMIT, "messages of %zu bytes; MPI counts to %d", max_bytes, INT_MAX);
    p->sources = calloc((size_t)n_from + 1, sizeof *p->sources);
    p->requests = calloc((size_t)n_send_bufs, sizeof *p->requests);
    p->sending = calloc((size_t)n_send_bufs, sizeof *p->sending);
    p->done = calloc((size_t)n_send_bufs, sizeof *p->done);
    if (!p->sources || !p->requests || !p->sending || !p->done)
        FAIL(ERR_NOMEM, "message queues");
    TRY(tbuf_pool_init(&p->send, n_send_bufs, max_bytes, why));
    for (int i = 0; i < n_from; i++) {
        struct source *s = &p->sources[i];
        s->rank = from[i];
        TRY(tbuf_pool_init(&s->pool, RECV_BUFS, max_bytes, why));
        p->n_from = i + 1;
        TRY(post_receives(s, why));
    }
out:
    return e; /* what was taken is freed by close */
}

/* Withdraws a source's receives; false: MPI still owns a buffer. */
static bool withdraw(struct source *s, uint64_t until_ms)
{
    for (int i = 0; i < s->n_posted; i++)
        if (MPI_Cancel(&s->posted[i].request) != MPI_SUCCESS)
            return false;
    for (int i = 0; i < s->n_posted;) {
        int done = 0;
        if (MPI_Test(&s->posted[i].request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return false;
        if (done)
            i++;
        else if (now_ms() > until_ms)
            return false;
    }
    return true;
}

static void mpi_close(struct transport *t)
{
    struct mpi_plane *p = plane_of(t);
    uint64_t until_ms = now_ms() + CANCEL_MS;
    for (int i = 0; i < p->n_from; i++)
        if (withdraw(&p->sources[i], until_ms))
            tbuf_pool_fini(&p->sources[i].pool);
    if (progress_sends(p, NULL) == ERR_OK && !p->n_active)
        tbuf_pool_fini(&p->send);
    free(p->sources);
    free(p->requests);
    free(p->sending);
    free(p->done);
    free(p);
}

static const struct transport_ops mpi_ops = {
    .start = mpi_start,
    .buf = mpi_buf,
    .send = mpi_send,
    .poll = mpi_poll,
    .release = mpi_release,
    .unsent = mpi_unsent,
    .close = mpi_close,
};

/* A launcher that does not speak MPICH's start-up protocol starts N worlds of
 * one process each, with exit code 0. The environment gives it away. */
static err check_launcher(int size, struct why *why)
{
    if (size > 1 || env_get("PMI_FD") || env_get("PMI_RANK") || env_get("PMI_SIZE"))
        return ERR_OK;
    if (env_get("SLURM_STEP_ID") && env_get_long("SLURM_STEP_NUM_TASKS", 1) > 1)
        return why_set(why, ERR_INVAL,
                       "started by srun without --mpi=pmi2: every process is a world of its own; "
                       "use srun --mpi=pmi2 or set SLURM_MPI_TYPE=pmi2");
    if (env_get_long("OMPI_COMM_WORLD_SIZE", 1) > 1)
        return why_set(why, ERR_INVAL,
                       "started by Open MPI's mpirun: every process is a world of its own; use MPICH's mpiexec");
    return ERR_OK;
}

/* Waits for all requests, never inside MPI. */
static err wait_all(MPI_Request *requests, int n, unsigned deadline_ms, const char *what, struct why *why)
{
    uint64_t until_ms = now_ms() + deadline_ms;
    struct backoff idle = {0};
    for (;;) {
        int done = 0;
        err e = mpi_check(MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE), what, why);
        if (e != ERR_OK || done)
            return e;
        if (now_ms() > until_ms)
            return why_set(why, ERR_TIMEOUT, "MPI %s: not all ranks came within %u ms", what, deadline_ms);
        backoff_wait(&idle, 0, POLL_MAX_US);
    }
}

/* UCX over TCP sends anything above one segment (8 KB by default) in several
 * steps, each of which waits for the other side to poll. A rank that sleeps
 * between polls then needs milliseconds for what fits one larger segment in tens
 * of microseconds (docs/transport.md). A site's own setting stays. */
static const struct {
    const char *name, *value;
} defaults[] = {
    {"UCX_TCP_TX_SEG_SIZE", "256k"},
    {"UCX_TCP_RX_SEG_SIZE", "256k"},
};

err transport_mpi_open(struct transport **out, struct why *why)
{
    struct mpi_plane *p = NULL;
    int provided = 0, rank = 0, size = 0;
    err e;
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++)
        env_default(defaults[i].name, defaults[i].value);
    TRY(mpi_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "start-up", why));
    TRY(mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "start-up", why));
    TRY(mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "start-up", why));
    TRY(mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &size), "start-up", why));
    if (provided < MPI_THREAD_FUNNELED)
        FAIL(ERR_UNSUPPORTED, "this MPI was built without threads");
    TRY(check_launcher(size, why));
    if (!(p = calloc(1, sizeof *p)))
        FAIL(ERR_NOMEM, "MPI transport");
    p->base = (struct transport){.ops = &mpi_ops, .rank = rank, .size = size};
    *out = &p->base;
out:
    return e;
}

err transport_mpi_boot(struct transport *t, void *boot, size_t boot_bytes, unsigned deadline_ms, struct why *why)
{
    /* Static, so that a start-up that failed half-way leaves MPI no freed memory. */
    static char blob[TRANSPORT_BOOT_BYTES];
    MPI_Request *requests = calloc((size_t)t->size, sizeof *requests);
    int n = 0, bytes = (int)boot_bytes;
    err e;
    assert(t->ops == &mpi_ops && boot_bytes <= sizeof blob);
    if (!requests)
        FAIL(ERR_NOMEM, "start-up of %d ranks", t->size);
    memcpy(blob, boot, boot_bytes);
    if (t->rank != 0)
        TRY(mpi_check(MPI_Irecv(blob, bytes, MPI_BYTE, 0, TAG_BOOT, MPI_COMM_WORLD, &requests[n++]), "start-up",
                      why));
    for (int to = 1; t->rank == 0 && to < t->size; to++)
        TRY(mpi_check(MPI_Isend(blob, bytes, MPI_BYTE, to, TAG_BOOT, MPI_COMM_WORLD, &requests[n++]), "start-up",
                      why));
    TRY(wait_all(requests, n, deadline_ms, "start-up", why));
    memcpy(boot, blob, boot_bytes);
out:
    free(requests);
    return e;
}

err transport_mpi_drain(struct transport *t, unsigned deadline_ms, struct why *why)
{
    /* Static: after a deadline the barrier is still MPI's. */
    static MPI_Request barrier;
    struct mpi_plane *p = plane_of(t);
    uint64_t until_ms = now_ms() + deadline_ms;
    struct backoff idle = {0};
    err e;
    assert(t->ops == &mpi_ops);
    while (p->n_active) {
        TRY(progress_sends(p, why));
        if (now_ms() > until_ms)
            FAIL(ERR_TIMEOUT, "MPI end: %d messages did not leave within %u ms", p->n_active, deadline_ms);
        backoff_wait(&idle, 0, POLL_MAX_US);
    }
    TRY(mpi_check(MPI_Ibarrier(MPI_COMM_WORLD, &barrier), "end", why));
    uint64_t now = now_ms();
    e = wait_all(&barrier, 1, now < until_ms ? (unsigned)(until_ms - now) : 0, "end", why);
out:
    return e;
}
