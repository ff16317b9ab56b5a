/* test_link.c - requests over a link to a service, with epochs that die.
 *
 * Both ends in one program: the link's frames go to a service on a fake engine and
 * back through queues, and an "epoch" is one such engine. The promise under test:
 * wherever an epoch is cut, the asker sees exactly the events of an undisturbed run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/front/front.h"
#include "coordinator/supervise/link.h"
#include "coordinator/front/service.h"
#include "fake_backend.h"

struct queue { /* of frames */
    struct frame {
        void *data;
        size_t len;
    } item[4096];
    int head, tail;
};

static void queue_push(struct queue *q, const void *data, size_t len)
{
    assert_true(q->tail < 4096);
    q->item[q->tail].data = malloc(len + 1);
    memcpy(q->item[q->tail].data, data, len);
    q->item[q->tail++].len = len;
}

static void queue_clear(struct queue *q)
{
    while (q->head < q->tail)
        free(q->item[q->head++].data);
    q->head = q->tail = 0;
}

struct fixture {
    struct link *link;
    struct fake_backend engine;
    struct front *rank0;
    struct service *service;
    struct service_peer *peer;
    struct queue up, down; /* to rank 0, to serve */
    bool connected;
    int eos_at, max_queue;
    struct buf log; /* events of all requests */
    int n_finished, n_failed, n_events, cancel_after;
    uint64_t handle;
    err code;
};

static err send_up(void *ctx, const void *body, size_t len, struct why *why)
{
    struct fixture *x = ctx;
    if (!x->connected)
        return why_set(why, ERR_PEER, "not connected");
    queue_push(&x->up, body, len);
    return ERR_OK;
}

static void send_down(void *ctx, void *peer, const void *body, size_t len)
{
    struct fixture *x = ctx;
    (void)peer;
    queue_push(&x->down, body, len);
}

static void stats_answer(void *ctx, stats_done_fn *done, void *done_ctx)
{
    Cordee__Stats s = CORDEE__STATS__INIT;
    (void)ctx;
    s.has_requests = true;
    s.requests = 7;
    done(done_ctx, &s);
}

static void epoch_up(struct fixture *x)
{
    struct why why;
    fake_init(&x->engine, NULL);
    x->engine.eos_at = x->eos_at;
    x->engine.max_queue = x->max_queue;
    assert_int_equal(front_open(&x->engine.backend, NULL, &x->rank0, &why), ERR_OK);
    struct service_options so = { .front = x->rank0, .send = send_down, .ctx = x, .stats = stats_answer };
    assert_int_equal(service_open(&so, &x->service, &why), ERR_OK);
    assert_int_equal(service_peer_open(x->service, NULL, &x->peer, &why), ERR_OK);
    x->connected = true;
    link_on_ready(x->link, 1);
}

/* polite: the engine fails its requests on the way down, and serve still hears it. */
static void epoch_down(struct fixture *x, bool polite)
{
    struct why why;
    if (!x->service)
        return;
    if (polite) {
        fake_fail_all(&x->engine, ERR_CANCELLED);
        service_flush(x->service);
        for (int i = x->down.head; i < x->down.tail; i++)
            assert_int_equal(link_on_frame(x->link, x->down.item[i].data, x->down.item[i].len, &why), ERR_OK);
    }
    x->connected = false;
    link_on_lost(x->link);
    service_close(x->service);
    front_close(x->rank0);
    fake_fail_all(&x->engine, ERR_CANCELLED);
    x->service = NULL;
    queue_clear(&x->up);
    queue_clear(&x->down);
}

/* One turn of both processes. False: nothing moved. */
static bool turn(struct fixture *x)
{
    struct why why;
    bool any = false;
    while (x->up.head < x->up.tail) {
        struct frame *f = &x->up.item[x->up.head++];
        assert_int_equal(service_peer_frame(x->peer, f->data, f->len, &why), ERR_OK);
        free(f->data);
        any = true;
    }
    any |= fake_turn(&x->engine);
    service_flush(x->service);
    while (x->down.head < x->down.tail) {
        struct frame *f = &x->down.item[x->down.head++];
        assert_int_equal(link_on_frame(x->link, f->data, f->len, &why), ERR_OK);
        free(f->data);
        any = true;
    }
    if (x->up.head == x->up.tail) /* answers may have caused a cancel */
        x->up.head = x->up.tail = 0;
    x->down.head = x->down.tail = 0;
    return any;
}

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);
    struct why why;
    struct link_options o = { .send = send_up, .ctx = x, .max_requests = 16 };
    assert_int_equal(link_open(&o, &x->link, &why), ERR_OK);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    epoch_down(x, false);
    link_close(x->link);
    buf_fini(&x->log);
    free(x);
    return 0;
}

