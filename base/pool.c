/* pool.c - data-parallel loops on a few threads, with stolen cores in mind.
 *
 * A loop is published as a ticket: one 64-bit word holding the loop's generation
 * and how many items nobody has claimed yet. Whoever has time, the caller
 * included, claims the next chunk by compare-and-swap on the ticket. There is no
 * start barrier and no end barrier, and nobody has work that is his alone: the caller returns when every item
 * is done, and never waits for a thread that holds no chunk. A worker whose core was taken by a neighbour
 * therefore costs at most the chunk it holds, and a worker that wakes up late finds nothing left and goes
 * back to sleep.
 *
 * Why a late worker cannot do harm. It reads the ticket, then the description
 * (fn, ctx, n, sizes), then claims. The claim succeeds only if generation and
 * remainder are unchanged, so an item of that very loop was still unclaimed, so
 * the caller was still inside that loop, so the description was still its own.
 * The description fields are atomics only because a read whose claim is going to
 * fail may overlap the next loop's writes. (The generation is 32 bits: a worker
 * would have to sleep through 2^32 loops between two instructions to be fooled.)
 *
 * Waiting. A worker that finds nothing spins for SPIN_NS, long enough to bridge
 * the serial pieces between two loops of one forward pass, then parks on the
 * futex `wake`. The caller too spins, then parks on `done`, which hands its core
 * to a preempted worker. Both follow the same rule: announce that you park (a
 * sequentially consistent write), look again, sleep; the other side publishes,
 * then looks for the announcement. One of the two always sees the other.
 *
 * Waking is a tree: the caller wakes at most WAKE_FANOUT workers and only if the
 * awake ones are fewer than the chunks; every worker woken wakes as many after
 * its first claim, if unclaimed chunks are left. So publishing costs the caller a
 * bounded time on any number of threads, and a short loop is over before the tree
 * has grown.
 *
 * Cores. A pool that was given CPUs binds each worker to its own, and the thread that
 * calls pool_bind_caller() to the first. base/bind.h says when they let go: a chunk on a
 * core that a neighbour took can be finished only where the kernel may move it.
 */
#include "base/pool.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/bind.h"
#include "base/clock.h"
#include "base/pause.h"

enum {
    CACHE_LINE = 64,
    THREADS_MAX = 1024,
    SPIN_NS = 20 * 1000,
    PAUSES_PER_LOOK = 8, /* between two looks at the shared line */
    WAKE_FANOUT = 2,
};

struct pool_worker {
    struct pool *pool;
    pthread_t thread;
    int index; /* 1..n_threads-1; the caller is 0 */
    struct bind bind;
};

struct pool {
    /* Claimed from by everyone: generation << 32 | items nobody has claimed. */
    alignas(CACHE_LINE) _Atomic uint64_t ticket;

    /* The loop's description: written by the caller between loops only. */
    alignas(CACHE_LINE) _Atomic(pool_fn *) fn;
    _Atomic(void *) ctx;
    _Atomic uint32_t n_items, least, most; /* items of a chunk */

    /* Items finished in this loop; a futex for the caller. */
    alignas(CACHE_LINE) _Atomic uint32_t done;
    _Atomic uint32_t caller_parked;
    atomic_bool in_loop; /* between publishing and returning: catches loops in loops */

    /* Bumped with every waking; a futex for the workers. */
    alignas(CACHE_LINE) _Atomic uint32_t wake;
    _Atomic int n_parked;
    _Atomic bool closing;

    int n_threads; /* including the caller */
    int n_started; /* entries of workers[] that run */
    struct pool_worker *workers;

    int *cpus; /* [n_threads]; NULL: the threads run where the kernel likes */
    bool caller_bound;
    pthread_t caller; /* whom caller_bind is about */
    struct bind caller_bind;
};

