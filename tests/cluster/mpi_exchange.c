/* mpi_exchange.c - the data plane over real MPI, one scenario a run:
 *
 *   mpiexec -n N mpi_exchange boot       the blob reaches every rank
 *   mpiexec -n N mpi_exchange order      mixed sizes, all pairs: in order, undamaged
 *   mpiexec -n N mpi_exchange long       1 MB both ways at once between neighbours
 *   mpiexec -n N mpi_exchange hold       a source whose messages are kept stops nobody else
 *   mpiexec -n N mpi_exchange idle       a quiet second costs little CPU (reported)
 *   mpiexec -n N mpi_exchange absent     a rank that never comes: start-up ends by its deadline
 *                mpi_exchange launcher   started by a launcher that makes worlds of one
 *
 * Every scenario but the last two ends with a drain and _exit, never MPI_Finalize.
 * Each process prints one line when it is content and exits with 0; the rank that
 * never comes says nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/farewell.h"
#include "transport/transport.h"

enum { MAX_RANKS = 16, PATIENCE_MS = 20000, LONG_BYTES = 1 << 20 };

static struct transport *t;
static int rank, size;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "rank %d: %s: %s\n", rank, what, why);
    _exit(1);
}

static void must(err e, const char *what, const struct why *why)
{
    if (e != ERR_OK)
        die(what, why->text);
}

static void expect(bool ok, const char *what)
{
    if (!ok)
        die(what, "does not hold");
}

static void start(const int *from, int n_from, size_t max_bytes, int n_send_bufs)
{
    struct why why;
    must(transport_start(t, from, n_from, max_bytes, n_send_bufs, &why), "start", &why);
}

static int all_others(int from[MAX_RANKS])
{
    int n = 0;
    for (int r = 0; r < size; r++)
        if (r != rank)
            from[n++] = r;
    return n;
}

/* The n-th message of a sender: length and every byte follow from (from, n). */
static size_t length_of(int from, int n)
{
    static const size_t lengths[] = {8, 100000, 1, 16384, 64, 300000, 4096, 9000};
    return lengths[(from + n) % 8];
}

static void fill(struct tbuf *b, int from, int n, size_t len)
{
    memset(b->data, (from * 31 + n) & 0xff, len);
    b->len = len;
}

static bool is_filled(const struct tbuf *b, int from, int n, size_t len)
{
    const unsigned char *p = b->data;
    return b->len == len && p[0] == ((from * 31 + n) & 0xff) && memcmp(p, p + 1, len - 1) == 0;
}

static void exchange(const int *peers, int n_peers, int n_each, size_t fixed_len, size_t max_bytes)
{
    int sent[MAX_RANKS] = {0}, got[MAX_RANKS] = {0}, n_got = 0, n_sent = 0, total = n_each * n_peers;
    uint64_t until_ms = now_ms() + PATIENCE_MS;
    struct backoff idle = {0};
    struct why why;
    start(peers, n_peers, max_bytes, 4);
    while (n_got < total || n_sent < total || transport_unsent(t)) {
        struct transport_event ev;
        int busy = 0;
        int to = peers[n_sent % n_peers];
        struct tbuf *b = n_sent < total ? transport_buf(t) : NULL;
        if (b) {
            fill(b, rank, sent[to], fixed_len ? fixed_len : length_of(rank, sent[to]));
            sent[to]++;
            n_sent++;
            busy = 1;
            must(transport_send(t, to, b, &why), "send", &why);
        }
        err e = transport_poll(t, &ev, &why);
        if (e == ERR_OK) {
            int n = got[ev.from]++;
            size_t len = fixed_len ? fixed_len : length_of(ev.from, n);
            expect(is_filled(ev.buf, ev.from, n, len), "a message as it was sent, in its turn");
            transport_release(t, ev.buf);
            n_got++;
            busy = 1;
        } else if (e != ERR_AGAIN) {
            must(e, "poll", &why);
        }
        backoff_wait(&idle, busy, 1000);
        expect(now_ms() < until_ms, "all messages within the deadline");
    }
}

static void run_boot(void)
{
    unsigned char blob[TRANSPORT_BOOT_BYTES];
    struct why why;
    for (size_t i = 0; i < sizeof blob; i++)
        blob[i] = rank == 0 ? (unsigned char)(i * 13) : 0;
    must(transport_mpi_boot(t, blob, sizeof blob, PATIENCE_MS, &why), "boot", &why);
    for (size_t i = 0; i < sizeof blob; i++)
        expect(blob[i] == (unsigned char)(i * 13), "the blob of rank 0");
}

