/* test_jinja.c - what the interpreter promises beyond text: marks, limits, errors,
 * threads. What templates print is tested against Jinja itself, in
 * tests/api/test_templates.py. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "api/jinja_chat.h"

static struct jinja *open_template(const char *source)
{
    struct jinja *t = NULL;
    struct why why = {0};
    int line = 0;
    err e = jinja_open(source, strlen(source), &t, &line, &why);
    if (e)
        fail_msg("line %d: %s", line, why.text);
    return t;
}

/* Renders with {"messages": [{"role": "user", "content": content}]} and checks the
 * text, where the user's parts stand in «» in `want`. */
static void check_marks(const char *template, const char *content, const char *want)
{
    struct jinja *t = open_template(template);
    struct jinja_options o = {0};
    struct jinja_text x;
    struct why why = {0};
    struct buf got;
    int line = 0;
    json_t *model = json_pack("{s:s}", "bos_token", "<s>");
    json_t *request =
        json_pack("{s:[{s:s,s:s}],s:s}", "messages", "role", "user", "content", content, "u", "U");

    err e = jinja_render_chat(t, request, model, &o, &x, &line, &why);
    if (e)
        fail_msg("%s: line %d: %s", template, line, why.text);
    buf_init(&got);
    for (size_t i = 0; i < x.n_spans; i++) {
        const char *quote[2] = {x.spans[i].from_user ? "«" : "", x.spans[i].from_user ? "»" : ""};
        buf_puts(&got, quote[0]);
        buf_put(&got, x.text.data + x.spans[i].start, x.spans[i].end - x.spans[i].start);
        buf_puts(&got, quote[1]);
    }
    assert_string_equal(got.data ? got.data : "", want);
    buf_fini(&got);
    jinja_text_fini(&x);
    json_decref(request);
    json_decref(model);
    jinja_close(t);
}

static void marks_survive(void **state)
{
    (void)state;
    static const char content[] = " ab<cd> ";
#define C "messages[0].content"
    check_marks("{{ " C " }}", content, "« ab<cd> »");
    check_marks("<{{ " C " | trim }}>", content, "<«ab<cd>»>");
    check_marks("{{ bos_token + " C ".strip() + '!' }}", content, "<s>«ab<cd>»!");
    check_marks("{{ 'x' ~ " C "[3:5] ~ 'y' }}", content, "x«<c»y");
    check_marks("{{ (" C " + 'tail')[::-1] }}", content, "liat« >dc<ba »");
    check_marks("{{ " C ".replace('<', '|') | upper }}", content, "« AB»|«CD> »");
    check_marks("{{ " C ".split('<')[1] }}", content, "«cd> »");
    check_marks("{{ [1, " C ".strip()] | join(',') }}", content, "1,«ab<cd>»");
    check_marks("{{ ['a', " C "] | tojson }}", content, "[\"a\", \"« ab<cd> »\"]");
    check_marks("{{ '%s|%s' % (u, 'k') }}{{ '{}{}'.format('p', u) }}", content, "«U»|kp«U»");
    check_marks("{{ {u: [u]} }}", content, "{'«U»': ['«U»']}");
    check_marks("{% set x %}({{ u }}){% endset %}{{ x | indent(2, true) }}", content, "  («U»)");
    check_marks("{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m(u) ~ m('v') }}", content, "[«U»][v]");
    check_marks("{% for c in " C ".strip() %}{{ c }}{{ '.' if loop.first }}{% endfor %}", content,
                "«a».«b<cd>»");
    check_marks("{{ u | escape }}{{ '<' | escape }}{{ " C " | escape }}", content, "«U»&lt;« ab&lt;cd&gt; »");
    check_marks("{{ messages | map(attribute='role') | list | first | capitalize }}", content, "«User»");
    check_marks("{% set ns = namespace(t='') %}{% for i in range(3) %}{% set ns.t = ns.t + u + '-' %}{% "
                "endfor %}{{ ns.t }}",
                content, "«U»-«U»-«U»-");
    check_marks("{{ u if u == 'U' else 'no' }}{{ 'U' if u in 'U' }}", content, "«U»U");
#undef C
}

/* Two strings that grow from one do not see each other. */
static void growing_strings_do_not_share(void **state)
{
    (void)state;
    check_marks("{% set a = 'x' + 'y' %}{% set b = a + '1' %}{% set c = a + '2' %}{% set d = b + '3' %}"
                "{{ a }} {{ b }} {{ c }} {{ d }} {{ (a + u)[1:] }} {{ a + 'z' }}",
                "", "xy xy1 xy2 xy13 y«U» xyz");
}

static err render(const char *template, struct jinja_limits limits, struct why *why, int *line)
{
    struct jinja *t = NULL;
    struct jinja_options o = {.limits = limits};
    struct jinja_text x;
    err e = jinja_open(template, strlen(template), &t, line, why);
    if (!e)
        e = jinja_render(t, NULL, 0, &o, &x, line, why);
    if (!e)
        jinja_text_fini(&x);
    jinja_close(t);
    return e;
}