static void on_gen(void *ctx, const struct gen_event *ev)
{
    struct fixture *x = ctx;
    x->n_events++;
    switch (ev->kind) {
    case GEN_PROMPT:
    case GEN_TOKEN:
        buf_printf(&x->log, "%c%d@%d:%.9g", ev->kind == GEN_PROMPT ? 'p' : 't', ev->token, ev->pos,
                   (double)ev->logprob);
        for (int i = 0; i < ev->n_top; i++)
            buf_printf(&x->log, "/%d:%.9g", ev->top[i].token, (double)ev->top[i].logprob);
        buf_putc(&x->log, ' ');
        break;
    case GEN_FINISHED:
        x->n_finished++;
        buf_printf(&x->log, "finished %d %d %d;", ev->finish, ev->n_prompt, ev->n_generated);
        break;
    case GEN_FAILED:
        x->n_failed++;
        x->code = ev->code;
        buf_printf(&x->log, "failed %d;", ev->code);
        break;
    }
    if (x->n_events == x->cancel_after)
        backend_cancel(link_backend(x->link), x->handle);
}

static const int32_t prompt[] = { 5, 300, 301, 302, 299 };
static const int32_t ends[] = { FAKE_EOS };

static struct gen_request request(void)
{
    return (struct gen_request){
        .ids = prompt, .n_ids = 5, .max_tokens = 12, .logprobs = true, .n_top = 3, .score_prompt = true,
        .sampling = { .temperature = 0.7f, .top_p = 0.9f, .min_p = 0.01f, .repetition_penalty = 1.1f,
                      .seed = 99, .choice = 2, .n_end = 1, .end = ends },
    };
}

static void submit(struct fixture *x, const struct gen_request *r)
{
    struct why why;
    assert_int_equal(backend_submit(link_backend(x->link), r, on_gen, x, &x->handle, &why), ERR_OK);
}

static void drain(struct fixture *x)
{
    while (turn(x))
        continue;
}

static char *undisturbed(struct fixture *x, const struct gen_request *r)
{
    epoch_up(x);
    submit(x, r);
    drain(x);
    epoch_down(x, false);
    assert_int_equal(x->n_finished, 1);
    x->n_finished = x->n_events = 0;
    return buf_take(&x->log, NULL);
}

static void cut_everywhere(struct fixture *x, const struct gen_request *r, bool polite)
{
    char *want = undisturbed(x, r);
    for (int cut = 0; cut < 22; cut++)
        for (int again = 0; again < 3; again += 2) { /* a second loss during the replay */
            buf_clear(&x->log);
            x->n_finished = 0;
            epoch_up(x);
            submit(x, r);
            for (int i = 0; i < cut; i++)
                turn(x);
            epoch_down(x, polite);
            assert_false(backend_ready(link_backend(x->link)));
            if (again) {
                epoch_up(x);
                for (int i = 0; i < again; i++)
                    turn(x);
                epoch_down(x, polite);
            }
            epoch_up(x);
            drain(x);
            assert_string_equal(x->log.data, want);
            assert_int_equal(link_pending(x->link), 0);
            epoch_down(x, false);
        }
    free(want);
}

static void test_killed_anywhere(void **state)
{
    struct gen_request r = request();
    cut_everywhere(*state, &r, false);
}

/* Its tokens are others, and stay so in every epoch. */
static void test_killed_anywhere_with_an_adapter(void **state)
{
    struct fixture *x = *state;
    struct gen_request r = request();
    char *base = undisturbed(x, &r), name[] = "french";
    r.adapter = name;
    char *want = undisturbed(x, &r);
    assert_string_not_equal(base, want);
    free(base);
    free(want);
    cut_everywhere(x, &r, false);
}

static void test_failed_politely_anywhere(void **state)
{
    struct gen_request r = request();
    cut_everywhere(*state, &r, true);
}

static void test_killed_anywhere_with_end_token(void **state)
{
    struct fixture *x = *state;
    struct gen_request r = request();
    x->eos_at = 6;
    cut_everywhere(x, &r, false);
}

static void test_killed_anywhere_scoring_only(void **state)
{
    struct gen_request r = request();
    r.max_tokens = 0;
    cut_everywhere(*state, &r, false);
}

static void test_killed_anywhere_scoring_the_end(void **state)
{
    struct gen_request r = request();
    r.max_tokens = 0;
    r.score_from = 3;
    cut_everywhere(*state, &r, false);
}

static void test_waits_for_the_first_epoch(void **state)
{
    struct fixture *x = *state;
    struct gen_request r = request();
    submit(x, &r);
    submit(x, &r);
    assert_int_equal(link_pending(x->link), 2);
    assert_in_range(link_wait_ms(x->link), 1000, 300000);
    epoch_up(x);
    drain(x);
    assert_int_equal(x->n_finished, 2);
    assert_int_equal(link_wait_ms(x->link), -1);
    assert_string_equal(link_backend(x->link)->facts.name, "fake"); /* as rank 0 said */
    assert_int_equal(link_backend(x->link)->facts.max_context, 4096);
}

