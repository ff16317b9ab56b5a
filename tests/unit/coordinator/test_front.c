/* test_front.c - text over a backend: choices, stop strings, echo, ends, cancels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/front/front.h"
#include "fake_backend.h"

/* What a test sees of one choice. */
struct seen {
    struct buf text, tokens; /* tokens: "id," per event */
    int n_tokens, n_prompt, n_logprob, n_finished, n_failed, n_generated;
    enum finish finish;
    char stop[64];
    int32_t stop_id;
    uint64_t seed;
    err code;
    size_t last_offset;
};

struct fixture {
    struct tokenizer *tok;
    struct fake_backend b;
    struct front *f;
    struct seen seen[8];
    uint64_t handle;
    int cancel_after; /* events; 0: never */
    int n_events;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);
    struct why why;
    x->tok = fake_tokenizer();
    fake_init(&x->b, x->tok);
    assert_int_equal(front_open(&x->b.backend, x->tok, &x->f, &why), ERR_OK);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    front_close(x->f);
    fake_fail_all(&x->b, ERR_CANCELLED);
    tokenizer_close(x->tok);
    for (int i = 0; i < 8; i++) {
        buf_fini(&x->seen[i].text);
        buf_fini(&x->seen[i].tokens);
    }
    free(x);
    return 0;
}

static void on_event(void *ctx, const struct front_event *ev)
{
    struct fixture *x = ctx;
    struct seen *s = &x->seen[ev->choice];
    assert_int_equal(s->n_finished + s->n_failed, 0);
    assert_int_equal(utf8_valid_prefix(ev->text, ev->text_len), ev->text_len);
    buf_put(&s->text, ev->text, ev->text_len);
    if (ev->kind == FRONT_TOKEN) {
        buf_printf(&s->tokens, "%d,", ev->token);
        s->n_tokens += !ev->prompt;
        s->n_prompt += ev->prompt;
        s->n_logprob += ev->has_logprob;
        s->last_offset = ev->offset;
    } else if (ev->kind == FRONT_FINISHED) {
        s->n_finished++;
        s->finish = ev->finish;
        s->n_generated = ev->n_generated;
        s->stop_id = ev->stop_id;
        s->seed = ev->seed;
        snprintf(s->stop, sizeof s->stop, "%.*s", (int)ev->stop_len, ev->stop ? ev->stop : "");
    } else {
        s->n_failed++;
        s->code = ev->code;
    }
    if (++x->n_events == x->cancel_after)
        front_cancel(x->f, x->handle);
}

static struct front_request request(const char *text)
{
    return (struct front_request){
        .text = text, .text_len = strlen(text), .add_special = true,
        .sampling = { .temperature = 0, .top_p = 1, .repetition_penalty = 1 },
        .n_choices = 1, .max_tokens = 8,
    };
}

static err submit(struct fixture *x, const struct front_request *r)
{
    struct why why;
    return front_submit(x->f, r, on_event, x, &x->handle, &why);
}

static void drain(struct fixture *x)
{
    for (int i = 0; i < 10000 && fake_turn(&x->b); i++)
        continue;
}

/* Makes the fake generate these bytes, one byte token each. */
static void script_bytes(struct fixture *x, const char *text, int32_t *ids)
{
    int n = 0;
    for (; text[n]; n++)
        ids[n] = FAKE_BYTE0 + (unsigned char)text[n];
    x->b.script = ids;
    x->b.n_script = n;
}

static void test_plain_text(void **state)
{
    struct fixture *x = *state;
    struct front_request r = request("the fox");
    assert_int_equal(submit(x, &r), ERR_OK);
    assert_int_equal(x->n_events, 0); /* nothing from inside submit */
    drain(x);
    assert_int_equal(x->seen[0].n_tokens, 8);
    assert_int_equal(x->seen[0].n_finished, 1);
    assert_int_equal(x->seen[0].finish, FINISH_LENGTH);
    assert_int_equal(x->seen[0].n_generated, 8);
    assert_int_equal(x->seen[0].text.len, 8);
    assert_int_equal(x->seen[0].n_prompt, 0);
}