static uint32_t ticket_left(uint64_t ticket)
{
    return (uint32_t)ticket;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Wakes parked workers for the unclaimed items, less what n_idle threads that
 * are awake and without a chunk will take anyway. */
static void wake_some(struct pool *p, uint32_t items_left, int n_parked, int n_idle)
{
    uint32_t least = atomic_load_explicit(&p->least, memory_order_relaxed);
    int64_t n_chunks = items_left / least + (items_left % least != 0);
    int64_t useful = n_chunks - n_idle;
    if (useful <= 0 || n_parked == 0)
        return;
    atomic_fetch_add(&p->wake, 1);
    futex_wake(&p->wake, useful < WAKE_FANOUT ? (int)useful : WAKE_FANOUT);
}

/* Items of the next chunk when `left` are unclaimed: half of a thread's even share. */
static uint32_t chunk_of(uint32_t left, uint32_t least, uint32_t most, uint32_t threads)
{
    uint32_t take = left / (2 * threads);
    take = take > most ? most : take;
    take = take < least ? least : take;
    return take < left ? take : left;
}

/* Claims and runs chunks until none is left; returns the number of items run.
 * spread: wake further workers after the first claim. */
static uint32_t run_chunks(struct pool *p, int worker, bool spread)
{
    uint32_t n_run = 0;
    uint64_t ticket = atomic_load_explicit(&p->ticket, memory_order_acquire);
    while (ticket_left(ticket) != 0) {
        pool_fn *fn = atomic_load_explicit(&p->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&p->ctx, memory_order_relaxed);
        uint32_t n = atomic_load_explicit(&p->n_items, memory_order_relaxed);
        uint32_t least = atomic_load_explicit(&p->least, memory_order_relaxed);
        uint32_t most = atomic_load_explicit(&p->most, memory_order_relaxed);
        uint32_t left = ticket_left(ticket);
        uint32_t take = chunk_of(left, least, most, (uint32_t)p->n_threads);
        /* Release keeps the loads above from sinking below the claim. */
        if (!atomic_compare_exchange_weak_explicit(&p->ticket, &ticket, ticket - take, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue; /* `ticket` was reloaded */
        if (spread) {
            wake_some(p, left - take, atomic_load(&p->n_parked), 0);
            spread = false;
        }
        uint32_t first = n - left;
        fn(ctx, (int)first, (int)(first + take), worker);
        n_run += take;
        ticket = atomic_load_explicit(&p->ticket, memory_order_acquire);
    }
    return n_run;
}

/* True as soon as `ready`, false if that took longer than SPIN_NS. */
static bool spin_until(struct pool *p, bool (*ready)(struct pool *p))
{
    uint64_t start = 0;
    for (;;) {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            if (ready(p))
                return true;
            cpu_pause();
        }
        uint64_t now = now_ns();
        if (!start)
            start = now;
        else if (now - start > SPIN_NS)
            return false;
    }
}

static bool worker_ready(struct pool *p)
{
    return ticket_left(atomic_load_explicit(&p->ticket, memory_order_relaxed)) != 0 ||
           atomic_load_explicit(&p->closing, memory_order_relaxed);
}

static bool caller_ready(struct pool *p)
{
    return atomic_load_explicit(&p->done, memory_order_acquire) ==
           atomic_load_explicit(&p->n_items, memory_order_relaxed);
}

/* Returns true if this thread slept. */
static bool worker_wait(struct pool *p)
{
    if (spin_until(p, worker_ready))
        return false;
    uint32_t wake = atomic_load(&p->wake);
    atomic_fetch_add(&p->n_parked, 1);
    bool sleep = ticket_left(atomic_load(&p->ticket)) == 0 && !atomic_load(&p->closing);
    if (sleep)
        futex_wait(&p->wake, wake);
    atomic_fetch_sub(&p->n_parked, 1);
    return sleep;
}

static void *worker_main(void *arg)
{
    struct pool_worker *w = arg;
    struct pool *p = w->pool;
    bool slept = true;
    if (p->cpus)
        bind_begin(&w->bind, p->cpus, p->n_threads, w->index);
    while (!atomic_load(&p->closing)) {
        uint32_t n_run = run_chunks(p, w->index, slept);
        if (n_run) {
            /* The loop cannot end before this: `done` is still short of it. */
            atomic_fetch_add(&p->done, n_run);
            if (atomic_load(&p->caller_parked))
                futex_wake(&p->done, 1);
        }
        if (p->cpus)
            bind_turn(&w->bind, now_ns());
        slept = worker_wait(p);
    }
    if (p->cpus)
        bind_end(&w->bind);
    return NULL;
}

static void caller_wait(struct pool *p, uint32_t n_items)
{
    if (spin_until(p, caller_ready))
        return;
    atomic_store(&p->caller_parked, 1);
    for (uint32_t done; (done = atomic_load(&p->done)) != n_items;)
        futex_wait(&p->done, done);
    atomic_store(&p->caller_parked, 0);
}

/* A loop that one thread runs alone, still in chunks: fn's scratch may be sized
 * for them. */
static void run_alone(int n_items, int chunk, pool_fn *fn, void *ctx)
{
    for (int first = 0; first < n_items;) {
        int take = n_items - first < chunk ? n_items - first : chunk;
        fn(ctx, first, first + take, 0);
        first += take;
    }
}

void pool_run(struct pool *p, int n_items, int chunk, pool_fn *fn, void *ctx)
{
    pool_run_shrinking(p, n_items, chunk, chunk, fn, ctx);
}

void pool_run_shrinking(struct pool *p, int n_items, int least, int most, pool_fn *fn, void *ctx)
{
    assert(1 <= least && least <= most);
    if (p->caller_bound && pthread_equal(p->caller, pthread_self()))
        bind_turn(&p->caller_bind, now_ns());
    if (n_items <= least || p->n_threads == 1) {
        run_alone(n_items, most, fn, ctx);
        return;
    }
    assert(!atomic_exchange_explicit(&p->in_loop, true, memory_order_relaxed) && "a loop inside a loop");
    uint32_t generation = (uint32_t)(atomic_load_explicit(&p->ticket, memory_order_relaxed) >> 32) + 1;
    atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&p->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&p->n_items, (uint32_t)n_items, memory_order_relaxed);
    atomic_store_explicit(&p->least, (uint32_t)least, memory_order_relaxed);
    atomic_store_explicit(&p->most, (uint32_t)most, memory_order_relaxed);
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store(&p->ticket, (uint64_t)generation << 32 | (uint32_t)n_items);
    int n_parked = atomic_load(&p->n_parked);
    wake_some(p, (uint32_t)n_items, n_parked, p->n_threads - n_parked);

    uint32_t n_run = run_chunks(p, 0, false);
    if (atomic_fetch_add_explicit(&p->done, n_run, memory_order_acq_rel) + n_run != (uint32_t)n_items)
        caller_wait(p, (uint32_t)n_items);
    atomic_store_explicit(&p->in_loop, false, memory_order_relaxed);
}

void pool_bind_caller(struct pool *p)
{
    if (!p->cpus)
        return;
    if (p->caller_bound)
        bind_end(&p->caller_bind);
    p->caller = pthread_self();
    p->caller_bound = true;
    bind_begin(&p->caller_bind, p->cpus, p->n_threads, 0);
}

static err workers_start(struct pool *p, struct why *why)
{
    /* Signals belong to the thread that owns the process's state. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (int i = 0; i < p->n_threads - 1 && rc == 0; i++) {
        struct pool_worker *w = &p->workers[i];
        *w = (struct pool_worker){.pool = p, .index = i + 1};
        rc = pthread_create(&w->thread, NULL, worker_main, w);
        if (rc == 0) {
            char name[16]; /* the kernel's limit */
            snprintf(name, sizeof name, "pool-%d", w->index);
            pthread_setname_np(w->thread, name);
            p->n_started++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return why_set(why, ERR_IO, "starting thread %d of %d: %s", p->n_started + 2, p->n_threads,
                       strerror(rc));
    return ERR_OK;
}

err pool_open(int threads, struct pool **out, struct why *why)
{
    return pool_open_on(threads, NULL, out, why);
}

err pool_open_on(int threads, const int *cpus, struct pool **out, struct why *why)
{
    err e;
    struct pool *p = NULL;
    if (threads < 1 || threads > THREADS_MAX)
        FAIL(ERR_INVAL, "%d threads: expected 1 to %d", threads, THREADS_MAX);
    p = mem_alloc(1, sizeof *p);
    if (!p)
        FAIL(ERR_NOMEM, "thread pool");
    p->n_threads = threads;
    p->workers = mem_alloc((size_t)threads, sizeof *p->workers);
    if (!p->workers)
        FAIL(ERR_NOMEM, "thread pool of %d", threads);
    if (cpus) {
        p->cpus = mem_alloc((size_t)threads, sizeof *p->cpus);
        if (!p->cpus)
            FAIL(ERR_NOMEM, "thread pool of %d", threads);
        memcpy(p->cpus, cpus, (size_t)threads * sizeof *cpus);
    }
    TRY(workers_start(p, why));
    *out = p;
    p = NULL;
    e = ERR_OK;

out:
    pool_close(p);
    return e;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    atomic_store(&p->closing, true);
    atomic_fetch_add(&p->wake, 1);
    futex_wake(&p->wake, INT_MAX);
    for (int i = 0; i < p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    if (p->caller_bound)
        bind_end(&p->caller_bind);
    free(p->cpus);
    free(p->workers);
    free(p);
}

int pool_threads(const struct pool *p)
{
    return p->n_threads;
}
