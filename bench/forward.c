/* forward.c - speed of one in-process stage: no messages, no scheduler.
 *
 *   bench_forward MODEL [threads [prompt [generate [streams [exact|fast [isa [score]]]]]]]
 *
 * score: the prompt's rows are priced too, as evaluation does.
 *
 * Prints prefill and decode tokens/s, totals over all streams. What `cordee bench`
 * loses against these numbers is the cluster's overhead; what these lose against
 * bench_kernels is the forward pass's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "shard/stage.h"

enum { MAX_STREAMS = 256, CHUNK = 512 };

struct bench {
    struct source *src;
    struct pool *pool;
    struct stage *stage;
    int threads, prompt, generate, streams, context;
    bool score;
    uint32_t *pages; /* [streams][pages each] */
    struct batch_seq seqs[MAX_STREAMS];
    struct batch_row rows[CHUNK];
    struct row_result results[CHUNK];
    int n_results;
    struct why why;
};

static err open_model(struct bench *b, const char *path, enum precision precision, const char *isa_name)
{
    err e;
    struct why *why = &b->why;
    unsigned isa;
    struct kernels k;
    char name[64];
    uint64_t start = now_ns();
    uint32_t each = (uint32_t)(b->context + KV_PAGE - 1) / KV_PAGE;

    TRY(cpu_isa_parse(isa_name, &isa, why));
    kernels_init(&k, isa, precision);
    kernels_name(&k, name, sizeof name);
    TRY(source_open(path, &b->src, why));
    TRY(pool_open(b->threads, &b->pool, why));
    struct stage_range all = {.last = source_hparams(b->src)->n_layer, .embed = true, .head = true};
    struct stage_limits lim = {.max_rows = CHUNK,
                               .max_slots = b->streams,
                               .max_context = b->context,
                               .n_pages = each * (uint32_t)b->streams,
                               .kv_type = KV_F16};
    struct stage_bytes bytes;
    TRY(stage_measure(b->src, all, &lim, &k, b->threads, &bytes, why));
    TRY(stage_open(b->src, all, &lim, &k, b->pool, &b->stage, why));
    printf("%s, %d threads, kernels %s: weights %.1f MiB, kv %.1f MiB, buffers %.1f MiB, loaded in %.2f s\n",
           source_name(b->src), b->threads, name, (double)bytes.weights / 0x1p20, (double)bytes.kv / 0x1p20,
           (double)bytes.scratch / 0x1p20, (double)(now_ns() - start) * 1e-9);

    b->pages = malloc(lim.n_pages * sizeof *b->pages);
    if (!b->pages)
        FAIL(ERR_NOMEM, "page table");
    for (uint32_t p = 0; p < lim.n_pages; p++)
        b->pages[p] = p;
    struct sample_params greedy = {.top_p = 1, .repetition_penalty = 1};
    for (int s = 0; s < b->streams; s++) {
        b->seqs[s] =
            (struct batch_seq){.slot = (uint32_t)s, .n_pages = each, .pages = b->pages + (size_t)s * each};
        TRY(stage_slot_open(b->stage, (uint32_t)s, &greedy, NULL, 0, why));
    }
out:
    return e;
}

static err step(struct bench *b, int n_rows, int n_gen)
{
    struct batch batch = {
        .n_rows = n_rows, .n_gen = n_gen, .n_seqs = b->streams, .rows = b->rows, .seqs = b->seqs};
    return stage_step(b->stage, &batch, NULL, NULL, b->results, &b->n_results, &b->why);
}

static err prefill(struct bench *b)
{
    err e = ERR_OK;
    int vocab = source_hparams(b->src)->n_vocab;
    for (int s = 0; s < b->streams; s++)
        for (int at = 0; at < b->prompt; at += CHUNK) {
            int n = b->prompt - at < CHUNK ? b->prompt - at : CHUNK;
            for (int i = 0; i < n; i++)
                b->rows[i] = (struct batch_row){.token = (at + i) * 37 % vocab,
                                                .pos = at + i,
                                                .seq = (uint16_t)s,
                                                .flags = b->score ? ROW_SCORE : 0};
            if (at + n == b->prompt)
                b->rows[n - 1].flags = ROW_SAMPLE;
            TRY(step(b, n, 0));
        }
out:
    return e;
}

static err decode(struct bench *b)
{
    err e = ERR_OK;
    int32_t token[MAX_STREAMS] = {0};
    for (int g = 0; g < b->generate; g++) {
        for (int s = 0; s < b->streams; s++)
            b->rows[s] = (struct batch_row){.token = token[s],
                                            .pos = b->prompt + g,
                                            .seq = (uint16_t)s,
                                            .flags = ROW_GENERATED | ROW_SAMPLE};
        TRY(step(b, b->streams, b->streams));
        for (int s = 0; s < b->streams; s++)
            token[s] = b->results[s].token;
    }
out:
    return e;
}

static int number(int argc, char **argv, int i, int otherwise, int most)
{
    int n = argc > i ? atoi(argv[i]) : otherwise;
    return n < 1 ? 1 : n > most ? most : n;
}

int main(int argc, char **argv)
{
    err e = ERR_INVAL;
    static struct bench b;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_forward MODEL [threads [prompt [generate [streams [exact|fast [isa "
                        "[score]]]]]]]\n");
        return 2;
    }
    b.threads = number(argc, argv, 2, cpu_cores(), 1024);
    b.prompt = number(argc, argv, 3, 256, 1 << 20);
    b.generate = number(argc, argv, 4, 64, 1 << 20);
    b.streams = number(argc, argv, 5, 1, MAX_STREAMS);
    b.context = b.prompt + b.generate;
    b.score = argc > 8 && strcmp(argv[8], "score") == 0;
    enum precision precision = argc > 6 && strcmp(argv[6], "exact") == 0 ? PREC_EXACT : PREC_FAST;
    TRY(open_model(&b, argv[1], precision, argc > 7 ? argv[7] : "native"));
    TRY(step(&b, 1, 0)); /* touches everything once */

    uint64_t start = now_ns();
    TRY(prefill(&b));
    double prefill_s = (double)(now_ns() - start) * 1e-9;
    start = now_ns();
    TRY(decode(&b));
    double decode_s = (double)(now_ns() - start) * 1e-9;
    printf("prefill %9.1f tok/s (%d x %d)\ndecode  %9.1f tok/s (%d x %d)\n", b.prompt * b.streams / prefill_s,
           b.streams, b.prompt, b.generate * b.streams / decode_s, b.streams, b.generate);
out:
    if (e != ERR_OK)
        fprintf(stderr, "bench_forward: %s\n", b.why.text);
    stage_close(b.stage);
    pool_close(b.pool);
    source_close(b.src);
    free(b.pages);
    return e == ERR_OK ? 0 : 1;
}