/* Half characters never come out, and text equals the bytes. */
static void test_utf8_over_byte_tokens(void **state)
{
    struct fixture *x = *state;
    int32_t ids[32];
    struct front_request r = request("a");
    script_bytes(x, "h\xc3\xa9l\xe2\x82\xac!", ids);
    r.max_tokens = x->b.n_script;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_memory_equal(x->seen[0].text.data, "h\xc3\xa9l\xe2\x82\xac!", 8);
    assert_int_equal(x->seen[0].text.len, 8);
    assert_int_equal(x->seen[0].last_offset, 4); /* characters, not bytes */
}

/* The same stop string whatever the tokens' borders, and nothing of it is shown. */
static void test_stop_across_tokens(void **state)
{
    struct fixture *x = *state;
    int32_t ids[32];
    struct stop_string stop[] = { { "zzz", 3 }, { "lo w", 4 }, { "world", 5 } };
    struct front_request r = request("a");
    script_bytes(x, "hello world", ids);
    r.stop = stop;
    r.n_stop = 3;
    r.max_tokens = 11;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_int_equal(x->seen[0].text.len, 3);
    assert_memory_equal(x->seen[0].text.data, "hel", 3);
    assert_string_equal(x->seen[0].stop, "lo w");
    assert_int_equal(x->seen[0].finish, FINISH_STOP);
    assert_int_equal(x->seen[0].n_tokens, 7);
    assert_int_equal(x->b.n_cancelled, 1);
    assert_int_equal(x->b.n_live, 0);
}

/* Text that was held back for a stop string that did not come is shown at the end. */
static void test_held_tail(void **state)
{
    struct fixture *x = *state;
    int32_t ids[32];
    struct stop_string stop = { "world!", 6 };
    struct front_request r = request("a");
    script_bytes(x, "hello world", ids);
    r.stop = &stop;
    r.n_stop = 1;
    r.max_tokens = 11;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_int_equal(x->seen[0].text.len, 11);
    assert_memory_equal(x->seen[0].text.data, "hello world", 11);
    assert_int_equal(x->seen[0].finish, FINISH_LENGTH);
    assert_string_equal(x->seen[0].stop, "");
}

static void test_min_tokens_defers_stop(void **state)
{
    struct fixture *x = *state;
    int32_t ids[8];
    struct stop_string stop = { "b", 1 };
    struct front_request r = request("a");
    script_bytes(x, "ab", ids);
    r.stop = &stop;
    r.n_stop = 1;
    r.min_tokens = 3;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_int_equal(x->seen[0].text.len, 3);
    assert_memory_equal(x->seen[0].text.data, "aba", 3);
}

/* The end token is an event, its text is not shown; ignore_eos goes past it. */
static void test_end_token(void **state)
{
    struct fixture *x = *state;
    struct front_request r = request("a");
    x->b.eos_at = 3;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_int_equal(x->seen[0].n_tokens, 3);
    assert_int_equal(x->seen[0].text.len, 2);
    assert_int_equal(x->seen[0].finish, FINISH_STOP);
    assert_int_equal(x->seen[0].stop_id, FAKE_EOS);
}

static void test_ignore_eos(void **state)
{
    struct fixture *x = *state;
    struct front_request r = request("a");
    x->b.eos_at = 3;
    r.ignore_eos = true;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_int_equal(x->seen[0].n_tokens, 8);
    assert_int_equal(x->seen[0].finish, FINISH_LENGTH);
    assert_int_equal(x->seen[0].text.len, 7); /* a control token has no text */
}

static void test_stop_ids(void **state)
{
    struct fixture *x = *state;
    int32_t ids[8], end = FAKE_BYTE0 + 'b';
    struct front_request r = request("a");
    script_bytes(x, "ab", ids);
    r.stop_ids = &end;
    r.n_stop_ids = 1;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_int_equal(x->seen[0].text.len, 1);
    assert_int_equal(x->seen[0].stop_id, end);
}

static void test_choices_differ_and_repeat(void **state)
{
    struct fixture *x = *state;
    char first[64];
    struct front_request r = request("the");
    r.n_choices = 3;
    r.sampling.temperature = 1;
    r.sampling.seed = 42;
    r.have_seed = true;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    for (int i = 0; i < 3; i++)
        assert_int_equal(x->seen[i].n_finished, 1);
    assert_memory_not_equal(x->seen[0].text.data, x->seen[1].text.data, 8);
    assert_memory_not_equal(x->seen[1].text.data, x->seen[2].text.data, 8);
    memcpy(first, x->seen[1].text.data, 8);
    assert_int_equal(x->seen[0].seed, 42);
    for (int i = 0; i < 3; i++) {
        buf_clear(&x->seen[i].text);
        x->seen[i].n_finished = 0;
    }
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_memory_equal(x->seen[1].text.data, first, 8);
}

