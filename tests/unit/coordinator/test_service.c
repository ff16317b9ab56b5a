/* test_service.c - the framed API: requests, batching, cancels, hostile Envelopes,
 * and the same over a real socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "coordinator/front/service.h"
#include "fake_backend.h"
#include "proto/frame.h"

struct fixture {
    struct tokenizer *tok;
    struct fake_backend b;
    struct front *front;
    struct service *service;
    struct service_peer *peer;
    Cordee__Envelope *got[64];
    int n_got;
};

static void send_cb(void *ctx, void *peer, const void *body, size_t len)
{
    struct fixture *x = ctx;
    struct why why;
    assert_ptr_equal(peer, x);
    assert_true(x->n_got < 64);
    assert_int_equal(frame_get(body, len, &x->got[x->n_got++], &why), ERR_OK);
}

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);
    struct why why;
    x->tok = fake_tokenizer();
    fake_init(&x->b, x->tok);
    assert_int_equal(front_open(&x->b.backend, x->tok, &x->front, &why), ERR_OK);
    struct service_options o = { .front = x->front, .send = send_cb, .ctx = x, .max_calls = 4 };
    assert_int_equal(service_open(&o, &x->service, &why), ERR_OK);
    assert_int_equal(service_peer_open(x->service, x, &x->peer, &why), ERR_OK);
    *state = x;
    return 0;
}

static void forget(struct fixture *x)
{
    while (x->n_got)
        frame_free(x->got[--x->n_got]);
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    service_close(x->service);
    front_close(x->front);
    fake_fail_all(&x->b, ERR_CANCELLED);
    tokenizer_close(x->tok);
    forget(x);
    free(x);
    return 0;
}

static void put(struct fixture *x, uint64_t id, Cordee__Envelope *env)
{
    struct why why;
    uint8_t body[4096];
    env->has_id = true;
    env->id = id;
    assert_true(cordee__envelope__get_packed_size(env) <= sizeof body);
    size_t len = cordee__envelope__pack(env, body);
    assert_int_equal(service_peer_frame(x->peer, body, len, &why), ERR_OK);
}

static void generate(struct fixture *x, uint64_t id, Cordee__Generate *g)
{
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    env.body_case = CORDEE__ENVELOPE__BODY_GENERATE;
    env.generate = g;
    put(x, id, &env);
}

static Cordee__Generate text_request(const char *text)
{
    Cordee__Generate g = CORDEE__GENERATE__INIT;
    g.has_text = true;
    g.text = (ProtobufCBinaryData){ strlen(text), (uint8_t *)(uintptr_t)text };
    g.has_max_tokens = true;
    g.max_tokens = 6;
    return g;
}

static void expect_failed(struct fixture *x, err code)
{
    assert_int_equal(x->n_got, 1);
    assert_int_equal(x->got[0]->body_case, CORDEE__ENVELOPE__BODY_FAILED);
    assert_int_equal(x->got[0]->failed->code, code);
    assert_true(x->got[0]->failed->reason[0] != '\0');
    forget(x);
}

static void test_text_and_batching(void **state)
{
    struct fixture *x = *state;
    Cordee__Generate g = text_request("the");
    g.has_logprobs = true;
    g.logprobs = 2;
    generate(x, 9, &g);
    for (int i = 0; i < 4; i++)
        fake_turn(&x->b);
    assert_int_equal(x->n_got, 0);
    service_flush(x->service);
    assert_int_equal(x->n_got, 1); /* four tokens, one frame */
    assert_int_equal(x->got[0]->id, 9);
    assert_int_equal(x->got[0]->tokens->n_token, 4);
    assert_int_equal(x->got[0]->tokens->token[3]->n_top, 2);
    assert_true(x->got[0]->tokens->token[3]->has_logprob);
    assert_int_equal(x->got[0]->tokens->token[3]->text.len, 1);
    for (int i = 0; i < 4; i++)
        fake_turn(&x->b);
    assert_int_equal(x->n_got, 3); /* the rest goes before the end, without a flush */
    assert_int_equal(x->got[1]->tokens->n_token, 2);
    assert_int_equal(x->got[2]->finished->reason, CORDEE__FINISH_REASON__LENGTH);
    assert_int_equal(x->got[2]->finished->generated_tokens, 6);
}

