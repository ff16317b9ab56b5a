/* peer.h - one engine of `run bench peers`, as a process that does what it is told.
 *
 * Every engine is a program with the same two ends: commands, a line each, on
 * standard input, and one line of JSON an answer on standard output. So models
 * load once, the engines take turns, and both are timed by the same code. This
 * file and peer.c use nothing but the C library: they are also linked to llama.cpp.
 *
 *   prompt N            {"seconds": s, "cpu": s}   N arbitrary tokens into an empty context
 *   decode STREAMS N    likewise   N steps of so many streams, contexts empty
 *   score ID ID ...     {"logprobs": [...]}   of each token but the first
 *   read MIB            likewise   reads so much memory with all threads
 *
 * seconds is time on the wall, cpu the processor time of all threads.
 */
#ifndef CORDEE_BENCH_PEER_H
#define CORDEE_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>

struct peer_ops {
    /* Return false, having said why on standard error, if it cannot be done. */
    bool (*prompt)(void *engine, int n);
    bool (*decode)(void *engine, int streams, int steps);
    bool (*score)(void *engine, const int *ids, int n, float *logprob); /* logprob[1..n) */
    bool (*read)(void *engine, const char *memory, size_t bytes);        /* NULL: cannot */
};

struct peer_options {
    const char *model, *isa;
    int threads, streams, context;
    bool exact;
};

/* MODEL [--threads N] [--streams N] [--context N] [--isa NAME] [--exact]; exits with
 * a usage line if it is anything else. */
struct peer_options peer_parse(int argc, char **argv);

/* Serves until standard input ends. Prints `about`, a JSON object, first. Returns
 * an exit status. */
int peer_serve(const struct peer_ops *ops, void *engine, const char *about);

#endif
