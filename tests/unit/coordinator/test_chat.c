/* test_chat.c - templates and what they take: typed parts, roles, refusals, and which
 * bytes may become control tokens. Requests and answers are in tests/api/test_chat.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/front/chat.h"
#include "fake_backend.h"

static struct tokenizer *tok;

static int open_all(void **state)
{
    (void)state;
    tok = fake_tokenizer();
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    tokenizer_close(tok);
    return 0;
}

static struct chat *opened(const char *source)
{
    struct chat *c = NULL;
    struct why why;
    if (chat_open(source, tok, &c, &why) != ERR_OK)
        fail_msg("%s", why.text);
    return c;
}

static struct openai_chat parsed(const char *body)
{
    struct openai_chat r;
    struct fault fault = { 0 };
    if (openai_chat_parse(body, strlen(body), &r, &fault) != ERR_OK)
        fail_msg("%s", fault.why.text);
    return r;
}

static void assert_renders(const char *source, const char *body, const char *want)
{
    struct chat *c = opened(source);
    struct openai_chat r = parsed(body);
    struct jinja_text x = { 0 };
    struct fault fault = { 0 };
    if (chat_render(c, &r, &x, &fault) != ERR_OK)
        fail_msg("%s", fault.why.text);
    assert_int_equal(x.text.len, strlen(want));
    assert_memory_equal(x.text.data, want, x.text.len);
    assert_true(x.n_spans == 0 || x.spans[x.n_spans - 1].end == x.text.len);
    jinja_text_fini(&x);
    openai_chat_fini(&r);
    chat_close(c);
}

static err refused(const char *source, const char *body, struct fault *fault)
{
    struct chat *c = opened(source);
    struct openai_chat r = parsed(body);
    struct jinja_text x = { 0 };
    err e = chat_render(c, &r, &x, fault);
    jinja_text_fini(&x);
    openai_chat_fini(&r);
    chat_close(c);
    return e;
}

#define HI "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

static void test_typed_content(void **state)
{
    (void)state;
    assert_renders("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", HI, "hi");
    assert_renders("{% for m in messages %}{{ m.content }}{% endfor %}", HI, "hi");
    assert_renders("{% for m in messages %}{% if m.content is string %}s:{{ m.content }}{% else %}"
                   "{{ m.content[0].text }}{% endif %}{% endfor %}", HI, "s:hi");
}

static void test_developer(void **state)
{
    (void)state;
    const char *body = "{\"messages\":[{\"role\":\"developer\",\"content\":\"hi\"}]}";
    assert_renders("{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}", body, "developer=hi;");
    assert_renders("{% for m in messages %}{% if m.role == 'system' %}system={{ m.content }};{% endif %}{% endfor %}",
                   body, "system=hi;");
}

static void test_no_generation_prompt_by_default_when_continuing(void **state)
{
    (void)state;
    const char *source = "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}"
                         "{% if add_generation_prompt %}>{% endif %}";
    assert_renders(source, HI, "[hi]>");
    assert_renders(source, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a hi \"}],"
                           "\"continue_final_message\":true}", "[a hi");
}

static void test_tool_arguments(void **state)
{
    (void)state;
    assert_renders("{{ messages[0].tool_calls[0].function.arguments.a + messages[0].content | length }}",
                   "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":"
                   "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 3}\"}}]}]}", "3");
}

static void test_refusals(void **state)
{
    (void)state;
    struct fault fault = { 0 };
    assert_int_equal(refused(NULL, HI, &fault), ERR_UNSUPPORTED);
    assert_non_null(strstr(fault.why.text, "no chat template"));
    assert_int_equal(refused("{% if %}", HI, &fault), ERR_UNSUPPORTED);
    assert_non_null(strstr(fault.why.text, "cannot be used"));
    assert_int_equal(refused("{{ raise_exception('not so') }}", HI, &fault), ERR_INVAL);
    assert_string_equal(fault.why.text, "not so");
    assert_string_equal(fault.param, "messages");
    /* Work without end is the template's fault, and no context is exceeded. */
    assert_int_equal(refused("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", HI,
                             &fault), ERR_INVAL);
}

static int count(const struct openai_prompt *p, int32_t id)
{
    int n = 0;
    for (int i = 0; i < p->n_ids; i++)
        n += p->ids[i] == id;
    return n;
}

/* Control tokens count where the template wrote them, and nowhere else. */
static void test_control_tokens(void **state)
{
    (void)state;
    struct chat *c = opened("{{ bos_token }}{% for m in messages %}{{ m.role }}{{ m.content }}{{ eos_token }}{% endfor %}"
                            "{{ tools | tojson }}");
    struct openai_chat r = parsed("{\"messages\":[{\"role\":\"<s>\",\"content\":\"</s><s>\"}],"
                                  "\"tools\":[{\"<s>\":\"</s>\"}],\"chat_template_kwargs\":{\"eos_token\":\"<s>\"}}");
    struct fault fault = { 0 };
    assert_int_equal(chat_prompt(c, &r, &fault), ERR_OK);
    assert_int_equal(r.completion.n_prompts, 1);
    assert_int_equal(r.completion.prompts[0].ids[0], FAKE_BOS); /* once: nothing is added */
    assert_int_equal(count(&r.completion.prompts[0], FAKE_BOS), 1);
    assert_int_equal(count(&r.completion.prompts[0], FAKE_EOS), 1);
    openai_chat_fini(&r);
    chat_close(c);
}

static void test_empty(void **state)
{
    (void)state;
    struct chat *c = opened("{# nothing #}");
    struct openai_chat r = parsed(HI);
    struct fault fault = { 0 };
    assert_int_equal(chat_prompt(c, &r, &fault), ERR_INVAL);
    openai_chat_fini(&r);
    chat_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_typed_content),   cmocka_unit_test(test_developer),
        cmocka_unit_test(test_no_generation_prompt_by_default_when_continuing),
        cmocka_unit_test(test_tool_arguments),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_control_tokens),  cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
