/* pipe_equal.c - the same load over MPI and in one process: equal bits.
 *
 *   mpiexec -n STAGES+1 pipe_equal
 *
 * Rank 0 runs the engine over MPI, the others are stages; afterwards rank 0 runs
 * the load again over transport_loop on one stage and compares. Exit code 77: the
 * model is not there.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/farewell.h"
#include "tests/cluster/load.h"

enum { SKIPPED = 77, EPOCH = 7, END_MS = 10000 };

static struct load_model model;
static struct gen_request requests[LOAD];
static struct taken over_mpi[LOAD], in_process[LOAD];

static void must(err e, const char *what, const struct why *why)
{
    if (e) {
        fprintf(stderr, "%s: %s: %s\n", what, err_name(e), why->text);
        _exit(1);
    }
}

static void run_engine(struct transport *t, const struct engine_options *limits, int n_stages)
{
    struct why why = {""};
    struct engine_options eo = *limits;
    struct engine *engine;
    struct backoff idle = {0};
    eo.epoch = EPOCH;
    eo.n_stages = eo.last_rank = n_stages;
    eo.first_rank = 1;
    must(engine_open(t, &eo, &engine, &why), "engine", &why);
    for (int i = 0; i < LOAD; i++)
        must(backend_submit(engine_backend(engine), &requests[i], take_event, &over_mpi[i], &over_mpi[i].handle, &why),
             "submit", &why);
    while (!engine_idle(engine)) {
        bool busy = false;
        must(engine_turn(engine, &busy, &why), "engine", &why);
        backoff_wait(&idle, busy, 500);
    }
    must(engine_stop(engine, &why), "stop", &why);
    while (transport_unsent(t) > 0) {
        bool busy = false;
        must(engine_turn(engine, &busy, &why), "engine", &why);
    }
    engine_close(engine);
}

static void run_worker(struct transport *t, const struct engine_options *eo, int n_stages)
{
    struct why why = {""};
    int rank = transport_rank(t);
    struct worker_options o = {
        .epoch = EPOCH, .stage = rank, .n_stages = n_stages, .prev_rank = rank - 1,
        .next_rank = rank < n_stages ? rank + 1 : -1, .first_rank = 1, .last_rank = n_stages, .n_embd = eo->n_embd,
        .limits = {.max_rows = (uint32_t)eo->max_rows, .max_seqs = (uint32_t)eo->max_slots,
                   .max_slots = (uint32_t)eo->max_slots, .n_pages = eo->n_pages,
                   .max_context = (uint32_t)eo->max_context, .n_vocab = eo->n_vocab, .page_rows = KV_PAGE},
    };
    struct worker *w;
    struct backoff idle = {0};
    err e = ERR_OK;
    must(worker_open(t, load_stage(&model, eo, rank - 1, n_stages), &o, &w, &why), "worker", &why);
    while (e == ERR_OK) {
        bool busy = false;
        e = worker_turn(w, &busy, &why);
        backoff_wait(&idle, busy, 500);
    }
    if (e != ERR_CANCELLED)
        must(e, "worker", &why);
    worker_close(w);
}

static int compare(const struct engine_options *eo)
{
    struct why why = {""};
    struct pipe_options o = {.n_stages = 1, .engine = *eo, .fault_rank = -1};
    int n_different = 0;
    o.stages[0] = load_stage(&model, eo, 0, 1);
    struct pipe *p = pipe_open(&o);
    for (int i = 0; i < LOAD; i++) {
        pipe_submit(p, &requests[i], &in_process[i]);
        must(pipe_run(p, &in_process[i], 1, &why), "in process", &why);
    }
    must(pipe_close(p, &why), "in process", &why);
    for (int i = 0; i < LOAD; i++)
        n_different += !load_same("MPI", i, &in_process[i], &over_mpi[i]);
    return n_different;
}

int main(void)
{
    struct transport *t;
    struct why why = {""};
    char path[1024];
    const char *source = getenv("CORDEE_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/tiny/tiny-llama-bpe.gguf", source ? source : ".");
    if (access(path, R_OK))
        return SKIPPED;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    must(transport_mpi_open(&t, &why), "MPI", &why);
    int rank = transport_rank(t), n_stages = transport_size(t) - 1;
    load_open(&model, path, PREC_FAST, KV_F16);
    load_requests(&model, requests);
    struct engine_options eo = load_limits(&model);
    size_t max_bytes = engine_max_message(eo.max_rows, eo.max_slots, eo.max_context, eo.n_pages, eo.n_embd, 0,
                                          WIRE_F32);
    int from[2] = {rank ? rank - 1 : n_stages, n_stages}, n_from = rank == 1 && n_stages > 1 ? 2 : 1;
    eo.n_stages = n_stages;
    must(transport_start(t, from, n_from, max_bytes, engine_send_bufs(&eo), &why), "transport", &why);

    int n_different = 0;
    if (rank == 0) {
        run_engine(t, &eo, n_stages);
        n_different = compare(&eo);
    } else {
        run_worker(t, &eo, n_stages);
    }
    must(transport_mpi_drain(t, END_MS, &why), "end", &why);
    transport_farewell(END_MS);
    if (rank == 0)
        printf("%d stages over MPI: %d of %d requests differ\n", n_stages, n_different, LOAD);
    fflush(NULL);
    _exit(n_different ? 1 : 0); /* no MPI_Finalize: it may hang */
}
