/* pipe_real.c - real models through whole pipelines in one process: the same bits
 * for 1 to 4 stages, alone and in company, with other chunks, shared prefixes,
 * preemption, cancelled neighbours, and resumed at every cut.
 *
 * The yardstick is each request alone on one stage without sharing. Models: the
 * tiny ones in the tree; of those in CORDEE_CONFORMANCE one of each kind of block.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/cluster/load.h"

static struct load_model model;
static struct gen_request requests[LOAD];
static struct taken want[LOAD], got[LOAD];

static struct pipe *open_pipe(int n_stages, const struct engine_options *eo)
{
    struct pipe_options o = {.n_stages = n_stages, .engine = *eo, .fault_rank = -1};
    for (int i = 0; i < n_stages; i++)
        o.stages[i] = load_stage(&model, eo, i, n_stages);
    return pipe_open(&o);
}

static void close_pipe(struct pipe *p)
{
    struct why why = {""};
    err e = pipe_close(p, &why);
    if (e)
        fprintf(stderr, "worker: %s: %s\n", err_name(e), why.text);
    assert_int_equal(e, ERR_OK);
    load_drop_stages(&model);
}

static void run(struct pipe *p, struct taken *t, int n)
{
    struct why why = {""};
    err e = pipe_run(p, t, n, &why);
    if (e)
        fprintf(stderr, "engine: %s: %s\n", err_name(e), why.text);
    assert_int_equal(e, ERR_OK);
}

/* All requests at once must give what each gave alone. */
static void together(const char *what, int n_stages, const struct engine_options *eo)
{
    struct pipe *p = open_pipe(n_stages, eo);
    for (int i = 0; i < LOAD; i++)
        pipe_submit(p, &requests[i], &got[i]);
    run(p, got, LOAD);
    close_pipe(p);
    for (int i = 0; i < LOAD; i++)
        assert_true(load_same(what, i, &want[i], &got[i]));
}

static void cancelled_neighbours(void)
{
    struct engine_options eo = load_limits(&model);
    struct pipe *p = open_pipe(2, &eo);
    for (int i = 0; i < LOAD; i++) {
        got[i].cancel_with = i % 2 ? engine_backend(pipe_engine(p)) : NULL;
        got[i].cancel_after = i;
        pipe_submit(p, &requests[i], &got[i]);
    }
    run(p, got, LOAD);
    close_pipe(p);
    for (int i = 0; i < LOAD; i++) {
        got[i].cancel_with = NULL;
        if (i % 2 == 0)
            assert_true(load_same("cancelled neighbours", i, &want[i], &got[i]));
    }
}

/* Recovery: what was generated before a cut comes back as generated rows. */
static void resumed(int which)
{
    struct engine_options eo = load_limits(&model);
    struct pipe *p = open_pipe(2, &eo);
    for (int cut = 1; cut <= LOAD_TOKENS; cut++) {
        struct gen_request req = requests[which];
        req.resume = want[which].tokens;
        req.n_resume = cut;
        req.score_prompt = false;
        pipe_submit(p, &req, &got[0]);
        run(p, got, 1);
        assert_int_equal(got[0].n_tokens, LOAD_TOKENS - cut);
        for (int k = 0; k < got[0].n_tokens; k++) {
            assert_int_equal(got[0].tokens[k], want[which].tokens[cut + k]);
            assert_memory_equal(&got[0].logprobs[k], &want[which].logprobs[cut + k], sizeof(float));
        }
    }
    close_pipe(p);
}

static void same_bits(const char *path, enum precision precision, enum kv_type kv_type, bool thorough)
{
    load_open(&model, path, precision, kv_type);
    load_requests(&model, requests);
    struct engine_options eo = load_limits(&model);

    eo.no_sharing = true;
    struct pipe *p = open_pipe(1, &eo);
    for (int i = 0; i < LOAD; i++) {
        pipe_submit(p, &requests[i], &want[i]);
        run(p, &want[i], 1);
        assert_int_equal(want[i].n_tokens, requests[i].max_tokens);
    }
    close_pipe(p);

    eo = load_limits(&model);
    for (int n = 1; n <= 4; n++)
        together("stages", n, &eo);
    eo.max_rows = 20;
    together("small micro-batches", 2, &eo);
    if (thorough) {
        eo = load_limits(&model);
        eo.n_pages = (uint32_t)(model.context + 31) / 32 + 6;
        together("few pages", 2, &eo);
        cancelled_neighbours();
        resumed(1);
        resumed(6);
    }
    load_close(&model);
}

static void tiny_models(void **state)
{
    static const char *const names[] = {"tiny-llama-bpe", "tiny-gemma3-bpe"};
    (void)state;
    const char *source = getenv("CORDEE_SOURCE");
    if (!source)
        skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/tests/golden/tiny/%s.gguf", source, names[i]);
        if (access(path, R_OK))
            skip();
        same_bits(path, PREC_FAST, KV_F16, true);
        same_bits(path, PREC_EXACT, KV_F32, true);
    }
}

static void conformance_models(void **state)
{
    static const char *const names[] = {
        "llama-kq.Q4_K_M", "gemma3.f16", "mixtral.f16", "falcon-7b-style.f16", "qwen3.f16", "gpt_oss-mxfp4.mxfp4",
        "deepseek_v2.f16",
    };
    (void)state;
    const char *dir = getenv("CORDEE_CONFORMANCE");
    if (!dir)
        skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/golden/gguf/%s.gguf", dir, names[i]);
        if (access(path, R_OK))
            continue;
        same_bits(path, PREC_FAST, KV_F16, i == 0);
    }
}

static void default_model(void **state)
{
    (void)state;
    const char *path = getenv("CORDEE_MODEL");
    if (!path || access(path, R_OK))
        skip();
    same_bits(path, PREC_FAST, KV_F16, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_models),
        cmocka_unit_test(conformance_models),
        cmocka_unit_test(default_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
