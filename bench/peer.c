/* peer.c - see peer.h. */
#include "bench/peer.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct moment {
    double wall, cpu;
};

static double clock_now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct moment now(void)
{
    return (struct moment){clock_now(CLOCK_MONOTONIC), clock_now(CLOCK_PROCESS_CPUTIME_ID)};
}

struct peer_options peer_parse(int argc, char **argv)
{
    static const struct option longs[] = {{"threads", 1, NULL, 't'}, {"streams", 1, NULL, 's'},
                                          {"context", 1, NULL, 'c'}, {"isa", 1, NULL, 'i'},
                                          {"exact", 0, NULL, 'e'},   {NULL, 0, NULL, 0}};
    struct peer_options o = {.isa = "native", .threads = 1, .streams = 1, .context = 576};
    bool fine = true;

    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;)
        switch (c) {
        case 't':
            o.threads = atoi(optarg);
            break;
        case 's':
            o.streams = atoi(optarg);
            break;
        case 'c':
            o.context = atoi(optarg);
            break;
        case 'i':
            o.isa = optarg;
            break;
        case 'e':
            o.exact = true;
            break;
        default:
            fine = false;
        }
    if (!fine || optind + 1 != argc || o.threads < 1 || o.streams < 1 || o.context < 1) {
        fprintf(stderr, "usage: %s MODEL [--threads N] [--streams N] [--context N] [--isa NAME] [--exact]\n", argv[0]);
        exit(2);
    }
    o.model = argv[optind];
    return o;
}

static bool timed(bool fine, struct moment start)
{
    struct moment end = now();
    if (fine)
        printf("{\"seconds\": %.6f, \"cpu\": %.6f}\n", end.wall - start.wall, end.cpu - start.cpu);
    return fine;
}

static bool score(const struct peer_ops *ops, void *engine, char *text)
{
    size_t most = strlen(text) / 2 + 1; /* an id and a blank are two bytes at least */
    int *ids = malloc(most * sizeof *ids), n = 0;
    float *logprob = calloc(most, sizeof *logprob);
    char *save = NULL;
    bool fine = false;

    if (ids && logprob) {
        for (char *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
            ids[n++] = atoi(word);
        fine = n > 1 && ops->score(engine, ids, n, logprob);
    }
    if (fine) {
        printf("{\"logprobs\": [");
        for (int i = 1; i < n; i++)
            printf("%s%.6f", i > 1 ? ", " : "", (double)logprob[i]);
        printf("]}\n");
    }
    free(ids);
    free(logprob);
    return fine;
}

/* The memory stays, so that only the first call pays for its pages. */
static bool read_memory(const struct peer_ops *ops, void *engine, int mib)
{
    static char *memory;
    static int has;

    if (!ops->read)
        return false;
    if (mib > has) {
        free(memory);
        memory = aligned_alloc(4096, (size_t)mib << 20);
        has = memory ? mib : 0;
        if (!memory)
            return false;
        memset(memory, 1, (size_t)mib << 20);
    }
    struct moment start = now();
    return timed(ops->read(engine, memory, (size_t)mib << 20), start);
}

/* Answers one line; false: it could not. */
static bool answer(const struct peer_ops *ops, void *engine, char *line)
{
    int a, b;

    if (sscanf(line, "prompt %d", &a) == 1) {
        struct moment start = now();
        return timed(ops->prompt(engine, a), start);
    }
    if (sscanf(line, "decode %d %d", &a, &b) == 2) {
        struct moment start = now();
        return timed(ops->decode(engine, a, b), start);
    }
    if (sscanf(line, "read %d", &a) == 1 && a > 0)
        return read_memory(ops, engine, a);
    return strncmp(line, "score ", 6) == 0 && score(ops, engine, line + 6);
}

int peer_serve(const struct peer_ops *ops, void *engine, const char *about)
{
    char *line = NULL;
    size_t room = 0;

    puts(about);
    fflush(stdout);
    while (getline(&line, &room, stdin) > 0) {
        if (!answer(ops, engine, line))
            puts("{\"error\": \"refused; see standard error\"}");
        fflush(stdout);
    }
    free(line);
    return 0;
}