static void test_cancel_and_unknown(void **state)
{
    struct fixture *x = *state;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Cancel cancel = CORDEE__CANCEL__INIT;
    Cordee__Generate g = text_request("a");
    generate(x, 1, &g);
    fake_turn(&x->b);
    env.body_case = CORDEE__ENVELOPE__BODY_CANCEL;
    env.cancel = &cancel;
    put(x, 77, &env); /* nobody's */
    put(x, 1, &env);
    assert_int_equal(x->n_got, 2);
    assert_int_equal(x->got[1]->finished->reason, CORDEE__FINISH_REASON__CANCELLED);
    assert_int_equal(x->b.n_cancelled, 1);
}

static void test_close_cancels_all(void **state)
{
    struct fixture *x = *state;
    struct why why;
    Cordee__Generate g = text_request("a");
    for (int i = 0; i < 4; i++)
        generate(x, (uint64_t)i, &g);
    fake_turn(&x->b);
    service_peer_close(x->peer);
    while (fake_turn(&x->b))
        continue;
    service_flush(x->service);
    assert_int_equal(x->b.n_cancelled, 4);
    assert_int_equal(x->n_got, 0);
    assert_int_equal(service_peer_open(x->service, x, &x->peer, &why), ERR_OK);
}

static void test_hostile_requests(void **state)
{
    struct fixture *x = *state;
    Cordee__Generate g;
    Cordee__Sampling s = CORDEE__SAMPLING__INIT;
    uint32_t big[] = { 4000000000u }, one[] = { 5 };
    ProtobufCBinaryData half = { 1, (uint8_t *)(uintptr_t)"\xc3" }, empty = { 0, NULL };
#define TRY_IT(change, code) \
    g = text_request("a"), cordee__sampling__init(&s), change, generate(x, 3, &g), expect_failed(x, code)
    TRY_IT(g.has_text = false, ERR_INVAL);
    TRY_IT((g.ids = one, g.n_ids = 1), ERR_INVAL); /* both */
    TRY_IT((g.has_text = false, g.ids = big, g.n_ids = 1), ERR_INVAL);
    TRY_IT(g.text = half, ERR_INVAL);
    TRY_IT((g.stop = &half, g.n_stop = 1), ERR_INVAL);
    TRY_IT((g.stop = &empty, g.n_stop = 1), ERR_INVAL);
    TRY_IT((g.stop_ids = big, g.n_stop_ids = 1), ERR_INVAL);
    TRY_IT((g.resume = one, g.n_resume = 1), ERR_INVAL);
    TRY_IT(g.max_tokens = 3000000000u, ERR_INVAL);
    TRY_IT((g.has_logprobs = true, g.logprobs = 21), ERR_INVAL);
    TRY_IT((g.sampling = &s, s.has_temperature = true, s.temperature = NAN), ERR_INVAL);
    TRY_IT((g.sampling = &s, s.has_top_k = true, s.top_k = 3000000000u), ERR_INVAL);
    TRY_IT(g.model = (char *)(uintptr_t)"other", ERR_NOTFOUND);
#undef TRY_IT
    struct why why;
    assert_int_equal(service_peer_frame(x->peer, "\x07", 1, &why), ERR_FORMAT);
    assert_int_equal(service_peer_frame(x->peer, "", 0, &why), ERR_OK); /* an Envelope without a body */
    expect_failed(x, ERR_UNSUPPORTED);
}

static void test_limits_of_a_peer(void **state)
{
    struct fixture *x = *state;
    Cordee__Generate g = text_request("a");
    for (int i = 0; i < 4; i++)
        generate(x, (uint64_t)i, &g);
    generate(x, 2, &g); /* still running */
    expect_failed(x, ERR_INVAL);
    generate(x, 4, &g);
    expect_failed(x, ERR_FULL);
}

