/* peer_llama.c - llama.cpp as an engine of `run bench peers`, through its C library.
 *
 * Default parameters, as its own benchmark has them: repacked weights, flash
 * attention as it chooses, OpenMP. One thread count for prompts and generated
 * tokens. Nothing is drawn from the logits, while Cordée's side draws a token: the
 * difference is in llama.cpp's favour. Not part of the build: bench/peers.sh
 * compiles it beside the library.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peer.h"
#include "llama.h"

struct engine {
    struct llama_model *model;
    struct llama_context *context;
    struct llama_batch batch;
    int n_vocab;
};

static void add(struct llama_batch *b, int token, int pos, int stream, bool logits)
{
    int i = b->n_tokens++;
    b->token[i] = token;
    b->pos[i] = pos;
    b->n_seq_id[i] = 1;
    b->seq_id[i][0] = stream;
    b->logits[i] = logits;
}

static bool run(struct engine *g)
{
    int status = llama_decode(g->context, g->batch);
    llama_synchronize(g->context);
    if (status != 0)
        fprintf(stderr, "peer_llama: llama_decode: %d\n", status);
    return status == 0;
}

static void forget(struct engine *g)
{
    llama_memory_clear(llama_get_memory(g->context), false);
}

static bool prompt(void *engine, int n)
{
    struct engine *g = engine;
    forget(g);
    g->batch.n_tokens = 0;
    for (int i = 0; i < n; i++)
        add(&g->batch, i * 37 % g->n_vocab, i, 0, i + 1 == n);
    return run(g);
}

static bool decode(void *engine, int streams, int steps)
{
    struct engine *g = engine;
    bool fine = true;
    forget(g);
    for (int i = 0; fine && i < steps; i++) {
        g->batch.n_tokens = 0;
        for (int s = 0; s < streams; s++)
            add(&g->batch, (i * 37 + s * 11) % g->n_vocab, i, s, true);
        fine = run(g);
    }
    return fine;
}

/* log softmax of one entry */
static float logprob_of(const float *logits, int n, int id)
{
    double most = (double)logits[0], sum = 0;
    for (int i = 1; i < n; i++)
        most = (double)logits[i] > most ? (double)logits[i] : most;
    for (int i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    return (float)((double)logits[id] - most - log(sum));
}

static bool score(void *engine, const int *ids, int n, float *logprob)
{
    struct engine *g = engine;
    forget(g);
    g->batch.n_tokens = 0;
    for (int i = 0; i < n; i++)
        add(&g->batch, ids[i], i, 0, true);
    if (!run(g))
        return false;
    for (int i = 1; i < n; i++)
        logprob[i] = logprob_of(llama_get_logits_ith(g->context, i - 1), g->n_vocab, ids[i]);
    return true;
}

static void quietly(enum ggml_log_level level, const char *text, void *nothing)
{
    (void)nothing;
    if (level == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

static bool open_engine(struct engine *g, const struct peer_options *o)
{
    struct llama_model_params model = llama_model_default_params();
    struct llama_context_params context = llama_context_default_params();

    llama_log_set(quietly, NULL);
    llama_backend_init();
    g->model = llama_model_load_from_file(o->model, model);
    if (!g->model)
        return false;
    context.n_ctx = (uint32_t)(o->context * o->streams);
    context.n_batch = context.n_ubatch = 512;
    context.n_seq_max = (uint32_t)o->streams;
    context.n_threads = context.n_threads_batch = o->threads;
    g->context = llama_init_from_model(g->model, context);
    if (!g->context)
        return false;
    g->n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(g->model));
    g->batch = llama_batch_init(512, 0, 1);
    return decode(g, 1, 1);
}

int main(int argc, char **argv)
{
    struct engine g = {0};
    static const struct peer_ops ops = {prompt, decode, score, NULL};
    struct peer_options o = peer_parse(argc, argv);
    char about[1024];

    if (!open_engine(&g, &o)) {
        fprintf(stderr, "peer_llama: cannot load %s\n", o.model);
        return 1;
    }
    snprintf(about, sizeof about, "{\"engine\": \"llama.cpp\", \"kernels\": \"%s\"}", llama_print_system_info());
    int status = peer_serve(&ops, &g, about);
    llama_batch_free(g.batch);
    llama_free(g.context);
    llama_model_free(g.model);
    return status;
}
