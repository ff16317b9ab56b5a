/* Scores, standard errors, paired comparison, energy counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/batch/energy.h"
#include "coordinator/batch/eval_score.h"
#include "coordinator/batch/run_report.h"

static void add(struct eval_score *s, const char *line)
{
    struct why why;
    if (eval_score_add(s, line, strlen(line), &why) != ERR_OK)
        fail_msg("%s", why.text);
}

static void scores_have_errors_and_groups(void **state)
{
    struct eval_score s = { 0 };
    struct buf json = { 0 };
    (void)state;
    add(&s, "{\"id\":1,\"group\":\"b\",\"acc\":1,\"acc_norm\":0}");
    add(&s, "{\"id\":2,\"group\":\"a\",\"acc\":1,\"acc_norm\":1}");
    add(&s, "{\"id\":3,\"group\":\"b\",\"acc\":0,\"acc_norm\":0}");
    add(&s, "{\"id\":4,\"acc\":1,\"acc_norm\":1}");
    add(&s, "{\"id\":5,\"error\":\"too long\"}");
    assert_int_equal(s.all.n, 4);
    assert_int_equal(s.n_failed, 1);
    assert_int_equal(s.n_groups, 2);
    assert_string_equal(s.groups[0].name, "a");
    eval_score_json(&s, &json);
    assert_non_null(strstr(json.data, "\"acc\":0.75,\"acc_stderr\":0.25,\"acc_norm\":0.5,")); /* sqrt(.75 * .25 / 3) */
    assert_non_null(strstr(json.data, "\"group_gap\":0.5}"));
    assert_int_equal(eval_score_add(&s, "[]", 2, NULL), ERR_FORMAT);
    buf_fini(&json);
    eval_score_fini(&s);
}

/* Values by hand: the binomial's tail, doubled. */
static void mcnemar_is_exact(void **state)
{
    (void)state;
    assert_true(fabs(eval_mcnemar(0, 0) - 1) < 1e-12);
    assert_true(fabs(eval_mcnemar(0, 1) - 1) < 1e-12);
    assert_true(fabs(eval_mcnemar(1, 9) - 2 * 11 / 1024.0) < 1e-12);
    assert_true(fabs(eval_mcnemar(9, 1) - 2 * 11 / 1024.0) < 1e-12);
    assert_true(eval_mcnemar(20000, 20400) < 0.05 && eval_mcnemar(20000, 20400) > 0.04);
}

static void put(const char *dir, const char *name, const char *value)
{
    char path[256];
    snprintf(path, sizeof path, "%s/intel-rapl:0/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(value, f);
    fclose(f);
}

static void energy_survives_the_wrap(void **state)
{
    char dir[] = "/tmp/cordee-energy-XXXXXX", path[256];
    struct energy e;
    (void)state;
    assert_non_null(mkdtemp(dir));
    energy_init(&e, dir);
    assert_int_equal(e.n, 0);
    snprintf(path, sizeof path, "%s/intel-rapl:0", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    put(dir, "max_energy_range_uj", "10000000\n");
    put(dir, "energy_uj", "9000000\n");
    energy_init(&e, dir);
    assert_int_equal(e.n, 1);
    put(dir, "energy_uj", "9500000\n");
    energy_update(&e, dir);
    put(dir, "energy_uj", "500000\n");
    energy_update(&e, dir);
    assert_true(fabs(e.joules - 1.5) < 1e-9);
    snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", dir);
    unlink(path);
    energy_update(&e, dir); /* gone: what was counted stays */
    assert_true(fabs(e.joules - 1.5) < 1e-9);
    snprintf(path, sizeof path, "%s/intel-rapl:0/max_energy_range_uj", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/intel-rapl:0", dir);
    rmdir(path);
    rmdir(dir);
}

/* 2 nodes for an hour each way of saying it, 1,000 tokens in all. */
static void reports_label_their_figures(void **state)
{
    struct run_report r = {
        .command = "batch", .model = "m", .fingerprint = "f", .nodes = 2, .node_hour = 3, .kwh = 0.5, .watts = 100,
        .totals = { .n_items = 2, .n_ok = 2, .prompt_tokens = 900, .completion_tokens = 100, .wall_s = 1800,
                    .node_s = 3600, .latency_p50_s = (double)NAN, .latency_p99_s = (double)NAN },
    };
    struct buf out = { 0 };
    (void)state;
    run_report_json(&r, &out);
    assert_non_null(strstr(out.data, "\"node_hours\":{\"value\":1,\"basis\":\"measured\"}"));
    assert_non_null(strstr(out.data, "\"energy_kj_per_1k_tokens\":{\"value\":360,\"basis\":\"estimated\"}"));
    assert_non_null(strstr(out.data, "\"cost\":{\"value\":3.05,\"basis\":\"estimated\"}"));
    assert_non_null(strstr(out.data, "\"latency_p50_s\":null"));
    buf_clear(&out);
    r.nodes = 1;
    r.energy.joules = 7200; /* measured on the one node: counts before the estimate */
    run_report_text(&r, &out);
    assert_non_null(strstr(out.data, "7.2 kJ         measured"));
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_have_errors_and_groups),
        cmocka_unit_test(mcnemar_is_exact),
        cmocka_unit_test(energy_survives_the_wrap),
        cmocka_unit_test(reports_label_their_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
