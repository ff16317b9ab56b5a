/* pipe_fake.c - engine and workers around a stage of hashes: the right tokens,
 * whatever the number of stages, the company, cancellations, preemption, resume,
 * sharing and faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/fake_stage.h"
#include "tests/cluster/pipe.h"

enum { CONTEXT = 512, MANY = 64 };

static struct stage *stages[PIPE_MAX_STAGES];
static struct taken taken[MANY];
static int32_t prompts[MANY][CONTEXT];
static struct gen_request requests[MANY];

static uint32_t random_state;
static int rnd(int n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (int)(random_state >> 8) % n;
}

static struct pipe_options options(int n_stages)
{
    return (struct pipe_options){
        .n_stages = n_stages, .fault_rank = -1,
        .engine = {.max_rows = 96, .max_slots = 16, .max_context = CONTEXT, .n_pages = 400, .max_queue = MANY,
                   .n_vocab = FAKE_VOCAB, .n_embd = FAKE_EMBD, .timeout_ms = 20000},
    };
}

static struct pipe *open_fake(struct pipe_options *o, unsigned jitter_us)
{
    const struct engine_options *eo = &o->engine;
    struct stage_limits lim = {eo->max_rows, eo->max_slots, eo->max_context, eo->n_pages, 0};
    for (int i = 0; i < o->n_stages; i++) {
        struct stage_range range = {FAKE_LAYERS * i / o->n_stages, FAKE_LAYERS * (i + 1) / o->n_stages, i == 0,
                                    i == o->n_stages - 1};
        o->stages[i] = stages[i] = fake_stage_open(range, &lim, jitter_us);
    }
    return pipe_open(o);
}

/* Closes everything; returns the prompt rows that were computed. */
static long close_fake(struct pipe *p, int n_stages, err want)
{
    struct why why = {""};
    err e = pipe_close(p, &why);
    if (e != want)
        fprintf(stderr, "worker: %s: %s\n", err_name(e), why.text);
    assert_int_equal(e, want);
    long rows = fake_prompt_rows(stages[0]);
    for (int i = 0; i < n_stages; i++)
        fake_stage_close(stages[i]);
    return rows;
}

/* A request with n random prompt tokens behind `shared` tokens that are everyone's. */
static struct gen_request *make_request(int i, int shared, int n, int max_tokens)
{
    for (int k = 0; k < shared; k++)
        prompts[i][k] = (k * 37 + 11) % FAKE_VOCAB;
    for (int k = shared; k < shared + n; k++)
        prompts[i][k] = rnd(FAKE_VOCAB);
    requests[i] = (struct gen_request){
        .ids = prompts[i], .n_ids = shared + n, .max_tokens = max_tokens,
        .sampling = {.top_p = 1, .repetition_penalty = 1, .seed = (uint64_t)i * 3 + 1},
    };
    return &requests[i];
}

/* Everything request i got is what the reference says; with a cancellation, as far as it got. */
static void check_taken(int i, bool whole)
{
    static int32_t tokens[CONTEXT + 1];
    static float logprobs[CONTEXT + 1];
    const struct gen_request *req = &requests[i];
    const struct taken *t = &taken[i];
    int n = fake_reference(req, CONTEXT, tokens, logprobs);
    int want = n - req->n_ids - req->n_resume;
    assert_true(t->over);
    if (whole)
        assert_int_equal(t->n_tokens, want);
    assert_true(t->n_tokens <= want);
    for (int k = 0; k < t->n_tokens; k++) {
        assert_int_equal(t->tokens[k], tokens[req->n_ids + req->n_resume + k]);
        assert_true(t->logprobs[k] == logprobs[req->n_ids + req->n_resume + k]);
    }
    if (!req->score_prompt)
        return;
    if (whole)
        assert_int_equal(t->n_scores, req->n_ids);
    for (int k = req->score_from; k < t->n_scores; k++) {
        assert_int_equal(t->score_tokens[k], req->ids[k]);
        assert_true(k == 0 ? isnan(t->scores[0]) : t->scores[k] == logprobs[k]);
    }
}