static void run_order(void)
{
    int from[MAX_RANKS], n = all_others(from);
    exchange(from, n, 200, 0, 300000);
}

static void run_long(void)
{
    int peer = rank ^ 1;
    if (peer < size)
        exchange(&peer, 1, 40, LONG_BYTES, LONG_BYTES);
}

/* Rank 0 keeps all that rank 1 sends; rank 2's messages must still come. */
static void run_hold(void)
{
    static const int from[] = {1, 2};
    struct why why;
    uint64_t until_ms = now_ms() + PATIENCE_MS;
    expect(size >= 3, "three ranks");
    start(from, rank == 0 ? 2 : 0, LONG_BYTES, 8);
    if (rank == 1 || rank == 2) {
        for (int i = 0; i < 8; i++) {
            struct tbuf *b = transport_buf(t);
            fill(b, rank, i, LONG_BYTES);
            must(transport_send(t, 0, b, &why), "send", &why);
        }
    }
    struct tbuf *kept[8];
    int n_kept = 0, n_other = 0;
    while (rank == 0 && (n_kept < 4 || n_other < 8)) {
        struct transport_event ev;
        err e = transport_poll(t, &ev, &why);
        expect(now_ms() < until_ms, "rank 2 is heard while rank 1's messages are kept");
        if (e == ERR_AGAIN)
            continue;
        must(e, "poll", &why);
        if (ev.from == 1) {
            kept[n_kept++] = ev.buf;
        } else {
            n_other++;
            transport_release(t, ev.buf);
        }
    }
    expect(n_kept <= 4 || rank != 0, "at most four are held");
    for (int i = 0; i < n_kept; i++)
        transport_release(t, kept[i]);
    for (int n = n_kept; rank == 0 && n < 8;) {
        struct transport_event ev;
        err e = transport_poll(t, &ev, &why);
        expect(now_ms() < until_ms, "the rest comes once they are released");
        if (e == ERR_AGAIN)
            continue;
        must(e, "poll", &why);
        expect(is_filled(ev.buf, 1, n++, LONG_BYTES), "order is kept");
        transport_release(t, ev.buf);
    }
}

static void run_idle(void)
{
    int from[MAX_RANKS], n = all_others(from);
    uint64_t until_ms = now_ms() + 2000;
    struct backoff idle = {0};
    struct timespec a, b;
    start(from, n, 65536, 2);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    while (now_ms() < until_ms) {
        struct transport_event ev;
        struct why why;
        expect(transport_poll(t, &ev, &why) == ERR_AGAIN, "silence");
        backoff_wait(&idle, 0, 1000);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    double cpu = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    printf("rank %d: idle CPU %.2f %% of a core\n", rank, cpu / 2.0 * 100);
}

static void run_absent(void)
{
    char blob[8] = "x";
    struct why why;
    if (rank == 0) {
        sleep_us(3000 * 1000); /* comes too late */
        _exit(0);
    }
    expect(transport_mpi_boot(t, blob, sizeof blob, 300, &why) == ERR_TIMEOUT, "a time-out");
    printf("rank %d: ok (%s)\n", rank, why.text);
    fflush(stdout);
    _exit(0);
}

static int run_launcher(void)
{
    struct why why = {""};
    err e = transport_mpi_open(&t, &why);
    bool named = e == ERR_INVAL && strstr(why.text, "--mpi=pmi2");
    printf("%s\n", named ? "ok" : "the missing option was not named");
    fflush(stdout);
    _exit(named ? 0 : 1);
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"boot", run_boot}, {"order", run_order}, {"long", run_long},
    {"hold", run_hold}, {"idle", run_idle},   {"absent", run_absent},
};

int main(int argc, char **argv)
{
    struct why why;
    const char *name = argc > 1 ? argv[1] : "";
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* no orphan when a test is cut short */
    if (strcmp(name, "launcher") == 0)
        return run_launcher();
    must(transport_mpi_open(&t, &why), "open", &why);
    rank = transport_rank(t);
    size = transport_size(t);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        if (strcmp(name, scenarios[i].name) != 0)
            continue;
        scenarios[i].run();
        must(transport_mpi_drain(t, PATIENCE_MS, &why), "drain", &why);
        transport_farewell(PATIENCE_MS);
        transport_close(t);
        printf("rank %d: ok\n", rank);
        fflush(stdout);
        _exit(0);
    }
    fprintf(stderr, "unknown scenario \"%s\"\n", name);
    _exit(2);
}
