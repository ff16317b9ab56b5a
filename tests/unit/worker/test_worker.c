/* test_worker.c - a stage rank between neighbours that the test plays: what it
 * forwards, how it drains, and that nothing wrong gets past it.
 *
 * The stage is a stand-in for shard/stage.h: x grows by one, tokens count up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/kernels.h"
#include "tests/unit/count_alloc.h"
#include "worker/worker.h"

enum { VOCAB = 100, CONTEXT = 64, EPOCH = 3, EMBD = 4, BUFFER = 16384 };

struct stage {
    bool fail, silent, nan;
};
static struct stage stage;

err stage_step(struct stage *s, const struct batch *b, const float *x_in, float *x_out, struct row_result *results,
               int *n_results, struct why *reason)
{
    if (s->fail)
        return why_set(reason, ERR_NOMEM, "the stage is tired");
    for (int i = 0; x_out && i < b->n_rows * EMBD; i++)
        x_out[i] = (x_in ? x_in[i] : (float)b->rows[i / EMBD].token) + 1;
    int n = 0;
    for (int i = 0; results && !s->silent && i < b->n_rows; i++)
        if (b->rows[i].flags & ROW_SAMPLE)
            results[n++] = (struct row_result){
                .slot = b->seqs[b->rows[i].seq].slot, .pos = b->rows[i].pos, .token = b->rows[i].token + 1,
                .logprob = s->nan ? NAN : -1, .flags = ROW_SAMPLE,
            };
    if (n_results)
        *n_results = n;
    return ERR_OK;
}

err stage_slot_open(struct stage *s, uint32_t slot, const struct sample_params *params, const int32_t *prompt,
                    int n_prompt, struct why *reason)
{
    (void)s, (void)slot, (void)params, (void)prompt, (void)n_prompt, (void)reason;
    return ERR_OK;
}

void stage_adopt(struct stage *s)
{
    (void)s;
}

/* A row's hidden state: its number, and that squared. */
void stage_hidden(const struct stage *s, int row, float *out)
{
    for (int k = 0; k < EMBD; k++)
        out[k] = s->nan ? NAN : (float)(k == 0 ? row : k == 1 ? row * row : 0);
}

static struct transport *plane[4]; /* rank 0, stages 1..3 */
static struct worker *worker;
static int me;
static struct why why;
static uint32_t sequence[4][4]; /* [from][to] */

static const struct wire_limits limits = {16, 4, 4, 8, CONTEXT, VOCAB, KV_PAGE, false};

/* The rank under test is stage `which` of n; n_hidden: of an encoder, else 0. */
static void open_stage(int which, int n, uint32_t n_hidden)
{
    struct worker_options o = {
        .epoch = EPOCH, .stage = which, .n_stages = n, .prev_rank = which - 1,
        .next_rank = which < n ? which + 1 : -1, .first_rank = 1, .last_rank = n, .limits = limits, .n_embd = EMBD,
    };
    o.limits.n_hidden = n_hidden;
    me = which;
    stage = (struct stage){0};
    memset(sequence, 0, sizeof sequence);
    assert_int_equal(transport_loop_open(4, plane, &why), ERR_OK);
    for (int r = 0; r < 4; r++) {
        static const int all[] = {0, 1, 2, 3};
        assert_int_equal(transport_start(plane[r], all, 4, BUFFER, 6, &why), ERR_OK);
    }
    assert_int_equal(worker_open(plane[which], &stage, &o, &worker, &why), ERR_OK);
    assert_int_equal(worker_state(worker), WORKER_READY);
}

static void open_worker(int which, int n)
{
    open_stage(which, n, 0);
}

static int done(void **state)
{
    (void)state;
    worker_close(worker);
    for (int r = 0; r < 4; r++)
        transport_close(plane[r]);
    return 0;
}

static struct wire_row row(int32_t token, int32_t pos, uint8_t flags)
{
    return (struct wire_row){.token = token, .pos = pos, .flags = flags};
}

static void send_bytes(int from, struct tbuf *buf)
{
    wire_seal(buf->data, buf->len, EPOCH, sequence[from][me]++);
    assert_int_equal(transport_send(plane[from], me, buf, &why), ERR_OK);
}