static void run_all(struct pipe *p, int n)
{
    struct why why = {""};
    for (int i = 0; i < n; i++)
        pipe_submit(p, &requests[i], &taken[i]);
    err e = pipe_run(p, taken, n, &why);
    if (e)
        fprintf(stderr, "engine: %s: %s\n", err_name(e), why.text);
    assert_int_equal(e, ERR_OK);
}

static void one_request_on_any_number_of_stages(void **state)
{
    (void)state;
    for (int n = 1; n <= 6; n++) {
        struct pipe_options o = options(n);
        struct pipe *p = open_fake(&o, 0);
        for (int length = 1; length <= 200; length += 33) {
            make_request(0, 0, length, 40);
            run_all(p, 1);
            check_taken(0, true);
            assert_int_equal(taken[0].last.finish, FINISH_LENGTH);
        }
        close_fake(p, n, ERR_OK);
    }
}

static void many_requests_together(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n++) {
        struct pipe_options o = options(n);
        struct pipe *p = open_fake(&o, 300);
        for (int i = 0; i < MANY; i++)
            make_request(i, 0, 1 + rnd(300), rnd(60));
        run_all(p, MANY);
        for (int i = 0; i < MANY; i++)
            check_taken(i, true);
        close_fake(p, n, ERR_OK);
    }
}

/* An end token is known to rank 0 only after the next row was sent: that row dies. */
static void end_tokens_stop_and_dead_rows_do_no_harm(void **state)
{
    static const int32_t ends[8] = {3, 50, 51, 52, 100, 130, 150, 200};
    (void)state;
    for (int n = 1; n <= 4; n++) {
        struct pipe_options o = options(n);
        struct pipe *p = open_fake(&o, 100);
        for (int i = 0; i < MANY; i++) {
            make_request(i, 0, 1 + rnd(40), 60);
            requests[i].sampling.end = ends;
            requests[i].sampling.n_end = 8;
        }
        run_all(p, MANY);
        int stopped = 0;
        for (int i = 0; i < MANY; i++) {
            check_taken(i, true);
            stopped += taken[i].last.finish == FINISH_STOP;
        }
        assert_true(stopped > MANY / 2);
        close_fake(p, n, ERR_OK);
    }
}

static void cancelled_in_flight(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n++) {
        struct pipe_options o = options(n);
        struct pipe *p = open_fake(&o, 100);
        for (int i = 0; i < MANY; i++) {
            make_request(i, 64, 1 + rnd(100), 50);
            taken[i].cancel_with = i % 2 ? engine_backend(pipe_engine(p)) : NULL;
            taken[i].cancel_after = 1 + rnd(30);
        }
        run_all(p, MANY);
        for (int i = 0; i < MANY; i++) {
            check_taken(i, i % 2 == 0);
            if (i % 2) {
                assert_int_equal(taken[i].last.finish, FINISH_CANCELLED);
                assert_int_equal(taken[i].n_tokens, taken[i].cancel_after);
            }
            taken[i].cancel_with = NULL;
        }
        struct engine_stats st;
        engine_stats(pipe_engine(p), &st);
        assert_int_equal(st.pages_used, 0);
        close_fake(p, n, ERR_OK);
    }
}

/* Cancelled from outside at every moment, also while others wait for its pages. */
static void cancelled_at_any_turn(void **state)
{
    (void)state;
    struct pipe_options o = options(2);
    struct pipe *p = open_fake(&o, 50);
    struct why why = {""};
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < 6; i++)
            pipe_submit(p, make_request(i, 192, 1 + rnd(40), 10), &taken[i]);
        for (int turn = 0; turn < round; turn++) {
            bool busy = false;
            assert_int_equal(engine_turn(pipe_engine(p), &busy, &why), ERR_OK);
        }
        backend_cancel(engine_backend(pipe_engine(p)), taken[round % 3].handle);
        assert_int_equal(pipe_run(p, taken, 6, &why), ERR_OK);
        for (int i = 0; i < 6; i++)
            check_taken(i, i != round % 3);
    }
    close_fake(p, 2, ERR_OK);
}