static void test_questions(void **state)
{
    struct fixture *x = *state;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Tokenize t = CORDEE__TOKENIZE__INIT;
    Cordee__Detokenize d = CORDEE__DETOKENIZE__INIT;
    Cordee__ModelsQuery m = CORDEE__MODELS_QUERY__INIT;
    Cordee__HealthQuery h = CORDEE__HEALTH_QUERY__INIT;
    Cordee__StatsQuery q = CORDEE__STATS_QUERY__INIT;
    t.text = (ProtobufCBinaryData){ 2, (uint8_t *)(uintptr_t)"ab" };
    env.body_case = CORDEE__ENVELOPE__BODY_TOKENIZE;
    env.tokenize = &t;
    put(x, 1, &env);
    assert_int_equal(x->got[0]->ids->n_ids, 2);
    assert_int_equal(x->got[0]->ids->n_pieces, 2);
    d.ids = x->got[0]->ids->ids;
    d.n_ids = 2;
    env.body_case = CORDEE__ENVELOPE__BODY_DETOKENIZE;
    env.detokenize = &d;
    put(x, 2, &env);
    assert_int_equal(x->got[1]->text->text.len, 2);
    env.body_case = CORDEE__ENVELOPE__BODY_MODELS_QUERY;
    env.models_query = &m;
    put(x, 3, &env);
    assert_string_equal(x->got[2]->models->model[0]->name, "fake");
    env.body_case = CORDEE__ENVELOPE__BODY_HEALTH_QUERY;
    env.health_query = &h;
    put(x, 4, &env);
    assert_true(x->got[3]->health->ready);
    env.body_case = CORDEE__ENVELOPE__BODY_STATS_QUERY;
    env.stats_query = &q;
    put(x, 5, &env);
    assert_int_equal(x->got[4]->failed->code, ERR_UNSUPPORTED);
}

/* ---- over a socket ---------------------------------------------------------------------- */

static int dial(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
        assert_int_equal(errno, EINPROGRESS);
    return fd;
}

/* Turns both the loop and the fake until the peer has sent something or closed. */
static ssize_t turn_until_read(struct event_base *base, struct fixture *x, int fd, void *to, size_t len)
{
    ssize_t n = -1;
    for (int i = 0; i < 100000 && n < 0; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        fake_turn(&x->b);
        n = recv(fd, to, len, MSG_DONTWAIT);
    }
    return n;
}

static void test_listener(void **state)
{
    struct fixture *x = *state;
    struct event_base *base = event_base_new();
    struct service_listener *l;
    struct why why;
    struct service_options o = { .front = x->front };
    struct buf frame = { 0 };
    uint8_t in[4096];
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Generate g = text_request("a");
    assert_int_equal(service_listen(base, "127.0.0.1:0", &o, &l, &why), ERR_OK);
    int fd = dial(service_listener_port(l)), bad = dial(service_listener_port(l));
    event_base_loop(base, EVLOOP_NONBLOCK);
    env.body_case = CORDEE__ENVELOPE__BODY_GENERATE;
    env.generate = &g;
    assert_int_equal(frame_put(&frame, &env, &why), ERR_OK);
    for (size_t i = 0; i < frame.len; i++) { /* byte by byte */
        assert_int_equal(send(fd, frame.data + i, 1, MSG_NOSIGNAL), 1);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    assert_true(turn_until_read(base, x, fd, in, sizeof in) > 0);
    assert_int_equal(send(bad, "\xff\xff\xff\xff\xff\xff", 6, MSG_NOSIGNAL), 6);
    assert_int_equal(turn_until_read(base, x, bad, in, sizeof in), 0); /* cut off */
    assert_int_equal(x->b.n_cancelled, 0);
    g.max_tokens = 4000;
    buf_clear(&frame);
    assert_int_equal(frame_put(&frame, &env, &why), ERR_OK);
    assert_int_equal(send(fd, frame.data, frame.len, MSG_NOSIGNAL), (ssize_t)frame.len);
    assert_true(turn_until_read(base, x, fd, in, sizeof in) > 0);
    close(fd); /* the client leaves in the middle */
    for (int i = 0; i < 1000 && x->b.n_live; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        fake_turn(&x->b);
    }
    assert_int_equal(x->b.n_live, 0);
    assert_int_equal(x->b.n_cancelled, 1);
    close(bad);
    buf_fini(&frame);
    service_listener_close(l);
    event_base_free(base);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_text_and_batching), T(test_cancel_and_unknown), T(test_close_cancels_all),
        T(test_hostile_requests), T(test_limits_of_a_peer), T(test_questions), T(test_listener),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
