/* The batch with a work of its own: order, windows, retries, stops, and runs that end at
 * every possible number of results and go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <event2/event.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/batch/batch.h"
#include "coordinator/batch/runlog.h"

enum { N = 40, WINDOW = 6 };

static char dir[] = "/tmp/cordee-batch-XXXXXX", log_path[64], out_path[64], err_path[64];
static const char manifest[] = "{\"command\":\"test\"}";

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(log_path, sizeof log_path, "%s/journal", dir);
    snprintf(out_path, sizeof out_path, "%s/out", dir);
    snprintf(err_path, sizeof err_path, "%s/err", dir);
    return 0;
}

static void clear(void)
{
    unlink(log_path);
    unlink(out_path);
    unlink(err_path);
}

static int tear_down(void **state)
{
    (void)state;
    clear();
    return rmdir(dir);
}

/* ---- a work whose items wait until the test ends them ---------------------------------- */

struct work {
    struct event_base *base;
    struct batch *b;
    bool live[N];
    int begun[N], n_live, most_live;
    int full_after; /* items that begin before there is no room; -1: always room */
};
struct job {
    struct work *w;
    int64_t i;
};

/* Items that 7 divides are refused at once, as a bad line is. */
static void finish(struct work *w, int64_t i)
{
    char line[64];
    int n = snprintf(line, sizeof line, "{\"item\":%d}", (int)i);
    struct batch_result r = { .ok = i % 7 != 0, .line = line, .len = (size_t)n, .prompt_tokens = 10,
                              .completion_tokens = 1, .cached_tokens = 4 };
    batch_finish(w->b, i, &r);
}

static err begin(void *ctx, struct batch *b, int64_t i, void **job, struct why *why)
{
    struct work *w = ctx;
    w->b = b;
    if (w->full_after == 0)
        return why_set(why, ERR_FULL, "no room");
    w->full_after -= w->full_after > 0;
    w->begun[i]++;
    if (i % 7 == 0) {
        finish(w, i);
        return ERR_OK;
    }
    struct job *j = malloc(sizeof *j);
    assert_non_null(j);
    *j = (struct job){ w, i };
    assert_false(w->live[i]);
    w->live[i] = true;
    if (++w->n_live > w->most_live)
        w->most_live = w->n_live;
    *job = j;
    return ERR_OK;
}

static struct job *jobs[N]; /* of live items, as cancel gets them */

static err begin_kept(void *ctx, struct batch *b, int64_t i, void **job, struct why *why)
{
    err e = begin(ctx, b, i, job, why);
    jobs[i] = e == ERR_OK ? *job : NULL;
    return e;
}

static void release(struct work *w, int64_t i)
{
    assert_true(w->live[i]);
    w->live[i] = false;
    w->n_live--;
    free(jobs[i]);
    jobs[i] = NULL;
}

static void cancel(void *ctx, void *job)
{
    struct job *j = job;
    release(ctx, j->i);
}

static struct batch *open_batch(struct work *w, bool ordered)
{
    struct why why;
    struct batch *b = NULL;
    struct batch_options o = { .base = w->base, .n_items = N, .window = WINDOW, .out = out_path, .errors = err_path,
                               .ordered = ordered, .work = { begin_kept, cancel, w } };
    assert_int_equal(runlog_open(log_path, &o.log, &why), ERR_OK);
    if (batch_open(&o, manifest, sizeof manifest - 1, &b, &why) != ERR_OK)
        fail_msg("%s", why.text);
    return b;
}

static struct work work_open(void)
{
    struct work w = { .base = event_base_new(), .full_after = -1 };
    assert_non_null(w.base);
    return w;
}

static void turn(struct work *w)
{
    assert_int_equal(event_base_loop(w->base, EVLOOP_ONCE | EVLOOP_NONBLOCK) < 0, 0);
}

/* Ends the live item with the highest number: out of order on purpose. */
static bool end_one(struct work *w)
{
    for (int i = N - 1; i >= 0; i--)
        if (w->live[i]) {
            release(w, i);
            finish(w, i);
            return true;
        }
    return false;
}