static void preempted_requests_go_on_with_the_same_tokens(void **state)
{
    (void)state;
    for (int n = 1; n <= 6; n++) {
        int n_stages = (n + 1) / 2, shared = n % 2 * 64;
        struct pipe_options o = options(n_stages);
        o.engine.n_pages = 24; /* 768 positions for 16 slots */
        struct pipe *p = open_fake(&o, 50);
        for (int i = 0; i < 24; i++) {
            make_request(i, i % 4 ? shared : 0, 1 + rnd(60), 150);
            requests[i].score_prompt = i % 3 == 0;
            requests[i].score_from = requests[i].score_prompt ? rnd(requests[i].n_ids) : 0;
            requests[i].priority = i % 2;
        }
        run_all(p, 24);
        for (int i = 0; i < 24; i++)
            check_taken(i, true);
        struct engine_stats st;
        engine_stats(pipe_engine(p), &st);
        assert_true(st.preempted > 0);
        assert_int_equal(st.pages_used, 0);
        close_fake(p, n_stages, ERR_OK);
    }
}

static void resumed_at_every_cut(void **state)
{
    static int32_t tokens[CONTEXT];
    static float logprobs[CONTEXT];
    (void)state;
    for (int n = 1; n <= 3; n++) {
        struct pipe_options o = options(n);
        struct pipe *p = open_fake(&o, 0);
        for (int cut = 0; cut <= 40; cut++) {
            make_request(cut, 0, 33, 40);
            fake_reference(&requests[cut], CONTEXT, tokens, logprobs);
            memcpy(prompts[cut] + 100, tokens + 33, sizeof(int32_t) * (size_t)cut);
            requests[cut].resume = prompts[cut] + 100;
            requests[cut].n_resume = cut;
        }
        run_all(p, 41);
        for (int cut = 0; cut <= 40; cut++)
            check_taken(cut, true);
        close_fake(p, n, ERR_OK);
    }
}

static void prompts_are_scored(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n++) {
        struct pipe_options o = options(n);
        struct pipe *p = open_fake(&o, 50);
        for (int i = 0; i < MANY; i++) {
            make_request(i, 0, 1 + rnd(i < 8 ? 3 : 250), i % 3 == 0 ? 5 : 0);
            requests[i].score_prompt = true;
            requests[i].score_from = i % 2 ? rnd(requests[i].n_ids) : 0;
            requests[i].n_top = i % 4;
        }
        run_all(p, MANY);
        for (int i = 0; i < MANY; i++)
            check_taken(i, true);
        close_fake(p, n, ERR_OK);
    }
}

/* The long prefix is computed once although all arrive together; scores too. */
static void shared_prefixes_are_computed_once(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n++)
        for (int score = 0; score <= 1; score++) {
            struct pipe_options o = options(n);
            struct pipe *p = open_fake(&o, 50);
            long tails = 0;
            for (int i = 0; i < 32; i++) {
                make_request(i, 256, i % 8 ? rnd(40) : 0, score && i % 2 ? 0 : 4);
                requests[i].score_prompt = score;
                requests[i].logprobs = true;
                requests[i].n_top = score ? 2 : 0;
                tails += requests[i].n_ids - 256;
            }
            run_all(p, 32);
            for (int i = 0; i < 32; i++)
                check_taken(i, true);
            struct engine_stats st;
            engine_stats(pipe_engine(p), &st);
            assert_true(st.cached_tokens >= 31 * 255);
            assert_int_equal(st.pages_used, 0);
            long rows = close_fake(p, n, ERR_OK);
            assert_true(rows <= 256 + tails + 32); /* a row each for the first own score or token */
        }
}

/* Choices of questions: nobody needs scores of what they share, which is not computed twice
 * for want of them, not even where a page ends within what two choices have in common. */
