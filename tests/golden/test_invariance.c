/* test_invariance.c - a token's bits depend only on the model, its context, the
 * kernel set and its role (design: numeric contract).
 *
 * One sequence is run in a reference way (one stage, one thread, prompt in one
 * chunk, alone, token by token), keeping log-probabilities and the last stage's
 * hidden rows; then in every other way, and compared with memcmp.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "driver.h"

enum { PROMPT = 83, GENERATED = 24, OTHERS = 7, MAX_EMBD = 4096 };

struct trace {
    float prompt[PROMPT]; /* log-probabilities */
    int32_t token[GENERATED];
    float logprob[GENERATED];
    float hidden[MAX_EMBD]; /* of the last generated row */
};

static void make_prompt(const struct chain *c, int seed, int32_t *ids, int n)
{
    uint32_t x = (uint32_t)seed * 2654435761u + 1;
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        ids[i] = (int32_t)((x >> 8) % (uint32_t)c->hp->n_vocab);
    }
}

static void last_hidden(const struct chain *c, int row, struct trace *t)
{
    memset(t->hidden, 0, sizeof t->hidden);
    assert_true(c->hp->n_embd <= MAX_EMBD);
    stage_hidden(c->stages[c->o.stages - 1], row, t->hidden);
}

static void run_alone(struct chain *c, int chunk, struct trace *t)
{
    int32_t ids[PROMPT];
    memset(t, 0, sizeof *t);
    make_prompt(c, 1, ids, PROMPT);
    chain_slot(c, 0, NULL);
    t->token[0] = chain_prompt(c, 0, ids, PROMPT, chunk, t->prompt, &t->logprob[0]);
    for (int i = 1; i < GENERATED; i++)
        t->token[i] = chain_next(c, 0, t->token[i - 1], PROMPT + i - 1, &t->logprob[i]);
    last_hidden(c, 0, t);
}

/* The same sequence as number 3 of eight: the others' prompts and generated rows
 * share its micro-batches, prompt chunks of uneven size beside decoding rows. */
static void run_in_company(struct chain *c, struct trace *t)
{
    int32_t ids[OTHERS + 1][PROMPT], token[OTHERS + 1];
    int done[OTHERS + 1] = {0}, made[OTHERS + 1] = {0}, me = 3, row_of_me = 0;
    memset(t, 0, sizeof *t);
    for (int s = 0; s <= OTHERS; s++) {
        make_prompt(c, s == me ? 1 : 50 + s, ids[s], PROMPT);
        chain_slot(c, s, NULL);
    }
    for (int round = 0; made[me] < GENERATED; round++) {
        for (int s = 0; s <= OTHERS; s++) { /* generated rows first */
            if (done[s] < PROMPT || made[s] >= GENERATED)
                continue;
            int row = chain_row(c, s, token[s], PROMPT + made[s] - 1, ROW_GENERATED | ROW_SAMPLE, -1);
            row_of_me = s == me ? row : row_of_me;
        }
        for (int s = 0; s <= OTHERS; s++)
            for (int n = 0; n < 3 + (s * 5 + round) % 6 && done[s] < PROMPT; n++, done[s]++) {
                bool final = done[s] == PROMPT - 1;
                chain_row(c, s, ids[s][done[s]], done[s], final ? ROW_SAMPLE : ROW_SCORE,
                          final ? -1 : ids[s][done[s] + 1]);
            }
        chain_run(c);
        for (int i = 0; i < c->n_results; i++) {
            const struct row_result *r = &c->results[i];
            if (r->flags & ROW_SAMPLE) {
                token[r->slot] = r->token;
                if ((int)r->slot == me) {
                    t->token[made[me]] = r->token;
                    t->logprob[made[me]] = r->logprob;
                }
                made[r->slot]++;
            } else if ((int)r->slot == me) {
                t->prompt[r->pos + 1] = r->logprob;
            }
        }
    }
    last_hidden(c, row_of_me, t);
}

/* What recovery does: the prompt as prompt rows, then all generated rows at once,
 * from tokens that are known already. */
static void run_replay(struct chain *c, const struct trace *known, struct trace *t)
{
    int32_t ids[PROMPT];
    *t = *known;
    make_prompt(c, 1, ids, PROMPT);
    chain_slot(c, 0, NULL);
    t->token[0] = chain_prompt(c, 0, ids, PROMPT, 0, t->prompt, &t->logprob[0]);
    for (int i = 1; i < GENERATED; i++)
        chain_row(c, 0, known->token[i - 1], PROMPT + i - 1, ROW_GENERATED | ROW_SAMPLE, -1);
    chain_run(c);
    for (int i = 0; i < c->n_results; i++) {
        t->token[i + 1] = c->results[i].token;
        t->logprob[i + 1] = c->results[i].logprob;
    }
    last_hidden(c, GENERATED - 2, t);
}