/* A batch of one sequence in slot 2. x: with activations 0, 1, 2, ... */
static void send_batch(int from, uint32_t step, const struct wire_row *rows, uint32_t n, uint32_t n_gen, bool x)
{
    static const uint32_t pages[] = {5, 6};
    struct wire_sampler sampler = {.top_p = 1, .repetition_penalty = 1, .n_end = 1, .end = (const int32_t[]){50}};
    struct wire_seq seq = {2, 2, pages, step ? NULL : &sampler};
    struct wire_batch b = {n, n_gen, 1, rows, &seq};
    struct tbuf *buf = transport_buf(plane[from]);
    struct msg_head *head = buf->data;
    *head = (struct msg_head){
        .kind = WIRE_ACTS, .step = step, .n_rows = n, .desc_bytes = (uint32_t)wire_batch_bytes(&b),
    };
    wire_put_batch(head + 1, &b);
    buf->len = sizeof *head + head->desc_bytes;
    for (uint32_t i = 0; x && i < n * EMBD; i++, buf->len += sizeof(float))
        memcpy((char *)buf->data + buf->len, &(float){(float)i}, sizeof(float));
    send_bytes(from, buf);
}

static void send_head(int from, uint16_t kind)
{
    struct tbuf *buf = transport_buf(plane[from]);
    *(struct msg_head *)buf->data = (struct msg_head){.kind = kind};
    buf->len = sizeof(struct msg_head);
    send_bytes(from, buf);
}

static void send_token(int from, uint32_t step, int32_t pos, int32_t token, bool ended)
{
    struct wire_result r = {.slot = 2, .pos = pos, .token = token, .flags = WIRE_ROW_SAMPLE, .ended = ended};
    struct tbuf *buf = transport_buf(plane[from]);
    *(struct msg_head *)buf->data = (struct msg_head){.kind = WIRE_TOKENS, .step = step, .n_rows = 1};
    buf->len = sizeof(struct msg_head) + wire_put_result((struct msg_head *)buf->data + 1, &r);
    send_bytes(from, buf);
}

/* Turns until a message is at `to`, the worker fails, or a second is over. */
static err wait_for(int to, struct transport_event *ev)
{
    uint64_t until_ms = now_ms() + 1000;
    err e;
    do {
        bool busy = false;
        if ((e = worker_turn(worker, &busy, &why)))
            return e;
        if ((e = transport_poll(plane[to], ev, &why)) != ERR_AGAIN)
            return e;
        sleep_us(100);
    } while (now_ms() < until_ms);
    return ERR_AGAIN;
}

/* The worker must fail with this code. */
static void expect_failure(err want)
{
    struct transport_event ev;
    err e = wait_for(3 == me ? 2 : 3, &ev);
    if (e != want)
        fail_msg("%s instead of %s (%s)", err_name(e), err_name(want), why.text);
}

static const struct msg_head *checked(int to, const struct transport_event *ev)
{
    const struct msg_head *head;
    assert_int_equal(ev->from, me);
    assert_int_equal(wire_check(ev->buf->data, ev->buf->len, EPOCH, sequence[me][to]++, &head, &why), ERR_OK);
    return head;
}

static void a_middle_stage_forwards(void **state)
{
    (void)state;
    struct transport_event ev;
    struct wire_row rows[] = {row(3, 0, 0), row(4, 1, WIRE_ROW_SAMPLE)};
    open_worker(2, 3);
    send_batch(1, 0, rows, 2, 0, true);
    assert_int_equal(wait_for(3, &ev), ERR_OK);
    const struct msg_head *head = checked(3, &ev);
    const float *x = wire_x(head);
    assert_int_equal(head->n_rows, 2);
    for (int i = 0; i < 2 * EMBD; i++)
        assert_true(x[i] == (float)i + 1);
    transport_release(plane[3], ev.buf);
}

/* The mean over rows 0..2 of {i, i * i, 0, 0}, and row 0 alone. */
static void an_encoder_pools_a_text(void **state)
{
    (void)state;
    struct transport_event ev;
    struct wire_row rows[] = {row(3, 0, 0), row(4, 1, 0), row(5, 2, WIRE_ROW_EMBED)};
    struct wire_limits lim = limits;
    open_stage(3, 3, EMBD);
    lim.n_hidden = EMBD;
    for (int how = POOL_MEAN; how < POOL_COUNT; how++) {
        struct wire_result r;
        size_t at = 0;
        rows[2].target = how;
        send_batch(2, (uint32_t)how, rows, 3, 0, true);
        assert_int_equal(wait_for(0, &ev), ERR_OK);
        const struct msg_head *head = checked(0, &ev);
        assert_int_equal(head->n_rows, 1);
        assert_int_equal(wire_get_result(head + 1, head->body_bytes, &at, &lim, &r, &why), ERR_OK);
        assert_int_equal(at, head->body_bytes);
        assert_int_equal(r.pos, 2);
        assert_int_equal(r.n_hidden, EMBD);
        assert_true(r.hidden[0] == (how == POOL_MEAN ? 1 : 0));
        assert_true(fabsf(r.hidden[1] - (how == POOL_MEAN ? 5.0f / 3 : 0)) < 1e-6f);
        transport_release(plane[0], ev.buf);
    }
}