static void choices_share_what_they_do_not_score(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n++) {
        struct pipe_options o = options(n);
        struct pipe *p = open_fake(&o, 50);
        for (int i = 0; i < 32; i++) {
            make_request(i, 64 + 32, 2 + i % 7, 0);
            requests[i].score_prompt = true;
            requests[i].score_from = 90; /* within the third page, which all have */
            requests[i].n_top = 1;
        }
        run_all(p, 32);
        struct engine_stats st;
        engine_stats(pipe_engine(p), &st);
        for (int i = 0; i < 32; i++)
            check_taken(i, true);
        assert_int_equal(st.prefix_pages, 3);
        assert_int_equal(st.prefix_again, 0);
        close_fake(p, n, ERR_OK);
    }
}

/* Rows without numbers, generated, scored and shared, end their own sequence only. */
static void what_has_no_numbers_fails_alone(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n++)
        for (int score = 0; score <= 1; score++) {
            struct pipe_options o = options(n);
            struct pipe *p = open_fake(&o, 50);
            for (int i = 0; i < MANY; i++) {
                make_request(i, score ? 64 : 0, 10 + rnd(20), 40);
                requests[i].score_prompt = score;
                if (i % 4 == 1 && !score) /* the shared rows of a scored prompt are computed by anybody */
                    requests[i].sampling.seed = FAKE_POISON_SEED;
            }
            if (score)
                requests[0].sampling.seed = FAKE_POISON_SEED;
            run_all(p, MANY);
            for (int i = 0; i < MANY; i++) {
                bool poisoned = requests[i].sampling.seed == FAKE_POISON_SEED;
                assert_true(taken[i].over);
                if (poisoned)
                    assert_int_equal(taken[i].last.kind, GEN_FAILED);
                if (taken[i].last.kind == GEN_FAILED)
                    assert_int_equal(taken[i].last.code, ERR_UNSUPPORTED);
                assert_true(poisoned || score || taken[i].last.kind == GEN_FINISHED);
                check_taken(i, taken[i].last.kind == GEN_FINISHED);
            }
            for (int i = 0; i < 4; i++) /* and the pipeline is as good as new */
                make_request(i, 0, 50, 20);
            run_all(p, 4);
            for (int i = 0; i < 4; i++)
                check_taken(i, true);
            struct engine_stats st;
            engine_stats(pipe_engine(p), &st);
            assert_int_equal(st.pages_used, 0);
            close_fake(p, n, ERR_OK);
        }
}

static void scores_are_not_taken_from_pages_without(void **state)
{
    (void)state;
    struct pipe_options o = options(2);
    struct pipe *p = open_fake(&o, 0);
    for (int i = 0; i < 6; i++) {
        make_request(i, 128, 5, 3);
        requests[i].score_prompt = i % 2;
        requests[i].n_top = i;
        run_all(p, 0); /* one after the other */
        pipe_submit(p, &requests[i], &taken[i]);
        struct why why = {""};
        assert_int_equal(pipe_run(p, &taken[i], 1, &why), ERR_OK);
        check_taken(i, true);
    }
    close_fake(p, 2, ERR_OK);
}

static void no_sharing_computes_everything(void **state)
{
    (void)state;
    struct pipe_options o = options(2);
    o.engine.no_sharing = true;
    struct pipe *p = open_fake(&o, 0);
    long rows = 0;
    for (int i = 0; i < 8; i++)
        rows += make_request(i, 64, 10, 3)->n_ids;
    run_all(p, 8);
    for (int i = 0; i < 8; i++)
        check_taken(i, true);
    assert_int_equal(close_fake(p, 2, ERR_OK), rows);
}

