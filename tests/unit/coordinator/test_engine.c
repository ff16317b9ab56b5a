/* test_engine.c - rank 0 against a last stage that the test plays: results that fit
 * are believed, everything else ends the epoch with ERR_PEER. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "coordinator/engine/engine.h"

enum { VOCAB = 100, CONTEXT = 256, EPOCH = 3 };

static struct transport *plane[2];
static struct engine *engine;
static struct why why;
static uint32_t sequence_in, sequence_out;
static uint64_t space[20000 / 8];
static int n_events;
static struct gen_event last;

static struct engine_options options(void)
{
    return (struct engine_options){
        .epoch = EPOCH, .n_stages = 1, .first_rank = 1, .last_rank = 1, .max_rows = 64, .max_slots = 4,
        .max_context = CONTEXT, .n_pages = 32, .max_queue = 8, .n_vocab = VOCAB, .n_embd = 8,
    };
}

static int fresh(void **state)
{
    (void)state;
    struct engine_options o = options();
    size_t max = engine_max_message(o.max_rows, o.max_slots, o.max_context, o.n_pages, o.n_embd, 0, WIRE_F32);
    int zero = 0, one = 1;
    sequence_in = sequence_out = 0;
    n_events = 0;
    return transport_loop_open(2, plane, &why) || transport_start(plane[0], &one, 1, max, 8, &why) ||
           transport_start(plane[1], &zero, 1, max, 8, &why) || engine_open(plane[0], &o, &engine, &why);
}

static int done(void **state)
{
    (void)state;
    engine_close(engine);
    transport_close(plane[0]);
    transport_close(plane[1]);
    return 0;
}

static void on_event(void *ctx, const struct gen_event *ev)
{
    (void)ctx;
    n_events++;
    last = *ev;
}

static const int32_t ids[] = {10, 11, 12, 13};
static const int32_t ends[] = {42};

static void submit(bool score, int max_tokens)
{
    struct gen_request req = {
        .ids = ids, .n_ids = 4, .max_tokens = max_tokens, .score_prompt = score,
        .sampling = {.top_p = 1, .repetition_penalty = 1, .n_end = 1, .end = ends},
    };
    uint64_t handle;
    assert_int_equal(backend_submit(engine_backend(engine), &req, on_event, NULL, &handle, &why), ERR_OK);
}

static err turn(void)
{
    bool busy = false;
    return engine_turn(engine, &busy, &why);
}

/* The next micro-batch, checked as a worker does. */
static struct wire_batch receive(uint32_t *step)
{
    struct transport_event ev;
    const struct msg_head *head;
    struct wire_batch b;
    struct wire_limits lim = {64, 4, 4, 32, CONTEXT, VOCAB, ENGINE_PAGE_ROWS, false};
    static _Alignas(64) char copy[20000];
    assert_int_equal(transport_poll(plane[1], &ev, &why), ERR_OK);
    assert_true(ev.buf->len <= sizeof copy);
    memcpy(copy, ev.buf->data, ev.buf->len);
    assert_int_equal(wire_check(copy, ev.buf->len, EPOCH, sequence_in++, &head, &why), ERR_OK);
    assert_int_equal(head->kind, WIRE_ACTS);
    assert_int_equal(wire_get_batch(head + 1, head->desc_bytes, &lim, space, sizeof space, &b, &why), ERR_OK);
    *step = head->step;
    transport_release(plane[1], ev.buf);
    return b;
}

static void reply(uint32_t step, const struct wire_result *r, uint32_t n, uint32_t epoch)
{
    struct tbuf *buf = transport_buf(plane[1]);
    struct msg_head *head = buf->data;
    size_t at = sizeof *head;
    *head = (struct msg_head){.kind = WIRE_TOKENS, .step = step, .n_rows = n};
    for (uint32_t i = 0; i < n; i++)
        at += wire_put_result((char *)buf->data + at, &r[i]);
    buf->len = at;
    wire_seal(buf->data, at, epoch, sequence_out++);
    assert_int_equal(transport_send(plane[1], 0, buf, &why), ERR_OK);
}

static struct wire_result token(int32_t pos, int32_t id)
{
    return (struct wire_result){.pos = pos, .token = id, .argmax = id, .logprob = -1, .flags = WIRE_ROW_SAMPLE};
}

static void a_decode_step_is_sent_before_its_token_is_known(void **state)
{
    (void)state;
    uint32_t step;
    submit(false, 3);
    assert_int_equal(turn(), ERR_OK);
    struct wire_batch b = receive(&step);
    assert_int_equal(b.n_rows, 4);
    assert_int_equal(b.n_gen, 0);
    assert_int_equal(b.rows[3].flags, WIRE_ROW_SAMPLE);
    assert_non_null(b.seqs[0].sampler);
    b = receive(&step);
    assert_int_equal(b.n_rows, 1);
    assert_int_equal(b.rows[0].flags, WIRE_ROW_GENERATED | WIRE_ROW_RING | WIRE_ROW_SAMPLE);
    assert_int_equal(b.rows[0].pos, 4);
    assert_null(b.seqs[0].sampler);

    struct wire_result r = token(3, 7);
    reply(0, &r, 1, EPOCH);
    assert_int_equal(turn(), ERR_OK);
    assert_int_equal(n_events, 1);
    assert_int_equal(last.token, 7);
    assert_int_equal(last.pos, 4);
    b = receive(&step); /* the third token comes from the row at 5, and no row follows it */
    assert_int_equal(b.rows[0].pos, 5);
    r = token(4, 42);
    r.ended = 1;
    reply(1, &r, 1, EPOCH);
    assert_int_equal(turn(), ERR_OK);
    assert_int_equal(last.kind, GEN_FINISHED);
    assert_int_equal(last.finish, FINISH_STOP);
    assert_false(engine_idle(engine));
    r = token(5, -1);
    r.flags |= WIRE_ROW_DEAD;
    reply(2, &r, 1, EPOCH);
    assert_int_equal(turn(), ERR_OK);
    assert_true(engine_idle(engine));
    assert_int_equal(n_events, 3);
}

