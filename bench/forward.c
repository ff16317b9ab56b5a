/* forward.c - speed of one in-process stage, for a person to read.
 *
 *   bench_forward MODEL [threads [prompt [generate [streams [exact|fast [isa [score]]]]]]]
 *
 * score: the prompt's rows are priced too, as evaluation does.
 *
 * Prints prefill and decode tokens/s, totals over all streams.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "bench/inproc.h"

static int number(int argc, char **argv, int i, int otherwise, int most)
{
    int n = argc > i ? atoi(argv[i]) : otherwise;
    return n < 1 ? 1 : n > most ? most : n;
}

static void describe(const struct inproc *p)
{
    char name[64];
    kernels_name(&p->kernels, name, sizeof name);
    printf("%s, %d threads, kernels %s: weights %.1f MiB, kv %.1f MiB, buffers %.1f MiB, loaded in %.2f s\n",
           source_name(p->src), p->threads, name, (double)p->bytes.weights / 0x1p20, (double)p->bytes.kv / 0x1p20,
           (double)p->bytes.scratch / 0x1p20, p->load_seconds);
}

static err measure(struct inproc *p, int prompt, int generate, bool score, struct why *why)
{
    err e = ERR_OK;
    int *ids = calloc((size_t)prompt, sizeof *ids);
    float *logprob = calloc((size_t)prompt, sizeof *logprob);

    if (!ids || !logprob)
        FAIL(ERR_NOMEM, "prompt of %d", prompt);
    for (int i = 0; i < prompt; i++)
        ids[i] = i * 37 % source_hparams(p->src)->n_vocab;
    uint64_t start = now_ns();
    TRY(inproc_prompt(p, p->streams, score ? ids : NULL, prompt, score ? logprob : NULL, why));
    double prompt_s = (double)(now_ns() - start) * 1e-9;
    start = now_ns();
    TRY(inproc_decode(p, p->streams, prompt, generate, why));
    double decode_s = (double)(now_ns() - start) * 1e-9;
    printf("prefill %9.1f tok/s (%d x %d)\ndecode  %9.1f tok/s (%d x %d)\n", prompt * p->streams / prompt_s,
           p->streams, prompt, generate * p->streams / decode_s, p->streams, generate);
out:
    free(ids);
    free(logprob);
    return e;
}

int main(int argc, char **argv)
{
    err e;
    static struct inproc p;
    struct why why = {0};
    if (argc < 2) {
        fprintf(stderr, "usage: bench_forward MODEL [threads [prompt [generate [streams [exact|fast [isa "
                        "[score]]]]]]]\n");
        return 2;
    }
    int prompt = number(argc, argv, 3, 256, 1 << 20), generate = number(argc, argv, 4, 64, 1 << 20);
    p.threads = number(argc, argv, 2, cpu_cores(), 1024);
    p.streams = number(argc, argv, 5, 1, INPROC_STREAMS);
    p.context = prompt + generate;
    p.precision = argc > 6 && strcmp(argv[6], "exact") == 0 ? PREC_EXACT : PREC_FAST;
    p.isa = argc > 7 ? argv[7] : "native";
    TRY(inproc_open(&p, argv[1], &why));
    describe(&p);
    TRY(measure(&p, prompt, generate, argc > 8 && strcmp(argv[8], "score") == 0, &why));
out:
    if (e != ERR_OK)
        fprintf(stderr, "bench_forward: %s\n", why.text);
    inproc_close(&p);
    return e == ERR_OK ? 0 : 1;
}