static void refusals(void **state)
{
    (void)state;
    struct pipe_options o = options(1);
    o.engine.max_queue = 2;
    o.engine.n_pages = 8; /* 256 positions, less than the context */
    struct pipe *p = open_fake(&o, 0);
    struct backend *b = engine_backend(pipe_engine(p));
    struct why why;
    uint64_t handle;
    assert_int_equal(b->facts.max_context, 256);
    struct gen_request *req = make_request(0, 0, 256, 1);
    assert_int_equal(backend_submit(b, req, take_event, &taken[0], &handle, &why), ERR_LIMIT);
    assert_non_null(strstr(why.text, "256"));
    req->n_ids = 0;
    assert_int_equal(backend_submit(b, req, take_event, &taken[0], &handle, &why), ERR_INVAL);
    req->n_ids = 4;
    prompts[0][2] = FAKE_VOCAB;
    assert_int_equal(backend_submit(b, req, take_event, &taken[0], &handle, &why), ERR_INVAL);
    req = make_request(0, 0, 4, 1);
    req->sampling.temperature = NAN;
    assert_int_equal(backend_submit(b, req, take_event, &taken[0], &handle, &why), ERR_INVAL);

    pipe_submit(p, make_request(0, 0, 255, 100), &taken[0]); /* the context ends it */
    pipe_submit(p, make_request(1, 0, 3, 0), &taken[1]);     /* nothing to do */
    assert_int_equal(backend_submit(b, req, take_event, &taken[2], &handle, &why), ERR_FULL);
    assert_int_equal(pipe_run(p, taken, 2, &why), ERR_OK);
    assert_int_equal(taken[0].n_tokens, 1);
    assert_int_equal(taken[1].n_tokens, 0);
    assert_int_equal(taken[1].last.finish, FINISH_LENGTH);
    close_fake(p, 1, ERR_OK);
}

/* Whatever is broken on the way: an error, and never a wrong token. */
static void faults_end_the_epoch(void **state)
{
    static const enum fault_kind kinds[] = {FAULT_DROP, FAULT_CORRUPT, FAULT_DUPLICATE, FAULT_CUT};
    (void)state;
    for (int rank = 0; rank <= 3; rank++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            struct pipe_options o = options(3);
            o.engine.timeout_ms = 300;
            o.fault_rank = rank;
            o.fault = (struct fault_rule){.kind = kinds[k], .to = -1, .every = 9};
            struct pipe *p = open_fake(&o, 0);
            struct why why = {""};
            for (int i = 0; i < 8; i++)
                pipe_submit(p, make_request(i, 0, 1 + rnd(50), 60), &taken[i]);
            err e = pipe_run(p, taken, 8, &why);
            assert_true(e == ERR_PEER || e == ERR_TIMEOUT);
            assert_true(why.text[0]);
            pipe_close(p, &why);
            for (int i = 0; i < 3; i++)
                fake_stage_close(stages[i]);
            for (int i = 0; i < 8; i++) {
                assert_int_equal(taken[i].last.kind, GEN_FAILED);
                assert_int_equal(taken[i].last.code, ERR_CANCELLED);
                check_taken(i, false);
            }
        }
}

static void delays_change_nothing(void **state)
{
    (void)state;
    for (int rank = 0; rank <= 2; rank++) {
        struct pipe_options o = options(2);
        o.fault_rank = rank;
        o.fault = (struct fault_rule){.kind = FAULT_DELAY, .to = -1, .every = 3, .delay_ms = 2};
        struct pipe *p = open_fake(&o, 0);
        for (int i = 0; i < 8; i++)
            make_request(i, 32, 1 + rnd(100), 30);
        run_all(p, 8);
        for (int i = 0; i < 8; i++)
            check_taken(i, true);
        close_fake(p, 2, ERR_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request_on_any_number_of_stages),
        cmocka_unit_test(many_requests_together),
        cmocka_unit_test(end_tokens_stop_and_dead_rows_do_no_harm),
        cmocka_unit_test(cancelled_in_flight),
        cmocka_unit_test(cancelled_at_any_turn),
        cmocka_unit_test(preempted_requests_go_on_with_the_same_tokens),
        cmocka_unit_test(resumed_at_every_cut),
        cmocka_unit_test(prompts_are_scored),
        cmocka_unit_test(shared_prefixes_are_computed_once),
        cmocka_unit_test(choices_share_what_they_do_not_score),
        cmocka_unit_test(what_has_no_numbers_fails_alone),
        cmocka_unit_test(scores_are_not_taken_from_pages_without),
        cmocka_unit_test(no_sharing_computes_everything),
        cmocka_unit_test(refusals),
        cmocka_unit_test(faults_end_the_epoch),
        cmocka_unit_test(delays_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