static void test_echo(void **state)
{
    struct fixture *x = *state;
    struct front_request r = request("the fox");
    r.echo = true;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_memory_equal(x->seen[0].text.data, "the fox", 7);
    assert_int_equal(x->seen[0].text.len, 7 + 8);
    assert_true(x->seen[0].n_prompt > 1);
    assert_int_equal(x->seen[0].n_logprob, 0);
}

static void test_echo_scored_without_generation(void **state)
{
    struct fixture *x = *state;
    struct front_request r = request("the fox");
    r.echo = r.logprobs = true;
    r.n_top = 2;
    r.max_tokens = 0;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_int_equal(x->seen[0].n_tokens, 0);
    assert_int_equal(x->seen[0].n_logprob, x->seen[0].n_prompt);
    assert_int_equal(x->seen[0].finish, FINISH_LENGTH);
    assert_int_equal(x->seen[0].text.len, 7);
}

static void test_cancel(void **state)
{
    struct fixture *x = *state;
    struct front_request r = request("a");
    assert_int_equal(submit(x, &r), ERR_OK);
    fake_turn(&x->b);
    front_cancel(x->f, x->handle);
    front_cancel(x->f, x->handle);
    drain(x);
    assert_int_equal(x->n_events, 1);
    assert_int_equal(x->b.n_cancelled, 1);
}

static void test_cancel_from_its_own_event(void **state)
{
    struct fixture *x = *state;
    struct stop_string stop = { "zz", 2 };
    struct front_request r = request("a");
    r.n_choices = 4;
    r.echo = true;
    r.stop = &stop;
    r.n_stop = 1;
    for (x->cancel_after = 1; x->cancel_after < 9; x->cancel_after++) {
        x->n_events = 0;
        assert_int_equal(submit(x, &r), ERR_OK);
        drain(x);
        assert_int_equal(x->n_events, x->cancel_after);
        assert_int_equal(x->b.n_live, 0);
    }
}

static void test_failure_is_told(void **state)
{
    struct fixture *x = *state;
    struct front_request r = request("a");
    assert_int_equal(submit(x, &r), ERR_OK);
    fake_turn(&x->b);
    fake_fail_all(&x->b, ERR_PEER);
    assert_int_equal(x->seen[0].n_failed, 1);
    assert_int_equal(x->seen[0].code, ERR_PEER);
}

/* A queue that takes two of three choices takes none. */
static void test_partial_submit_is_undone(void **state)
{
    struct fixture *x = *state;
    struct front_request r = request("a");
    r.n_choices = 3;
    x->b.max_queue = 2;
    assert_int_equal(submit(x, &r), ERR_FULL);
    drain(x);
    assert_int_equal(x->n_events, 0);
    assert_int_equal(x->b.n_live, 0);
}

static void test_refusals(void **state)
{
    struct fixture *x = *state;
    struct why why;
    int32_t big = 100000, long_prompt[5000] = { 0 };
    struct front_request r = request("a"), bad;
#define REFUSED(code)                                                                          \
    assert_int_equal(front_submit(x->f, &bad, on_event, x, &x->handle, &why), (code))
    bad = r, bad.text = "\xff", bad.text_len = 1, REFUSED(ERR_INVAL);
    bad = r, bad.text = "", bad.text_len = 0, bad.add_special = false, REFUSED(ERR_INVAL);
    bad = r, bad.text = NULL, REFUSED(ERR_INVAL);
    bad = r, bad.text = NULL, bad.ids = &big, bad.n_ids = 1, REFUSED(ERR_INVAL);
    bad = r, bad.stop_ids = &big, bad.n_stop_ids = 1, REFUSED(ERR_INVAL);
    bad = r, bad.sampling.temperature = NAN, REFUSED(ERR_INVAL);
    bad = r, bad.sampling.top_p = -1, REFUSED(ERR_INVAL);
    bad = r, bad.n_top = 21, REFUSED(ERR_INVAL);
    bad = r, bad.n_choices = 0, REFUSED(ERR_INVAL);
    bad = r, bad.stop = &(struct stop_string){ "\xc3", 1 }, bad.n_stop = 1, REFUSED(ERR_INVAL);
    bad = r, bad.text = NULL, bad.ids = long_prompt, bad.n_ids = 5000, REFUSED(ERR_LIMIT);
    assert_non_null(strstr(why.text, "5000"));
    assert_non_null(strstr(why.text, "4096"));
    bad.n_ids = 4096, REFUSED(ERR_LIMIT); /* no room for one more */
    bad.max_tokens = 0, REFUSED(ERR_OK);  /* none wanted */
    drain(x);
#undef REFUSED
}

