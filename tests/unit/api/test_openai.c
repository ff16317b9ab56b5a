/* test_openai.c - OpenAI's shapes in C: defaults, logprobs objects, errors, tokenizer
 * answers. Bad requests are in tests/api/test_completions.py, which sees them as
 * clients do, and in the fuzzer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>

#include "api/openai.h"

#define TEXT(s) ((struct openai_text){ (s), sizeof(s) - 1 })

static struct openai_completion parsed(const char *body)
{
    struct openai_completion r;
    struct fault fault = { 0 };
    if (openai_completion_parse(body, strlen(body), &r, &fault) != ERR_OK)
        fail_msg("%s", fault.why.text);
    return r;
}

static json_t *json_of(struct buf *b)
{
    json_error_t at;
    json_t *v;
    assert_false(b->failed);
    v = json_loadb(b->data, b->len, JSON_REJECT_DUPLICATES, &at);
    if (!v)
        fail_msg("%s in %s", at.text, b->data);
    buf_fini(b);
    return v;
}

static void test_defaults(void **state)
{
    (void)state;
    struct openai_completion r = parsed("{\"prompt\":\"x\",\"stop\":null,\"unknown\":[1]}");
    assert_null(r.model.text);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.best_of, 1);
    assert_int_equal(r.max_tokens, 16);
    assert_int_equal(r.logprobs, -1);
    assert_false(r.have_seed);
    assert_true(r.add_special_tokens);
    assert_true(r.temperature == 1 && r.top_p == 1 && r.repetition_penalty == 1);
    openai_completion_fini(&r);
}

static void test_prompt_shapes(void **state)
{
    (void)state;
    struct openai_completion r = parsed("{\"prompt\":\"a\\u0000b\"}");
    assert_int_equal(r.prompts[0].text.len, 3);
    openai_completion_fini(&r);
    r = parsed("{\"prompt\":[\"a\",\"\"]}");
    assert_int_equal(r.n_prompts, 2);
    openai_completion_fini(&r);
    r = parsed("{\"prompt\":[7,8]}");
    assert_int_equal(r.n_prompts, 1);
    assert_int_equal(r.prompts[0].n_ids, 2);
    openai_completion_fini(&r);
    r = parsed("{\"prompt\":[[7],[8,9,10]]}");
    assert_int_equal(r.n_prompts, 2);
    assert_int_equal(r.prompts[1].ids[2], 10);
    openai_completion_fini(&r);
}

static void test_every_field(void **state)
{
    (void)state;
    struct openai_completion r =
        parsed("{\"prompt\":\"x\",\"model\":\"m\",\"n\":2,\"best_of\":4,\"max_tokens\":0,\"logprobs\":0,\"echo\":true,"
               "\"stop\":[\"a\",\"\",\"bc\"],\"seed\":-3,\"temperature\":0,\"top_p\":0,\"top_k\":-1,\"min_p\":0.25,"
               "\"presence_penalty\":-2,\"frequency_penalty\":2,\"repetition_penalty\":1.5,\"logit_bias\":{\"17\":-100},"
               "\"ignore_eos\":true,\"return_token_ids\":true,\"stop_token_ids\":[4],\"priority\":-9,\"user\":\"u\"}");
    assert_int_equal(r.best_of, 4);
    assert_int_equal(r.n_stop, 2);
    assert_string_equal(r.stop[1].text, "bc");
    assert_true(r.have_seed && r.seed == -3);
    assert_true(r.top_p > 0 && r.top_p < 1e-30f);
    assert_int_equal(r.top_k, 0);
    assert_int_equal(r.bias[0].token, 17);
    assert_int_equal(r.priority, -9);
    assert_int_equal(r.logprobs, 0);
    openai_completion_fini(&r);
}

/* Two alternatives that decode to the token's own text, halves of characters, -inf. */
static void test_logprobs_object(void **state)
{
    (void)state;
    struct openai_logprobs lp = { 0 };
    struct openai_top top[] = { { 3, -0.5f, TEXT("a") }, { 4, -0.75f, TEXT("a") }, { 5, -INFINITY, TEXT("\xe2\x82") },
                                { 6, -1, TEXT("\"\n") } };
    struct openai_choice c = { .text = TEXT("aa"), .logprobs = &lp, .stop_id = -1 };
    struct openai_head head = { .id = "i", .object = "text_completion", .model = "m" };
    struct buf out = { 0 };
    openai_logprobs_add(&lp, &(struct openai_token){ .id = 1, .bytes = TEXT("<s>"), .logprob = NAN });
    openai_logprobs_add(&lp, &(struct openai_token){ .id = 9, .bytes = TEXT("a"), .logprob = -0.1f, .offset = 2,
                                                     .n_top = 4, .top = top });
    openai_put_completion(&out, &head, &c, 1, NULL);
    json_t *root = json_of(&out), *l, *t;
    l = json_object_get(json_array_get(json_object_get(root, "choices"), 0), "logprobs");
    assert_true(json_is_null(json_array_get(json_object_get(l, "token_logprobs"), 0)));
    assert_true(json_is_null(json_array_get(json_object_get(l, "top_logprobs"), 0)));
    t = json_array_get(json_object_get(l, "top_logprobs"), 1);
    assert_int_equal(json_object_size(t), 5);
    assert_true(json_real_value(json_object_get(t, "a")) ==
                json_real_value(json_array_get(json_object_get(l, "token_logprobs"), 1)));
    assert_non_null(json_object_get(t, "token_id:3"));
    assert_non_null(json_object_get(t, "token_id:4"));
    assert_non_null(json_object_get(t, "\"\n"));
    assert_true(json_real_value(json_object_get(t, "bytes:\\xe2\\x82")) == -9999.0);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(l, "text_offset"), 1)), 2);
    json_decref(root);
    openai_logprobs_fini(&lp);
}

