/* test_log.c - line format, levels and the sink. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/log.h"

struct capture {
    int n;
    enum log_level level;
    char line[4096];
};

static void keep(void *ctx, enum log_level level, const char *line)
{
    struct capture *c = ctx;
    c->n++;
    c->level = level;
    snprintf(c->line, sizeof c->line, "%s", line);
}

static void test_text(void **state)
{
    (void)state;
    static struct capture c;
    log_init("rank 2", LOG_INFO, false);
    log_set_sink(keep, &c);
    log_debug("dropped");
    assert_int_equal(c.n, 0);
    log_warn("layer %d", 7);
    assert_int_equal(c.n, 1);
    assert_int_equal(c.level, LOG_WARN);
    int h, m, s, ms;
    assert_int_equal(sscanf(c.line, "%2d:%2d:%2d.%3d WARN", &h, &m, &s, &ms), 4);
    assert_string_equal(c.line + 12, " WARN  rank 2: layer 7");

    log_error("a\nforged\x1b[1m line");
    assert_null(strchr(c.line, '\n'));
    assert_null(strchr(c.line, '\x1b'));
    log_set_sink(NULL, NULL);
}

static void test_json(void **state)
{
    (void)state;
    static struct capture c;
    log_init("serve", LOG_DEBUG, true);
    log_set_sink(keep, &c);
    log_debug("say \"hi\"\n");
    json_t *j = json_loads(c.line, 0, NULL);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "level")), "debug");
    assert_string_equal(json_string_value(json_object_get(j, "who")), "serve");
    assert_string_equal(json_string_value(json_object_get(j, "text")), "say \"hi\"\n");
    json_decref(j);
    log_set_sink(NULL, NULL);
}

static void test_long_text_is_cut(void **state)
{
    (void)state;
    static struct capture c;
    static char big[10000];
    memset(big, 'x', sizeof big - 1);
    log_init("a name much longer than thirty-one bytes", LOG_DEBUG, false);
    log_set_sink(keep, &c);
    log_info("%s", big);
    assert_true(strlen(c.line) < 2200);
    assert_non_null(strstr(c.line, "a name much longer than thirty-: xxx"));
    log_set_sink(NULL, NULL);
    log_init("test", LOG_INFO, false);
}

static void test_level_parse(void **state)
{
    (void)state;
    enum log_level level = LOG_ERROR;
    struct why why;
    assert_int_equal(log_level_parse("debug", &level, &why), ERR_OK);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_parse("loud", &level, &why), ERR_INVAL);
    assert_int_equal(level, LOG_DEBUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_long_text_is_cut),
        cmocka_unit_test(test_level_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