static void same(const struct trace *a, const struct trace *b, const char *what)
{
    if (memcmp(a, b, sizeof *a) == 0)
        return;
    int p = 0, g = 0, h = 0;
    while (p < PROMPT && memcmp(&a->prompt[p], &b->prompt[p], 4) == 0)
        p++;
    while (g < GENERATED && memcmp(&a->logprob[g], &b->logprob[g], 4) == 0)
        g++;
    while (h < MAX_EMBD && memcmp(&a->hidden[h], &b->hidden[h], 4) == 0)
        h++;
    fail_msg("%s: first difference at prompt %d of %d, generated %d of %d, hidden %d", what, p, PROMPT, g,
             GENERATED, h);
}

/* thorough: every number of stages and threads; else a few of them. isa: AMX is emulated where it is missing. */
static void check_model(const char *path, enum precision precision, enum kv_type kv, unsigned isa,
                        bool thorough)
{
    struct trace want, got;
    for (int stages = 1; stages <= 4; stages++)
        for (int threads = 1; threads <= 3; threads++) {
            struct chain_options o = {.stages = stages,
                                      .threads = threads,
                                      .max_rows = 128,
                                      .isa = isa & cpu_isa(),
                                      .precision = precision,
                                      .kv_type = kv,
                                      .emulate_tiles = (isa & ~cpu_isa() & ISA_AMX) != 0};
            struct path what = path_of("%s, %s, kv %s, %s, %d stages, %d threads", path,
                                       precision == PREC_EXACT ? "exact" : "fast", kv_type_name(kv),
                                       cpu_isa_name(isa), stages, threads);
            struct chain c;
            if (!thorough && stages * threads != 1 && (stages != 3 || threads != 2))
                continue;
            chain_open(&c, path, &o);
            run_alone(&c, 0, &got);
            if (stages == 1 && threads == 1)
                want = got;
            same(&want, &got, what.text);
            run_in_company(&c, &got);
            same(&want, &got, path_of("%s, in company", what.text).text);
            if (threads != 2 || !thorough) {
                static const int chunks[] = {1, 7, 32, 50};
                for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
                    run_alone(&c, chunks[i], &got);
                    same(&want, &got, path_of("%s, chunks of %d", what.text, chunks[i]).text);
                }
                run_replay(&c, &want, &got);
                same(&want, &got, path_of("%s, replayed", what.text).text);
            }
            chain_close(&c);
        }
}

static const struct {
    enum precision precision;
    enum kv_type kv;
} modes[] = {{PREC_EXACT, KV_F32}, {PREC_FAST, KV_F16},  {PREC_EXACT, KV_F16},
             {PREC_FAST, KV_F32},  {PREC_FAST, KV_BF16}, {PREC_FAST, KV_Q8_0}};

/* A family each of: rope scaling, windows and two bases, experts, latent attention,
 * parallel blocks, ALiBi; formats of 32 and of 256. Those not supported are passed over. */
static const char *const models[] = {
    "llama31-gqa.bf16", "gemma3.f16",          "mixtral.MXFP4_MOE", "llama-kq.Q4_K_M",     "llama2-mha.Q4_0",
    "deepseek_v2.f16",  "falcon-7b-style.f16", "mpt.f16",           "gpt_oss-mxfp4.mxfp4", "phi3.f16",
};

/* tiles: with AMX too, emulated where it is missing. */
static void check_modes(const struct path *of, bool thorough, bool tiles)
{
    const char *path = of->text;
    struct source *src = NULL;
    struct why why;
    if (source_open(path, &src, &why) != ERR_OK)
        return;
    const struct hparams *hp = source_hparams(src);
    bool blocks = hp->head_dim_k % 32 == 0 && hp->head_dim_v % 32 == 0; /* as q8_0 needs */
    source_close(src);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (blocks || modes[i].kv != KV_Q8_0)
            check_model(path, modes[i].precision, modes[i].kv, cpu_isa(), thorough);
    check_model(path, PREC_FAST, KV_F16, cpu_isa() & ISA_AVX2, false);
    check_model(path, PREC_FAST, KV_F16, ISA_REF, false);
#ifdef __OPTIMIZE__ /* else tiles in plain C take minutes */
    if (tiles && cpu_isa() & ISA_BF16)
        check_model(path, PREC_FAST, KV_F16, cpu_isa() | ISA_AMX, false);
#endif
    print_message("  %s\n", path);
}

static void bits_do_not_depend_on_company_tiny(void **state)
{
    (void)state;
    if (!getenv("CORDEE_SOURCE"))
        skip();
    struct path llama = path_of("%s/tests/golden/tiny/tiny-llama-spm.gguf", getenv("CORDEE_SOURCE"));
    struct path gemma = path_of("%s/tests/golden/tiny/tiny-gemma3-spm.gguf", getenv("CORDEE_SOURCE"));
    check_modes(&llama, true, true);
    check_modes(&gemma, true, true);
}

static void bits_do_not_depend_on_company(void **state)
{
    const char *only = getenv("CORDEE_GOLDEN_ONLY");
    (void)state;
    if (!golden_dir())
        skip();
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        if (!only || strstr(models[m], only)) {
            struct path path = path_of("%s/golden/gguf/%s.gguf", golden_dir(), models[m]);
            check_modes(&path, false, m < 4); /* experts and a K-quant are among the first */
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bits_do_not_depend_on_company_tiny),
                                       cmocka_unit_test(bits_do_not_depend_on_company)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