static void half_a_text_is_not_pooled(void **state)
{
    (void)state;
    struct wire_row rows[] = {row(4, 1, 0), row(5, 2, WIRE_ROW_EMBED)};
    open_stage(3, 3, EMBD);
    rows[1].target = POOL_MEAN;
    send_batch(2, 0, rows, 2, 0, true);
    expect_failure(ERR_PEER);
}

/* The one answer says that there is none; the stage lives on. */
static void expect_failed_row(int to, const struct wire_limits *lim, bool ended)
{
    struct transport_event ev;
    struct wire_result r;
    size_t at = 0;
    assert_int_equal(wait_for(to, &ev), ERR_OK);
    const struct msg_head *head = checked(to, &ev);
    assert_int_equal(head->n_rows, 1);
    assert_int_equal(wire_get_result(head + 1, head->body_bytes, &at, lim, &r, &why), ERR_OK);
    assert_int_equal(at, head->body_bytes);
    assert_true(r.flags & WIRE_ROW_FAILED);
    assert_int_equal(r.token, -1);
    assert_int_equal(r.ended, ended);
    assert_int_equal(r.n_hidden, 0);
    transport_release(plane[to], ev.buf);
}

static void numbers_that_are_none_are_not_pooled(void **state)
{
    (void)state;
    struct wire_row rows[] = {row(4, 0, WIRE_ROW_EMBED)};
    struct wire_limits lim = limits;
    open_stage(3, 3, EMBD);
    lim.n_hidden = EMBD;
    stage.nan = true;
    rows[0].target = POOL_FIRST;
    send_batch(2, 0, rows, 1, 0, true);
    expect_failed_row(0, &lim, false);
}

/* Both are told: rank 0 fails the sequence, the ring makes a step behind it dead. */
static void logits_that_are_no_numbers_fail_their_row(void **state)
{
    (void)state;
    struct wire_row rows[] = {row(3, 0, WIRE_ROW_SAMPLE)};
    open_worker(3, 3);
    stage.nan = true;
    send_batch(2, 0, rows, 1, 0, true);
    expect_failed_row(1, &limits, true);
    expect_failed_row(0, &limits, true);
}

static void a_decoder_embeds_nothing(void **state)
{
    (void)state;
    struct wire_row rows[] = {row(4, 0, WIRE_ROW_EMBED)};
    open_worker(3, 3);
    rows[0].target = POOL_FIRST;
    send_batch(2, 0, rows, 1, 0, true);
    expect_failure(ERR_PEER);
}

/* Stage 1 did a step and has the next row, whose token comes round the ring. */
static void one_step_and_a_ring_row(void)
{
    struct transport_event ev;
    struct wire_row first = row(9, 0, WIRE_ROW_SAMPLE);
    struct wire_row next = row(-1, 1, WIRE_ROW_GENERATED | WIRE_ROW_RING | WIRE_ROW_SAMPLE);
    open_worker(1, 3);
    send_batch(0, 0, &first, 1, 0, false);
    send_batch(0, 1, &next, 1, 1, false);
    assert_int_equal(wait_for(2, &ev), ERR_OK);
    checked(2, &ev);
    transport_release(plane[2], ev.buf);
}

static void stage_one_waits_for_the_ring(void **state)
{
    (void)state;
    struct transport_event ev;
    one_step_and_a_ring_row();
    for (int i = 0; i < 20; i++) { /* no token, no step */
        bool busy = false;
        assert_int_equal(worker_turn(worker, &busy, &why), ERR_OK);
        assert_int_equal(transport_poll(plane[2], &ev, &why), ERR_AGAIN);
    }
    send_token(3, 0, 0, 33, false);
    assert_int_equal(wait_for(2, &ev), ERR_OK);
    const float *x = wire_x(checked(2, &ev));
    assert_true(x[0] == 34); /* the token arrived in the row */
    transport_release(plane[2], ev.buf);
}