/* Nine digits name every float exactly. */
static void test_logprob_digits(void **state)
{
    (void)state;
    for (uint32_t bits = 0x80000001u; bits < 0xff000000u; bits += 0x10101u * 7) {
        float x;
        struct buf out = { 0 };
        memcpy(&x, &bits, sizeof x);
        openai_put_logprob(&out, x);
        assert_true(strtof(out.data, NULL) == x);
        buf_fini(&out);
    }
}

static void test_choice_fields(void **state)
{
    (void)state;
    static const int32_t ids[] = { 1, 2 };
    struct openai_text stop = TEXT("END");
    struct openai_choice c[] = {
        { .index = 0, .text = TEXT("\xff\xe2\x82\xac"), .finish_reason = "stop", .stop = &stop, .stop_id = -1 },
        { .index = 1, .finish_reason = "stop", .stop_id = 7, .token_ids = ids, .n_token_ids = 2, .prompt_ids = ids,
          .n_prompt_ids = 1 },
    };
    struct openai_head head = { .id = "i", .object = "text_completion", .model = "m\"", .created = 5 };
    struct openai_usage usage = { .prompt_tokens = 3, .completion_tokens = 4, .cached_tokens = 1 };
    struct buf out = { 0 };
    openai_put_completion(&out, &head, c, 2, &usage);
    json_t *root = json_of(&out), *list = json_object_get(root, "choices");
    assert_string_equal(json_string_value(json_object_get(root, "model")), "m\"");
    assert_true(json_is_null(json_object_get(root, "system_fingerprint")));
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "text")), "\xef\xbf\xbd\xe2\x82\xac");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "stop_reason")), "END");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 1), "stop_reason")), 7);
    assert_int_equal(json_array_size(json_object_get(json_array_get(list, 1), "token_ids")), 2);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "usage"), "total_tokens")), 7);
    json_decref(root);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        err code;
        int status;
    } rows[] = { { ERR_INVAL, 400 },    { ERR_FORMAT, 400 },  { ERR_UNSUPPORTED, 400 }, { ERR_LIMIT, 400 },
                 { ERR_NOTFOUND, 404 }, { ERR_FULL, 429 },    { ERR_PEER, 503 },        { ERR_TIMEOUT, 503 },
                 { ERR_NOMEM, 500 },    { ERR_IO, 500 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(openai_status(rows[i].code), rows[i].status);
    struct buf out = { 0 };
    openai_put_error(&out, 429, "say \"later\"", NULL, "x");
    json_t *root = json_of(&out), *e = json_object_get(root, "error");
    assert_string_equal(json_string_value(json_object_get(e, "message")), "say \"later\"");
    assert_string_equal(json_string_value(json_object_get(e, "type")), "rate_limit_error");
    assert_true(json_is_null(json_object_get(e, "param")));
    json_decref(root);
}

static void test_tokenizer_answers(void **state)
{
    (void)state;
    static const int32_t ids[] = { 5, 6 };
    struct openai_text strs[] = { TEXT("a"), { NULL, 0 } }, none = { 0 };
    struct buf out = { 0 };
    openai_put_tokenized(&out, NULL, strs, 0, 9);
    json_decref(json_of(&out));
    openai_put_tokenized(&out, ids, strs, 2, 9);
    json_t *root = json_of(&out);
    assert_int_equal(json_array_size(json_object_get(root, "token_strs")), 2);
    json_decref(root);
    openai_put_tokenizer_info(&out, TEXT("<s>"), TEXT("</s>"), none, none, 9);
    root = json_of(&out);
    assert_string_equal(json_string_value(json_object_get(root, "eos_token")), "</s>");
    assert_true(json_is_null(json_object_get(root, "pad_token")));
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),        cmocka_unit_test(test_prompt_shapes),
        cmocka_unit_test(test_every_field),     cmocka_unit_test(test_logprobs_object),
        cmocka_unit_test(test_logprob_digits),  cmocka_unit_test(test_choice_fields),
        cmocka_unit_test(test_errors),          cmocka_unit_test(test_tokenizer_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