static char *read_all(const char *path)
{
    static char text[4096];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

/* ---- tests --------------------------------------------------------------------------------- */

static void expect_ordered(const char *path, bool ok)
{
    char want[4096] = "";
    for (int i = 0; i < N; i++)
        if ((i % 7 != 0) == ok)
            sprintf(want + strlen(want), "{\"item\":%d}\n", i);
    assert_string_equal(read_all(path), want);
}

/* Sessions that each end, without a farewell, after `step` results. */
static void go_on_every(int step, bool ordered)
{
    struct batch_totals t;
    bool complete = false;
    int sessions = 0, begun[N] = { 0 };
    clear();
    while (!complete) {
        struct work w = work_open();
        struct batch *b = open_batch(&w, ordered);
        assert_int_equal(batch_begin(b, 2, NULL), ERR_OK);
        int ended = 0;
        for (int k = 0; k < 200 && ended < step && !batch_complete(b); k++) {
            turn(&w);
            ended += end_one(&w);
        }
        complete = batch_complete(b);
        sessions++;
        if (complete) {
            assert_int_equal(batch_write_ordered(b, NULL), ERR_OK);
            assert_int_equal(batch_sync(b, NULL), ERR_OK);
            batch_sum(b, &t);
        }
        assert_true(w.most_live <= WINDOW);
        batch_close(b);
        assert_int_equal(w.n_live, 0);
        for (int i = 0; i < N; i++)
            begun[i] += w.begun[i];
        event_base_free(w.base);
    }
    for (int i = 0; i < N; i += 7)
        assert_int_equal(begun[i], 1); /* what has its result is never begun again */
    assert_int_equal(t.n_ok, N - 6);
    assert_int_equal(t.n_failed, 6);
    assert_int_equal(t.sessions, sessions);
    assert_int_equal(t.prompt_tokens, 10 * N);
    assert_int_equal(t.cached_tokens, 4 * N);
    assert_false(isnan(t.latency_p50_s));
}

static void every_item_once_in_order(void **state)
{
    (void)state;
    for (int step = 1; step <= N; step += 3) {
        go_on_every(step, true);
        expect_ordered(out_path, true);
        expect_ordered(err_path, false);
    }
}

static void every_item_once_as_they_come(void **state)
{
    (void)state;
    for (int step = 1; step <= N; step += 5) {
        go_on_every(step, false);
        char *text = read_all(out_path);
        for (int i = 0; i < N; i++) {
            char line[32];
            snprintf(line, sizeof line, "{\"item\":%d}\n", i);
            const char *at = strstr(text, line);
            assert_int_equal(at != NULL, i % 7 != 0);
            if (at)
                assert_null(strstr(at + 1, line));
        }
    }
}

/* The output loses its end, or gets rubbish: the next session puts it right. */
static void outputs_follow_the_log(void **state)
{
    char whole[4096];
    (void)state;
    go_on_every(N, false);
    strcpy(whole, read_all(out_path));
    for (size_t cut = 0; cut <= strlen(whole); cut += 5) {
        FILE *f = fopen(out_path, "w");
        assert_non_null(f);
        fwrite(whole, 1, cut, f);
        fputs("rubbish", f);
        fclose(f);
        struct work w = work_open();
        struct batch *b = open_batch(&w, false);
        assert_true(batch_complete(b));
        batch_close(b);
        event_base_free(w.base);
        assert_string_equal(read_all(out_path), whole);
    }
}

static void passing_failures_are_tried_again(void **state)
{
    struct why why;
    (void)state;
    clear();
    struct work w = work_open();
    struct batch *b = open_batch(&w, true);
    assert_int_equal(batch_begin(b, 1, NULL), ERR_OK);
    turn(&w);
    assert_true(w.live[1]);
    release(&w, 1);
    batch_again(b, 1, ERR_FULL, "full"); /* as often as it takes */
    for (int k = 0; k < 2000 && !w.live[1]; k++) {
        turn(&w);
        usleep(100);
    }
    assert_true(w.live[1]);
    assert_int_equal(w.begun[1], 2);
    assert_int_equal(batch_failure(b, &why), ERR_OK);
    batch_stop_admitting(b);
    while (end_one(&w))
        turn(&w);
    assert_int_equal(batch_live(b), 0);
    assert_false(batch_complete(b));
    batch_close(b);
    event_base_free(w.base);
}

static void no_room_is_no_failure(void **state)
{
    struct why why;
    (void)state;
    clear();
    struct work w = work_open();
    struct batch *b = open_batch(&w, true);
    w.full_after = 3;
    assert_int_equal(batch_begin(b, 1, NULL), ERR_OK);
    turn(&w);
    assert_int_equal(w.n_live, 2); /* item 0 was refused at once */
    w.full_after = -1;
    for (int k = 0; k < 400 && !batch_complete(b); k++) {
        turn(&w);
        end_one(&w);
    }
    assert_int_equal(batch_failure(b, &why), ERR_OK);
    assert_true(batch_complete(b));
    batch_close(b);
    event_base_free(w.base);
}

static void other_runs_are_refused(void **state)
{
    static const char other[] = "{\"command\":\"other\"}";
    struct batch *b = NULL;
    struct why why;
    (void)state;
    go_on_every(N, true);
    struct work w = work_open();
    struct batch_options o = { .base = w.base, .n_items = N, .window = 1, .out = out_path, .errors = err_path,
                               .ordered = true, .work = { begin_kept, cancel, &w } };
    assert_int_equal(runlog_open(log_path, &o.log, &why), ERR_OK);
    assert_int_equal(batch_open(&o, other, sizeof other - 1, &b, &why), ERR_INVAL);
    assert_non_null(strstr(why.text, "command was \"test\", is \"other\""));
    unlink(log_path); /* results without their log are somebody's */
    assert_int_equal(runlog_open(log_path, &o.log, &why), ERR_OK);
    assert_int_equal(batch_open(&o, other, sizeof other - 1, &b, &why), ERR_INVAL);
    expect_ordered(out_path, true);
    event_base_free(w.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_once_in_order),         cmocka_unit_test(every_item_once_as_they_come),
        cmocka_unit_test(outputs_follow_the_log),           cmocka_unit_test(passing_failures_are_tried_again),
        cmocka_unit_test(no_room_is_no_failure),            cmocka_unit_test(other_runs_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