static void a_row_behind_an_end_is_dead(void **state)
{
    (void)state;
    struct transport_event ev;
    one_step_and_a_ring_row();
    send_token(3, 0, 0, 50, true);
    assert_int_equal(wait_for(2, &ev), ERR_OK);
    const struct msg_head *head = checked(2, &ev);
    uint64_t space[512];
    struct wire_limits lim = limits;
    struct wire_batch b;
    lim.no_ring = true;
    assert_int_equal(wire_get_batch(head + 1, head->desc_bytes, &lim, space, sizeof space, &b, &why), ERR_OK);
    assert_int_equal(b.rows[0].flags, WIRE_ROW_GENERATED | WIRE_ROW_SAMPLE | WIRE_ROW_DEAD);
    transport_release(plane[2], ev.buf);
    send_head(0, WIRE_STOP); /* a dead row gives no token: none is waited for */
    assert_int_equal(wait_for(2, &ev), ERR_OK);
    assert_int_equal(checked(2, &ev)->kind, WIRE_STOP);
    transport_release(plane[2], ev.buf);
    assert_int_equal(wait_for(2, &ev), ERR_CANCELLED);
}

static void the_last_stage_answers_twice(void **state)
{
    (void)state;
    struct transport_event ev;
    struct wire_row rows[] = {row(3, 0, 0), row(49, 1, WIRE_ROW_SAMPLE)};
    open_worker(3, 3);
    send_batch(2, 0, rows, 2, 0, true);
    assert_int_equal(wait_for(1, &ev), ERR_OK);
    const struct msg_head *head = checked(1, &ev);
    struct wire_result r;
    size_t at = 0;
    assert_int_equal(head->n_rows, 1);
    assert_int_equal(wire_get_result(head + 1, head->body_bytes, &at, &limits, &r, &why), ERR_OK);
    assert_int_equal(r.token, 50);
    assert_int_equal(r.ended, 1); /* its end token */
    transport_release(plane[1], ev.buf);
    assert_int_equal(wait_for(0, &ev), ERR_OK);
    assert_int_equal(checked(0, &ev)->kind, WIRE_TOKENS);
    transport_release(plane[0], ev.buf);

    rows[0].pos = 2;
    send_batch(2, 1, rows, 1, 0, true); /* nothing sampled: no ring, but an answer */
    assert_int_equal(wait_for(0, &ev), ERR_OK);
    assert_int_equal(checked(0, &ev)->n_rows, 0);
    transport_release(plane[0], ev.buf);
    assert_int_equal(transport_poll(plane[1], &ev, &why), ERR_AGAIN);
}

static void one_stage_is_its_own_ring(void **state)
{
    (void)state;
    struct transport_event ev;
    struct wire_row first = row(9, 0, WIRE_ROW_SAMPLE);
    struct wire_row next = row(-1, 1, WIRE_ROW_GENERATED | WIRE_ROW_RING | WIRE_ROW_SAMPLE);
    open_worker(1, 1);
    send_batch(0, 0, &first, 1, 0, false);
    send_batch(0, 1, &next, 1, 1, false);
    for (int step = 0; step < 2; step++) {
        struct wire_result r;
        size_t at = 0;
        assert_int_equal(wait_for(0, &ev), ERR_OK);
        const struct msg_head *head = checked(0, &ev);
        assert_int_equal(wire_get_result(head + 1, head->body_bytes, &at, &limits, &r, &why), ERR_OK);
        assert_int_equal(r.token, 10 + step);
        transport_release(plane[0], ev.buf);
    }
}

/* One generated row a step, past the first steps: messages, the runner, the ring. */
static void steps_allocate_nothing(void **state)
{
    (void)state;
    enum { WARM = 3, STEPS = 40 };
    struct transport_event ev;
    if (!COUNT_ALLOC)
        skip();
    for (int stages = 1; stages <= 3; stages += 2) { /* alone, then in the middle */
        int to = stages == 1 ? 0 : 3;
        open_worker(stages == 1 ? 1 : 2, stages);
        for (int step = 0; step < WARM + STEPS; step++) {
            struct wire_row r = row(9, step, step ? WIRE_ROW_GENERATED | WIRE_ROW_SAMPLE : WIRE_ROW_SAMPLE);
            if (step == WARM) {
                (void)count_alloc_take();
                count_alloc_watch(true);
            }
            send_batch(me - 1, (uint32_t)step, &r, 1, step > 0, me > 1);
            assert_int_equal(wait_for(to, &ev), ERR_OK);
            checked(to, &ev);
            transport_release(plane[to], ev.buf);
        }
        count_alloc_watch(false);
        assert_int_equal(count_alloc_take(), 0);
        done(NULL);
        worker = NULL;
        memset(plane, 0, sizeof plane);
    }
}