/* max_tokens beyond the context ends at the context. */
static void test_context_bounds_the_answer(void **state)
{
    struct fixture *x = *state;
    struct front_request r = request("a");
    x->b.backend.facts.max_context = 10;
    r.max_tokens = -1;
    assert_int_equal(submit(x, &r), ERR_OK);
    drain(x);
    assert_int_equal(x->seen[0].finish, FINISH_LENGTH);
    assert_in_range(x->seen[0].n_tokens, 7, 9);
}

static void test_close_with_running_requests(void **state)
{
    struct fixture *x = *state;
    struct why why;
    struct front_request r = request("a");
    r.n_choices = 2;
    assert_int_equal(submit(x, &r), ERR_OK);
    fake_turn(&x->b);
    front_close(x->f);
    drain(x);
    assert_int_equal(x->n_events, 2);
    assert_int_equal(front_open(&x->b.backend, x->tok, &x->f, &why), ERR_OK);
}

/* ---- the stop automaton alone ------------------------------------------------------------ */

static void test_stop_first_end_longest(void **state)
{
    (void)state;
    struct stop_string s[] = { { "bc", 2 }, { "abc", 3 }, { "c", 1 }, { "abcd", 4 } };
    struct stop_set *set;
    struct why why;
    uint32_t at = 0;
    int match;
    assert_int_equal(stop_open(s, 4, &set, &why), ERR_OK);
    assert_int_equal(stop_feed(set, &at, "xab", 3, &match), 3);
    assert_int_equal(match, -1);
    assert_int_equal(stop_held(set, at), 2);
    assert_int_equal(stop_feed(set, &at, "cd", 2, &match), 1);
    assert_int_equal(match, 1); /* "abc": ends where "bc" and "c" do, and is the longest */
    at = 0;
    assert_int_equal(stop_feed(set, &at, "ababx", 5, &match), 5);
    assert_int_equal(stop_held(set, at), 0);
    stop_close(set);
}

/* Against the plain definition, on random text over a small alphabet. */
static void test_stop_equals_search(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        char words[4][6], text[40];
        struct stop_string s[4];
        struct stop_set *set;
        struct why why;
        uint32_t at = 0;
        int match, want = -1, want_end = 40;
        for (int i = 0; i < 4; i++) {
            int len = 1 + (int)((seed = fake_mix(seed + 1)) % 5);
            for (int j = 0; j < len; j++)
                words[i][j] = (char)('a' + (seed = fake_mix(seed + 1)) % 2);
            s[i] = (struct stop_string){ words[i], (size_t)len };
        }
        for (int i = 0; i < 40; i++)
            text[i] = (char)('a' + (seed = fake_mix(seed + 1)) % 3);
        for (int end = 1; end <= 40 && want < 0; end++)
            for (int i = 0; i < 4; i++)
                if ((int)s[i].len <= end && memcmp(text + end - s[i].len, words[i], s[i].len) == 0 &&
                    (want < 0 || s[i].len > s[want].len)) {
                    want = i;
                    want_end = end;
                }
        assert_int_equal(stop_open(s, 4, &set, &why), ERR_OK);
        assert_int_equal(stop_feed(set, &at, text, 40, &match), want_end);
        if (want >= 0)
            assert_int_equal(s[match].len, s[want].len);
        else
            assert_int_equal(match, -1);
        stop_close(set);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_plain_text), T(test_utf8_over_byte_tokens), T(test_stop_across_tokens), T(test_held_tail),
        T(test_min_tokens_defers_stop), T(test_end_token), T(test_ignore_eos), T(test_stop_ids),
        T(test_choices_differ_and_repeat), T(test_echo), T(test_echo_scored_without_generation),
        T(test_cancel), T(test_cancel_from_its_own_event), T(test_failure_is_told),
        T(test_partial_submit_is_undone), T(test_refusals), T(test_context_bounds_the_answer),
        T(test_close_with_running_requests),
        cmocka_unit_test(test_stop_first_end_longest), cmocka_unit_test(test_stop_equals_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
