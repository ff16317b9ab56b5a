/* transport.c - one-way latency and rate of the data plane between two ranks.
 *
 *   mpiexec -n 2 bench_transport [--back-off US] [--json]
 *
 * Ping-pong through transport.h, half a round trip each, at three sizes, then a
 * stream with several messages on their way. Without --back-off both ranks spin,
 * which shows the transport itself; with it they wait as the engine does (spin
 * 20 us, then sleep, up to US at a time), which is what counts where ranks share cores. The sealed
 * row adds the checksum of both ends. Over sockets: UCX_TLS=tcp,self
 * MPIR_CVAR_NOLOCAL=1. Pin the ranks on a noisy machine (mpiexec -bind-to core).
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pause.h"
#include "proto/wire.h"
#include "transport/transport.h"

enum { MAX_BYTES = 1 << 20, WARM = 50, MAX_ROUNDS = 3000, SEND_BUFS = 4, DEADLINE_MS = 10000 };

struct bench {
    struct transport *t;
    int rank;
    unsigned back_off_us; /* 0: spin */
    bool json;
    struct backoff idle;
    uint32_t sent, received; /* sequence numbers */
};

static void die(const struct why *why)
{
    fprintf(stderr, "bench_transport: %s\n", why->text);
    _exit(1);
}

static struct tbuf *next_message(struct bench *b)
{
    for (;;) {
        struct transport_event ev;
        struct why why;
        err e = transport_poll(b->t, &ev, &why);
        if (b->back_off_us)
            backoff_wait(&b->idle, e == ERR_OK, b->back_off_us);
        else if (e == ERR_AGAIN)
            cpu_pause();
        if (e == ERR_OK)
            return ev.buf;
        if (e != ERR_AGAIN)
            die(&why);
    }
}

static void send_message(struct bench *b, size_t bytes, bool sealed)
{
    struct why why;
    struct tbuf *buf;
    while (!(buf = transport_buf(b->t))) {
        struct transport_event ev;
        if (transport_poll(b->t, &ev, &why) != ERR_AGAIN)
            die(&(struct why){"a message out of turn"});
    }
    buf->len = bytes;
    if (sealed) {
        *(struct msg_head *)buf->data = (struct msg_head){.kind = WIRE_TOKENS};
        wire_seal(buf->data, bytes, 1, b->sent++);
    }
    if (transport_send(b->t, 1 - b->rank, buf, &why) != ERR_OK)
        die(&why);
}

static void take_message(struct bench *b, bool sealed)
{
    struct tbuf *buf = next_message(b);
    const struct msg_head *h;
    struct why why;
    if (sealed && wire_check(buf->data, buf->len, 1, b->received++, &h, &why) != ERR_OK)
        die(&why);
    transport_release(b->t, buf);
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void ping_pong(struct bench *b, size_t bytes, bool sealed)
{
    static uint64_t times[MAX_ROUNDS];
    int rounds = bytes >= MAX_BYTES ? 500 : MAX_ROUNDS;
    for (int i = -WARM; i < rounds; i++) {
        uint64_t start = now_ns();
        if (b->rank == 0)
            send_message(b, bytes, sealed);
        take_message(b, sealed);
        if (b->rank == 1)
            send_message(b, bytes, sealed);
        if (i >= 0)
            times[i] = (now_ns() - start) / 2;
    }
    if (b->rank != 0)
        return;
    qsort(times, (size_t)rounds, sizeof *times, by_time);
    double p50 = (double)times[rounds / 2] * 1e-3, p99 = (double)times[rounds * 99 / 100] * 1e-3;
    if (b->json)
        printf("{\"bytes\":%zu,\"sealed\":%s,\"p50_us\":%.2f,\"p99_us\":%.2f}\n", bytes, sealed ? "true" : "false",
               p50, p99);
    else
        printf("%8zu bytes %-6s p50 %9.2f us  p99 %9.2f us\n", bytes, sealed ? "sealed" : "", p50, p99);
}

/* Rank 0 sends as fast as buffers come back; the last message is answered. */
static void stream(struct bench *b, size_t bytes)
{
    int n = bytes >= MAX_BYTES ? 500 : 20000;
    uint64_t start = now_ns();
    if (b->rank == 0) {
        for (int i = 0; i < n; i++)
            send_message(b, bytes, false);
        take_message(b, false);
        double s = (double)(now_ns() - start) * 1e-9;
        printf(b->json ? "{\"stream_bytes\":%zu,\"gbit_s\":%.2f}\n" : "%8zu bytes   stream %.2f Gbit/s\n", bytes,
               (double)n * (double)bytes * 8e-9 / s);
    } else {
        for (int i = 0; i < n; i++)
            take_message(b, false);
        send_message(b, 8, false);
    }
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {8, 16384, MAX_BYTES};
    struct bench b = {0};
    struct why why;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--back-off") == 0 && i + 1 < argc)
            b.back_off_us = (unsigned)strtoul(argv[i + 1], NULL, 10);
        b.json |= strcmp(argv[i], "--json") == 0;
    }
    if (transport_mpi_open(&b.t, &why) != ERR_OK)
        die(&why);
    b.rank = transport_rank(b.t);
    if (transport_size(b.t) != 2)
        die(&(struct why){"needs two ranks: mpiexec -n 2 bench_transport"});
    int peer = 1 - b.rank;
    if (transport_start(b.t, &peer, 1, MAX_BYTES, SEND_BUFS, &why) != ERR_OK)
        die(&why);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        ping_pong(&b, sizes[i], false);
    ping_pong(&b, 16384, true);
    ping_pong(&b, MAX_BYTES, true);
    stream(&b, 16384);
    stream(&b, MAX_BYTES);
    fflush(stdout);
    if (transport_mpi_drain(b.t, DEADLINE_MS, &why) != ERR_OK)
        die(&why);
    _exit(0);
}