static void stop_comes_after_all_steps(void **state)
{
    (void)state;
    struct transport_event ev;
    struct wire_row rows[] = {row(3, 0, 0)};
    open_worker(2, 3);
    send_batch(1, 0, rows, 1, 0, true);
    send_head(1, WIRE_STOP);
    assert_int_equal(wait_for(3, &ev), ERR_OK);
    assert_int_equal(checked(3, &ev)->kind, WIRE_ACTS);
    transport_release(plane[3], ev.buf);
    assert_int_equal(wait_for(3, &ev), ERR_OK);
    assert_int_equal(checked(3, &ev)->kind, WIRE_STOP);
    transport_release(plane[3], ev.buf);
    assert_int_equal(wait_for(3, &ev), ERR_CANCELLED);
    assert_int_equal(worker_state(worker), WORKER_GONE);
}

static void messages_that_are_not_allowed(void **state)
{
    struct wire_row plain = row(3, 0, 0);
    struct wire_row ring = row(-1, 1, WIRE_ROW_GENERATED | WIRE_ROW_RING);
    struct wire_row far = row(3, CONTEXT, 0);
    for (int i = 0; i < 9; i++) {
        open_worker(i == 5 ? 1 : 2, 3);
        switch (i) {
        case 0: send_head(0, WIRE_STOP); break;                   /* not from the stage before */
        case 1: send_head(1, WIRE_TOKENS); break;                 /* not the ring's place */
        case 2: send_batch(1, 0, &plain, 1, 0, false); break;     /* activations are missing */
        case 3: send_batch(1, 0, &ring, 1, 1, true); break;       /* a token nobody filled in */
        case 4: send_batch(1, 0, &far, 1, 0, true); break;        /* past the context */
        case 5: send_token(3, 0, 0, 1, false); break;             /* a token nobody waits for */
        case 6: sequence[1][2] = 1, send_batch(1, 0, &plain, 1, 0, true); break; /* one was lost */
        case 7: send_head(1, WIRE_STOP), send_batch(1, 0, &plain, 1, 0, true); break;
        case 8: send_batch(1, 0, &plain, 1, 0, true), sequence[1][2] = 0, send_batch(1, 1, &plain, 1, 0, true); break;
        }
        struct transport_event ev;
        err e = ERR_OK;
        while ((e = wait_for(3, &ev)) == ERR_OK)
            transport_release(plane[3], ev.buf);
        if (e != ERR_PEER)
            fail_msg("case %d: %s", i, err_name(e));
        done(state);
    }
}

static void a_stage_that_fails(void **state)
{
    struct wire_row rows[] = {row(3, 0, WIRE_ROW_SAMPLE)};
    for (int i = 0; i < 2; i++) {
        open_worker(3, 3);
        stage = (struct stage){.fail = i == 0, .silent = i == 1};
        send_batch(2, 0, rows, 1, 0, true);
        expect_failure(i == 0 ? ERR_NOMEM : ERR_FORMAT);
        assert_non_null(strstr(why.text, "stage 3, step 0"));
        done(state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_middle_stage_forwards, done),
        cmocka_unit_test_teardown(an_encoder_pools_a_text, done),
        cmocka_unit_test_teardown(half_a_text_is_not_pooled, done),
        cmocka_unit_test_teardown(numbers_that_are_none_are_not_pooled, done),
        cmocka_unit_test_teardown(logits_that_are_no_numbers_fail_their_row, done),
        cmocka_unit_test_teardown(a_decoder_embeds_nothing, done),
        cmocka_unit_test_teardown(stage_one_waits_for_the_ring, done),
        cmocka_unit_test_teardown(a_row_behind_an_end_is_dead, done),
        cmocka_unit_test_teardown(the_last_stage_answers_twice, done),
        cmocka_unit_test_teardown(one_stage_is_its_own_ring, done),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test_teardown(stop_comes_after_all_steps, done),
        cmocka_unit_test(messages_that_are_not_allowed),
        cmocka_unit_test(a_stage_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
