/* peer_cordee.c - Cordée as an engine of `run bench peers`: one stage, no MPI. */
#include <stdio.h>

#include "bench/inproc.h"
#include "bench/peer.h"

enum { READ_SLICE = 1 << 20 };

struct engine {
    struct inproc p;
    struct why why;
};

static bool said(struct engine *g, err e)
{
    if (e != ERR_OK)
        fprintf(stderr, "peer_cordee: %s\n", g->why.text);
    return e == ERR_OK;
}

static bool prompt(void *engine, int n)
{
    struct engine *g = engine;
    return said(g, inproc_prompt(&g->p, 1, NULL, n, NULL, &g->why));
}

static bool decode(void *engine, int streams, int steps)
{
    struct engine *g = engine;
    return said(g, inproc_decode(&g->p, streams, 0, steps, &g->why));
}

static bool score(void *engine, const int *ids, int n, float *logprob)
{
    struct engine *g = engine;
    return said(g, inproc_prompt(&g->p, 1, ids, n, logprob, &g->why));
}

struct read_job {
    probe_read_fn *probe;
    const char *memory;
    size_t bytes;
    volatile uint64_t digest; /* keeps the reads */
};

static void read_slices(void *ctx, int first, int last, int worker)
{
    struct read_job *j = ctx;
    (void)worker;
    j->digest = j->probe(j->memory + (size_t)first * READ_SLICE, (size_t)(last - first) * READ_SLICE);
}

static bool read_memory(void *engine, const char *memory, size_t bytes)
{
    struct engine *g = engine;
    struct read_job j = {.probe = g->p.kernels.probe_read, .memory = memory, .bytes = bytes};
    pool_run(g->p.pool, (int)(bytes / READ_SLICE), 8, read_slices, &j);
    return true;
}

int main(int argc, char **argv)
{
    static struct engine g;
    static const struct peer_ops ops = {prompt, decode, score, read_memory};
    struct peer_options o = peer_parse(argc, argv);
    char name[64], about[256];
    int status = 1;

    g.p.threads = o.threads;
    g.p.streams = o.streams;
    g.p.context = o.context;
    g.p.isa = o.isa;
    g.p.precision = o.exact ? PREC_EXACT : PREC_FAST;
    if (said(&g, inproc_open(&g.p, o.model, &g.why))) {
        kernels_name(&g.p.kernels, name, sizeof name);
        snprintf(about, sizeof about, "{\"engine\": \"cordee\", \"kernels\": \"%s\", \"packed_bytes\": %llu}", name,
                 (unsigned long long)g.p.bytes.weights);
        status = peer_serve(&ops, &g, about);
    }
    inproc_close(&g.p);
    return status;
}