static void test_patience_ends(void **state)
{
    struct fixture *x = *state;
    struct why why;
    struct gen_request r = request();
    struct link_options o = { .send = send_up, .ctx = x, .patience_ms = 1 };
    link_close(x->link);
    assert_int_equal(link_open(&o, &x->link, &why), ERR_OK);
    submit(x, &r);
    while (x->n_failed == 0)
        link_tick(x->link);
    assert_int_equal(x->code, ERR_TIMEOUT);
    assert_int_equal(link_pending(x->link), 0);
}

static void test_journal_limit(void **state)
{
    struct fixture *x = *state;
    struct why why;
    struct gen_request r = request();
    for (int i = 0; i < 16; i++)
        submit(x, &r);
    assert_int_equal(backend_submit(link_backend(x->link), &r, on_gen, x, &x->handle, &why), ERR_FULL);
    epoch_up(x);
    drain(x);
    assert_int_equal(x->n_finished, 16);
}

/* Rank 0 without room is not the asker's problem. */
static void test_full_engine_is_retried(void **state)
{
    struct fixture *x = *state;
    struct gen_request r = request();
    x->max_queue = 2;
    epoch_up(x);
    for (int i = 0; i < 7; i++)
        submit(x, &r);
    for (int i = 0; i < 200 && x->n_finished < 7; i++) {
        drain(x);
        assert_true(link_wait_ms(x->link) <= 100);
        link_tick(x->link);
    }
    assert_int_equal(x->n_finished, 7);
    assert_int_equal(x->n_failed, 0);
}

static void test_cancel_in_every_state(void **state)
{
    struct fixture *x = *state;
    struct gen_request r = request();
    submit(x, &r); /* waiting */
    backend_cancel(link_backend(x->link), x->handle);
    backend_cancel(link_backend(x->link), x->handle);
    assert_int_equal(x->n_finished, 1);
    epoch_up(x);
    for (x->cancel_after = 3; x->cancel_after < 12; x->cancel_after++) { /* from its own event */
        x->n_events = x->n_finished = 0;
        submit(x, &r);
        drain(x);
        assert_int_equal(x->n_finished, 1);
        assert_int_equal(x->n_events, x->cancel_after + 1);
        assert_int_equal(link_pending(x->link), 0);
        assert_int_equal(x->engine.n_live, 0);
    }
}

static void test_refusal_reaches_the_asker(void **state)
{
    struct fixture *x = *state;
    struct gen_request r = request();
    int32_t bad = 999999;
    epoch_up(x);
    r.ids = &bad;
    r.n_ids = 1;
    submit(x, &r);
    drain(x);
    assert_int_equal(x->n_failed, 1);
    assert_int_equal(x->code, ERR_INVAL);
}

static void test_garbage_from_rank0(void **state)
{
    struct fixture *x = *state;
    struct why why;
    struct gen_request r = request();
    epoch_up(x);
    submit(x, &r);
    assert_int_equal(link_on_frame(x->link, "\xff\xff\xff", 3, &why), ERR_FORMAT);
    drain(x);
    assert_int_equal(x->n_finished, 1);
}

static void on_stats(void *ctx, const Cordee__Stats *stats)
{
    int *got = ctx;
    *got = stats ? (int)stats->requests : -1;
}

static void test_stats(void **state)
{
    struct fixture *x = *state;
    int got = 0;
    link_query_stats(x->link, on_stats, &got);
    assert_int_equal(got, -1);
    epoch_up(x);
    got = 0;
    link_query_stats(x->link, on_stats, &got);
    assert_int_equal(got, 0);
    drain(x);
    assert_int_equal(got, 7);
    link_query_stats(x->link, on_stats, &got);
    epoch_down(x, false);
    assert_int_equal(got, -1);
}

/* A request that never yields a token and always loses its epoch is the cause, not a victim. */
static void test_poison_fails(void **state)
{
    struct fixture *x = *state;
    struct gen_request r = request();
    submit(x, &r);
    for (int lost = 1; lost <= 5; lost++) {
        assert_int_equal(x->n_failed, 0);
        epoch_up(x); /* sent, and lost before the engine's first turn */
        epoch_down(x, false);
    }
    assert_int_equal(x->n_failed, 1);
    assert_int_equal(x->code, ERR_PEER);
    assert_int_equal(link_pending(x->link), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_killed_anywhere), T(test_failed_politely_anywhere), T(test_killed_anywhere_with_end_token),
        T(test_killed_anywhere_with_an_adapter),
        T(test_killed_anywhere_scoring_only), T(test_waits_for_the_first_epoch), T(test_patience_ends),
        T(test_killed_anywhere_scoring_the_end),
        T(test_journal_limit), T(test_full_engine_is_retried), T(test_cancel_in_every_state),
        T(test_refusal_reaches_the_asker), T(test_garbage_from_rank0), T(test_stats),
        T(test_poison_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
