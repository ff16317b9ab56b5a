/* inproc.c - see inproc.h. */
#include "bench/inproc.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/cpu.h"

static err open_stage(struct inproc *p, struct why *why)
{
    err e;
    uint32_t each = (uint32_t)(p->context + KV_PAGE - 1) / KV_PAGE;
    struct stage_range all = {.last = source_hparams(p->src)->n_layer, .embed = true, .head = true};
    struct stage_limits lim = {.max_rows = INPROC_CHUNK,
                               .max_slots = p->streams,
                               .max_context = p->context,
                               .n_pages = each * (uint32_t)p->streams,
                               .kv_type = KV_F16};
    struct sample_params greedy = {.top_p = 1, .repetition_penalty = 1};

    TRY(stage_measure(p->src, all, &lim, &p->kernels, p->threads, &p->bytes, why));
    TRY(stage_open(p->src, all, &lim, &p->kernels, p->pool, &p->stage, why));
    p->pages = malloc(lim.n_pages * sizeof *p->pages);
    if (!p->pages)
        FAIL(ERR_NOMEM, "page table");
    for (uint32_t i = 0; i < lim.n_pages; i++)
        p->pages[i] = i;
    for (int s = 0; s < p->streams; s++) {
        p->seqs[s] =
            (struct batch_seq){.slot = (uint32_t)s, .n_pages = each, .pages = p->pages + (size_t)s * each};
        TRY(stage_slot_open(p->stage, (uint32_t)s, &greedy, NULL, 0, why));
    }
out:
    return e;
}

err inproc_open(struct inproc *p, const char *path, struct why *why)
{
    err e;
    unsigned isa;
    uint64_t start = now_ns();

    if (p->streams < 1 || p->streams > INPROC_STREAMS || p->context < 1)
        FAIL(ERR_INVAL, "streams 1..%d and a context are needed", INPROC_STREAMS);
    TRY(cpu_isa_parse(p->isa, &isa, why));
    kernels_init(&p->kernels, isa, p->precision);
    TRY(source_open(path, &p->src, why));
    TRY(pool_open(p->threads, &p->pool, why));
    TRY(open_stage(p, why));
    p->load_seconds = (double)(now_ns() - start) * 1e-9;
    TRY(inproc_decode(p, 1, 0, 1, why));
out:
    return e;
}

void inproc_close(struct inproc *p)
{
    stage_close(p->stage);
    pool_close(p->pool);
    source_close(p->src);
    free(p->pages);
}

static err step(struct inproc *p, int n_rows, int n_gen, struct why *why)
{
    struct batch batch = {
        .n_rows = n_rows, .n_gen = n_gen, .n_seqs = p->streams, .rows = p->rows, .seqs = p->seqs};
    return stage_step(p->stage, &batch, NULL, NULL, p->results, &p->n_results, why);
}

/* One micro-batch of a prompt: rows at [at, at + n) of stream s. */
static err prompt_chunk(struct inproc *p, int s, const int *ids, int at, int n, int total, float *logprob,
                        struct why *why)
{
    err e;
    int vocab = source_hparams(p->src)->n_vocab;

    for (int i = 0; i < n; i++) {
        int pos = at + i;
        bool last = pos + 1 == total;
        int arbitrary = (pos * 37 + s * 101) % vocab;
        p->rows[i] = (struct batch_row){.token = ids ? ids[pos] : arbitrary, .pos = pos, .seq = (uint16_t)s};
        if (logprob && !last)
            p->rows[i].target = ids[pos + 1];
        p->rows[i].flags = last ? ROW_SAMPLE : logprob ? ROW_SCORE : 0;
    }
    TRY(step(p, n, 0, why));
    for (int i = 0; logprob && i < p->n_results; i++)
        if (p->results[i].flags & ROW_SCORE)
            logprob[p->results[i].pos + 1] = p->results[i].logprob;
out:
    return e;
}

err inproc_prompt(struct inproc *p, int streams, const int *ids, int n, float *logprob, struct why *why)
{
    err e = ERR_OK;

    if (streams > p->streams || n > p->context || (logprob && !ids))
        FAIL(ERR_INVAL, "%d streams of %d tokens do not fit %d of %d", streams, n, p->streams, p->context);
    for (int s = 0; s < streams; s++)
        for (int at = 0; at < n; at += INPROC_CHUNK)
            TRY(prompt_chunk(p, s, ids, at, n - at < INPROC_CHUNK ? n - at : INPROC_CHUNK, n, logprob, why));
out:
    return e;
}

err inproc_decode(struct inproc *p, int streams, int pos, int steps, struct why *why)
{
    err e = ERR_OK;
    int vocab = source_hparams(p->src)->n_vocab;
    int32_t token[INPROC_STREAMS] = {0};

    if (streams > p->streams || pos + steps > p->context)
        FAIL(ERR_INVAL, "%d streams to position %d do not fit %d of %d", streams, pos + steps, p->streams, p->context);
    for (int g = 0; g < steps; g++) {
        for (int s = 0; s < streams; s++)
            p->rows[s] = (struct batch_row){.token = (token[s] + s) % vocab, /* others in each: and so experts */
                                            .pos = pos + g,
                                            .seq = (uint16_t)s,
                                            .flags = ROW_GENERATED | ROW_SAMPLE};
        TRY(step(p, streams, streams, why));
        for (int s = 0; s < streams; s++)
            token[s] = p->results[s].token;
    }
out:
    return e;
}