static void nothing_is_sent_when_nothing_is_asked(void **state)
{
    (void)state;
    struct transport_event ev;
    bool busy = false;
    assert_int_equal(engine_turn(engine, &busy, &why), ERR_OK);
    assert_false(busy);
    assert_int_equal(transport_poll(plane[1], &ev, &why), ERR_AGAIN);
}

/* Each row: what is wrong with the answer to a prompt's only micro-batch. */
static void wrong_results_are_refused(void **state)
{
    static const struct {
        const char *what;
        uint32_t step, n, epoch;
        struct wire_result r;
    } rows[] = {
        {"another step", 1, 1, EPOCH, {.pos = 3, .token = 7, .flags = WIRE_ROW_SAMPLE}},
        {"no result", 0, 0, EPOCH, {.pos = 3}},
        {"another epoch", 0, 1, EPOCH + 1, {.pos = 3, .token = 7, .flags = WIRE_ROW_SAMPLE}},
        {"another slot", 0, 1, EPOCH, {.slot = 1, .pos = 3, .token = 7, .flags = WIRE_ROW_SAMPLE}},
        {"a slot that is not", 0, 1, EPOCH, {.slot = 99, .pos = 3, .token = 7, .flags = WIRE_ROW_SAMPLE}},
        {"another position", 0, 1, EPOCH, {.pos = 2, .token = 7, .flags = WIRE_ROW_SAMPLE}},
        {"a score", 0, 1, EPOCH, {.pos = 3, .token = 7, .flags = WIRE_ROW_SCORE}},
        {"outside the vocabulary", 0, 1, EPOCH, {.pos = 3, .token = VOCAB, .flags = WIRE_ROW_SAMPLE}},
        {"dead for no reason", 0, 1, EPOCH, {.pos = 3, .token = -1, .flags = WIRE_ROW_SAMPLE | WIRE_ROW_DEAD}},
        {"an end that is none", 0, 1, EPOCH, {.pos = 3, .token = 7, .flags = WIRE_ROW_SAMPLE, .ended = 1}},
        {"an end not noticed", 0, 1, EPOCH, {.pos = 3, .token = 42, .flags = WIRE_ROW_SAMPLE}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(fresh(state), 0);
        uint32_t step;
        submit(false, 1);
        assert_int_equal(turn(), ERR_OK);
        receive(&step);
        reply(rows[i].step, &rows[i].r, rows[i].n, rows[i].epoch);
        if (turn() != ERR_PEER)
            fail_msg("%s was believed", rows[i].what);
        assert_int_equal(n_events, 0);
        done(state);
        assert_int_equal(last.kind, GEN_FAILED);
    }
}

static void a_score_of_another_token_is_refused(void **state)
{
    (void)state;
    uint32_t step;
    struct wire_result r[3];
    submit(true, 0);
    assert_int_equal(turn(), ERR_OK);
    assert_int_equal(receive(&step).n_rows, 4);
    for (int i = 0; i < 3; i++)
        r[i] = (struct wire_result){.pos = i, .token = ids[i + 1], .argmax = 1, .logprob = -1, .flags = WIRE_ROW_SCORE};
    r[2].token = 99;
    reply(step, r, 3, EPOCH);
    assert_int_equal(turn(), ERR_PEER);
    assert_int_equal(n_events, 3); /* two scores and the first token, which has none */
}

static void results_that_nobody_asked_for(void **state)
{
    (void)state;
    struct wire_result r = token(3, 7);
    reply(0, &r, 1, EPOCH);
    assert_int_equal(turn(), ERR_PEER);
}

static void a_damaged_message(void **state)
{
    (void)state;
    uint32_t step;
    submit(false, 1);
    assert_int_equal(turn(), ERR_OK);
    receive(&step);
    struct tbuf *buf = transport_buf(plane[1]);
    memset(buf->data, 0x5a, 200);
    buf->len = 200;
    assert_int_equal(transport_send(plane[1], 0, buf, &why), ERR_OK);
    assert_int_equal(turn(), ERR_PEER);
}

static int done_already(void **state)
{
    (void)state;
    return 0;
}

int main(void)
{
#define WITH_ENGINE(f) cmocka_unit_test_setup_teardown(f, fresh, done)
    const struct CMUnitTest tests[] = {
        WITH_ENGINE(a_decode_step_is_sent_before_its_token_is_known),
        WITH_ENGINE(nothing_is_sent_when_nothing_is_asked),
        cmocka_unit_test_setup_teardown(wrong_results_are_refused, done_already, done_already),
        WITH_ENGINE(a_score_of_another_token_is_refused),
        WITH_ENGINE(results_that_nobody_asked_for),
        WITH_ENGINE(a_damaged_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