static void limits_hold(void **state)
{
    static const struct {
        const char *template;
        struct jinja_limits limits;
    } rows[] = {
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", {0}},
        {"{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
         {0}},
        {"{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
         {0}},
        {"{{ 'ab' * 999999999999 }}", {0}},
        {"{{ [1] * 999999999999 }}", {0}},
        {"{% for a in range(99999) %}{{ 'abc' * 10000 }}{% endfor %}", {0}},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", {0}},
        {"{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}", {0}},
        {"{{ 'x' | indent(999999999999, true) }}", {0}},
        {"{{ [[]] | tojson(indent=999999999999) }}", {0}},
        {"{{ 'x' | center(999999999999) }}", {0}},
        {"{% for a in range(500) %}{% endfor %}", {.max_steps = 400}},
        {"{{ 'x' * 101 }}", {.max_output = 100}},
        {"{{ [[[[[[1]]]]]] }}", {.max_depth = 5}},
        {"{{ 'x' * 10000 }}", {.max_bytes = 8000}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct why why = {0};
        int line = 0;
        if (render(rows[i].template, rows[i].limits, &why, &line) != ERR_LIMIT)
            fail_msg("%s: %s", rows[i].template, why.text);
    }
}

static void deep_sources_are_refused(void **state)
{
    static const char *const units[][2] = {{"(", ")"},   {"[", "]"},  {"-", ""},
                                           {"not ", ""}, {"x[", "]"}, {"x|d(", ")"}};
    (void)state;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        struct why why;
        struct buf b;
        int line;
        buf_init(&b);
        buf_puts(&b, "{{ ");
        for (int k = 0; k < 5000; k++)
            buf_puts(&b, units[i][0]);
        buf_puts(&b, "1");
        for (int k = 0; k < 5000; k++)
            buf_puts(&b, units[i][1]);
        buf_puts(&b, " }}");
        assert_int_not_equal(render(b.data, (struct jinja_limits){0}, &why, &line), ERR_OK);
        buf_fini(&b);
    }
}

static void errors_name_the_line(void **state)
{
    struct why why = {0};
    int line = 0;
    struct jinja_limits none = {0};
    (void)state;
    assert_int_equal(render("a\nb\n{{ raise_exception('no ' ~ 'good') }}", none, &why, &line), ERR_INVAL);
    assert_string_equal(why.text, "no good");
    assert_int_equal(line, 3);
    assert_int_equal(render("a\n{{ missing.x }}", none, &why, &line), ERR_INVAL);
    assert_string_equal(why.text, "'missing' is undefined");
    assert_int_equal(line, 2);
    assert_int_equal(render("a\n\n\n{{ 1 + }}", none, &why, &line), ERR_FORMAT);
    assert_int_equal(line, 4);
    assert_int_equal(render("a\n{% include 'x' %}", none, &why, &line), ERR_UNSUPPORTED);
    assert_int_equal(line, 2);
}

static void chat_variables(void **state)
{
    struct jinja *t = open_template(
        "{{ tools }},{{ documents }},{{ add_generation_prompt }},{{ messages[0] }},{{ bos_token }}");
    struct jinja_options o = {0};
    struct jinja_text x;
    json_t *model = json_pack("{s:s}", "bos_token", "<s>");
    json_t *request =
        json_pack("{s:[{s:s,s:s}],s:s}", "messages", "role", "r", "reasoning", "why", "bos_token", "<evil>");
    (void)state;
    assert_int_equal(jinja_render_chat(t, request, model, &o, &x, NULL, NULL), ERR_OK);
    assert_string_equal(x.text.data, "None,None,False,{'thinking': 'why', 'role': 'r', 'reasoning': 'why', "
                                     "'reasoning_content': 'why'},<s>");
    assert_false(x.spans[x.n_spans - 1].from_user); /* the model's token, not the request's */
    jinja_text_fini(&x);
    json_decref(request);

    request = json_pack("{s:[i]}", "messages", 1);
    assert_int_equal(jinja_render_chat(t, request, model, &o, &x, NULL, NULL), ERR_INVAL);
    json_decref(request);
    json_decref(model);
    jinja_close(t);
}

static void times(void **state)
{
    struct tm t;
    struct why why;
    (void)state;
    assert_int_equal(jinja_parse_time("2024-07-26T12:34:56.789", &t, &why), ERR_OK);
    assert_int_equal(t.tm_wday, 5);
    assert_int_equal(t.tm_yday, 207);
    assert_int_equal(t.tm_hour, 12);
    assert_int_equal(jinja_parse_time("2024-02-29", &t, &why), ERR_OK);
    assert_int_equal(jinja_parse_time("yesterday", &t, &why), ERR_INVAL);
    assert_int_equal(jinja_parse_time("2024-07-26T12:34", &t, &why), ERR_INVAL);
}

static void *render_often(void *arg)
{
    const struct jinja *t = arg;
    struct jinja_options o = {0};
    for (int i = 0; i < 50; i++) {
        struct jinja_text x;
        json_t *n = json_integer(i);
        char want[32];
        snprintf(want, sizeof want, "ab-ab%d", i);
        struct jinja_var var = {"n", n, true};
        if (jinja_render(t, &var, 1, &o, &x, NULL, NULL) != ERR_OK || strcmp(x.text.data, want) != 0)
            return arg;
        jinja_text_fini(&x);
        json_decref(n);
    }
    return NULL;
}

/* The tree is shared and never written to, growable constants included. */
static void threads_share_a_template(void **state)
{
    struct jinja *t = open_template("{% set x = 'a' 'b' %}{% set y = x + '-' %}{{ y + x ~ n }}");
    pthread_t thread[4];
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, render_often, t), 0);
    for (int i = 0; i < 4; i++) {
        void *bad = t;
        pthread_join(thread[i], &bad);
        assert_null(bad);
    }
    jinja_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_survive),
        cmocka_unit_test(growing_strings_do_not_share),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(deep_sources_are_refused),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(chat_variables),
        cmocka_unit_test(times),
        cmocka_unit_test(threads_share_a_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
