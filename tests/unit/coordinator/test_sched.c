/* test_sched.c - the scheduler, as a table of situations and as a simulated pipeline. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <string.h>

#include "coordinator/engine/sched.h"

enum { MAX = 64 };

static struct sched_item items[MAX];
static int lanes[MAX];

static struct sched_limits limits(int n_stages)
{
    return (struct sched_limits){
        .n_stages = n_stages, .max_rows = 256, .mix_rows = 64, .page_rows = 32, .open_bytes = 10000,
    };
}

/* Waits at `next` of a prompt of n_prompt tokens and 100 to come. */
static struct sched_seq prompt(int n_prompt, int next)
{
    return (struct sched_seq){
        .n_prompt = n_prompt, .n_known = n_prompt, .n_rows = n_prompt + 99, .next = next, .n_pages = 100, .lane = -1,
    };
}

/* Decodes: its newest token is known. */
static struct sched_seq decode(int lane)
{
    return (struct sched_seq){
        .n_prompt = 10, .n_known = 20, .n_rows = 109, .next = 19, .n_pages = 100, .lane = lane,
    };
}

/* Decodes: sent at `step`, the next token comes over the ring. */
static struct sched_seq ring(int lane, uint32_t step)
{
    struct sched_seq s = decode(lane);
    s.next = 20;
    s.n_pending = s.n_flight = 1;
    s.last_step = step;
    return s;
}

static struct sched_plan run(const struct sched_seq *seqs, int n, struct sched_limits lim, uint32_t step, int n_flight,
                             bool *go)
{
    struct sched_plan plan = {.items = items, .lane = lanes};
    struct sched_view v = {
        .seqs = seqs, .n = n, .lim = lim, .next_step = step, .n_flight = n_flight, .room = 1000,
    };
    *go = sched_batch(&v, &plan);
    return plan;
}

/* An encoder's text travels as a whole, however small the pieces would be. */
static void whole_texts_are_not_cut(void **state)
{
    (void)state;
    bool go;
    struct sched_seq s[3] = {prompt(200, 0), prompt(50, 0), prompt(100, 0)};
    for (int i = 0; i < 3; i++) {
        s[i].whole = true;
        s[i].n_rows = s[i].n_prompt;
        s[i].arrival = (uint64_t)i;
    }
    struct sched_plan p = run(s, 3, limits(4), 0, 0, &go);
    assert_true(go);
    assert_int_equal(p.n_items, 1); /* 64 rows would have been enough for the pipeline */
    assert_int_equal(p.items[0].n, 200);
    p = run(s + 1, 2, limits(1), 0, 0, &go);
    assert_true(go);
    assert_int_equal(p.n_rows, 150);
    p = run(s, 3, limits(1), 0, 0, &go);
    assert_int_equal(p.n_rows, 250); /* the third waits: 350 rows do not fit */
}

static void nothing_to_do(void **state)
{
    (void)state;
    bool go;
    struct sched_seq s = prompt(10, 0);
    run(NULL, 0, limits(2), 0, 0, &go);
    assert_false(go);
    s.held = true;
    run(&s, 1, limits(2), 0, 0, &go);
    assert_false(go);
    s = decode(0);
    s.next = s.n_rows; /* all rows are sent */
    run(&s, 1, limits(2), 0, 0, &go);
    assert_false(go);
}

static void a_prompt_is_cut_so_that_all_stages_work(void **state)
{
    static const struct {
        int stages, n_prompt, next, first, n;
    } rows[] = {
        {1, 100, 0, 0, 100},    /* one stage: as much as fits */
        {1, 1000, 0, 0, 256},   /* ... into a micro-batch */
        {1, 1000, 250, 250, 230}, /* chunks end with pages: 480 */
        {2, 256, 0, 0, 64},     /* several stages: at least 64 */
        {2, 1024, 64, 64, 128}, /* an eighth each */
        {4, 90, 64, 64, 26},    /* the rest */
        {2, 100000, 0, 0, 256},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool go;
        struct sched_seq s = prompt(rows[i].n_prompt, rows[i].next);
        s.n_pages = 4000;
        struct sched_plan p = run(&s, 1, limits(rows[i].stages), 5, 0, &go);
        assert_true(go);
        assert_int_equal(p.n_items, 1);
        assert_int_equal(p.n_gen_items, 0);
        assert_int_equal(items[0].first, rows[i].first);
        assert_int_equal(items[0].n, rows[i].n);
    }
}

/* Chunks of one prompt follow each other without waiting, but do not flood stage 1. */
static void prompts_fill_the_pipeline_and_no_more(void **state)
{
    (void)state;
    for (int flight = 0; flight <= 4; flight++) {
        bool go;
        struct sched_seq s = prompt(2000, 256);
        s.n_flight = flight;
        run(&s, 1, limits(3), 10, flight, &go);
        assert_int_equal(go, flight < 4);
    }
}

static void streams_are_spread_over_as_few_lanes_as_fill_the_stages(void **state)
{
    static const struct {
        int stages, streams, lanes, rows, full;
    } cases[] = {
        {2, 8, 2, 4, 0},  {1, 8, 1, 8, 0}, {3, 8, 3, 3, 0}, {4, 2, 2, 1, 0}, {2, 1, 1, 1, 0}, {2, 24, 3, 8, 0},
        {4, 8, 4, 2, 0},  {1, 16, 2, 8, 0},
        {2, 8, 1, 8, 1}, /* one stage does nearly all: one lane keeps it busy */
        {4, 24, 2, 12, 2}, {2, 24, 3, 8, 2},
    };
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct sched_seq s[MAX];
        bool go;
        for (int i = 0; i < cases[c].streams; i++)
            s[i] = decode(-1);
        struct sched_limits lim = limits(cases[c].stages);
        lim.full_stages = cases[c].full;
        struct sched_plan p = run(s, cases[c].streams, lim, 0, 0, &go);
        int size[MAX] = {0}, used = 0;
        for (int i = 0; i < cases[c].streams; i++)
            used += size[lanes[i]]++ == 0;
        assert_int_equal(used, cases[c].lanes);
        assert_int_equal(p.n_rows, cases[c].rows);
        for (int l = 0; l < used; l++)
            assert_in_range(size[l], cases[c].streams / used, (cases[c].streams + used - 1) / used);
    }
}

static void uneven_lanes_are_levelled_and_others_stay(void **state)
{
    (void)state;
    struct sched_seq s[6] = {decode(0), decode(0), decode(0), decode(0), decode(0), decode(1)};
    bool go;
    run(s, 6, limits(2), 0, 0, &go);
    int moved = 0, first = 0;
    for (int i = 0; i < 6; i++) {
        moved += lanes[i] != s[i].lane; /* they run there from now on */
        first += lanes[i] == 0;
    }
    assert_int_equal(moved, 2);
    assert_int_equal(first, 3);
}

static void a_lane_runs_ahead_over_the_ring_once(void **state)
{
    (void)state;
    bool go;
    struct sched_seq s = ring(0, 4);
    struct sched_plan p = run(&s, 1, limits(4), 5, 1, &go);
    assert_true(go);
    assert_int_equal(items[0].first, 20);
    assert_int_equal(p.n_gen_items, 1);
    s.next = 21;
    s.n_pending = s.n_flight = 2;
    run(&s, 1, limits(4), 6, 2, &go);
    assert_false(go);
}

/* A row whose token is far away would block stage 1: prompts go before it. */
static void prompts_fill_the_gap_before_a_far_token(void **state)
{
    (void)state;
    bool go;
    struct sched_seq s[2] = {ring(0, 4), prompt(1000, 0)};
    struct sched_plan p = run(s, 2, limits(4), 5, 1, &go);
    assert_true(go);
    assert_int_equal(p.n_items, 1);
    assert_int_equal(items[0].seq, 1);
    assert_int_equal(items[0].n, 64);
    p = run(s, 2, limits(4), 8, 4, &go); /* now the token is near */
    assert_true(go);
    assert_int_equal(p.n_gen_items, 1);
    assert_int_equal(p.n_items, 2);
    run(s, 2, limits(4), 7, 5, &go); /* far, and the pipeline is full: wait */
    assert_false(go);
}

static void the_lane_that_waited_longest_goes_first(void **state)
{
    (void)state;
    bool go;
    struct sched_seq s[4] = {ring(0, 9), ring(1, 8), ring(0, 9), ring(1, 8)};
    struct sched_plan p = run(s, 4, limits(2), 10, 2, &go);
    assert_true(go);
    assert_int_equal(p.n_items, 2);
    assert_int_equal(items[0].seq, 1);
    assert_int_equal(items[1].seq, 3);
}

static void decode_and_prompt_rows_share_a_micro_batch(void **state)
{
    (void)state;
    bool go;
    struct sched_seq s[4] = {prompt(50, 0), decode(-1), prompt(500, 0), decode(-1)};
    s[0].priority = -1;
    s[0].arrival = 1;
    s[2].arrival = 2;
    struct sched_plan p = run(s, 4, limits(1), 0, 0, &go);
    assert_true(go);
    assert_int_equal(p.n_gen_items, 2);
    assert_int_equal(p.n_items, 3);
    assert_int_equal(items[2].seq, 2); /* the higher priority, under the small budget */
    assert_int_equal(items[2].n, 64);
}

static void replayed_rows_go_as_generated_rows_many_at_once(void **state)
{
    (void)state;
    bool go;
    struct sched_seq s = prompt(40, 40);
    s.n_known = 75;
    struct sched_plan p = run(&s, 1, limits(2), 3, 1, &go);
    assert_true(go);
    assert_int_equal(p.n_gen_items, 1);
    assert_int_equal(items[0].first, 40);
    assert_int_equal(items[0].n, 35);
}

static void a_row_without_a_page_names_a_victim(void **state)
{
    (void)state;
    struct sched_seq s[3] = {decode(0), decode(0), decode(0)};
    struct sched_plan plan = {.items = items, .lane = lanes};
    for (int i = 0; i < 3; i++) {
        s[i].arrival = (uint64_t)i;
        s[i].n_known = 33;
        s[i].next = 32;
        s[i].n_pages = 1;
    }
    s[1].priority = -1;
    struct sched_view v = {.seqs = s, .n = 3, .lim = limits(1), .room = 0};
    assert_false(sched_batch(&v, &plan));
    assert_int_equal(plan.victim, 1);
    s[1].priority = 0;
    assert_false(sched_batch(&v, &plan));
    assert_int_equal(plan.victim, 2); /* the youngest */
    v.draining = true;
    assert_false(sched_batch(&v, &plan));
    assert_int_equal(plan.victim, -1);
    v.draining = false;
    v.room = 2;
    assert_true(sched_batch(&v, &plan));
    assert_int_equal(plan.n_items, 2);
    assert_int_equal(sched_victim(&v, 0), -1); /* none is below priority 0 */
}

static void samplers_of_one_micro_batch_are_bounded(void **state)
{
    (void)state;
    bool go;
    struct sched_seq s[3] = {prompt(10, 0), prompt(10, 0), prompt(10, 0)};
    for (int i = 0; i < 3; i++) {
        s[i].arrival = (uint64_t)i;
        s[i].open_bytes = 6000;
    }
    assert_int_equal(run(s, 3, limits(1), 0, 0, &go).n_items, 1);
    s[0].open_bytes = 20000; /* alone it must go, or never would */
    assert_int_equal(run(s, 1, limits(1), 0, 0, &go).n_items, 1);
    s[0].open_bytes = s[1].open_bytes = s[2].open_bytes = 3000;
    assert_int_equal(run(s, 3, limits(1), 0, 0, &go).n_items, 3);
}

static void admission(void **state)
{
    (void)state;
    struct sched_wait w[] = {{0, 5, 1}, {0, 2, 2}, {0, 2, 3}, {1, 9, 4}};
    assert_int_equal(sched_pick(w, 4), 3); /* priority, */
    assert_int_equal(sched_pick(w, 3), 1); /* then who had least, then who came first */
    assert_int_equal(sched_pick(w, 1), 0);
    assert_true(sched_fits(10, 10, 0));
    assert_false(sched_fits(10, 11, 2)); /* a page for each that runs */
    assert_true(sched_fits(10, 12, 2));
}

/* ---- a pipeline in slow motion: every stage takes one tick for a micro-batch ------- */

struct sim_batch {
    uint32_t step;
    int n, seq[MAX];
    bool ring;
};

/* Ticks until each of `streams` made `tokens` tokens (each next one `less` fewer),
 * how often stage 1 had nothing to do, and how many micro-batches that took. */
static int simulate(int stages, int streams, int tokens, int less, int *idle, int *batches)
{
    struct sched_seq s[MAX];
    struct sim_batch queue[MAX], in_stage[8];
    int n_queue = 0, ticks = 0, done = 0, flights = 0, wanted = 0;
    uint32_t step = 0;
    bool busy[8] = {false};
    struct sched_limits lim = limits(stages);
    for (int i = 0; i < streams; i++) {
        s[i] = decode(-1);
        s[i].n_rows = 19 + tokens - i * less;
        wanted += tokens - i * less;
    }
    *idle = 0;
    for (; done < wanted; ticks++) {
        assert_true(ticks < 10000);
        if (busy[stages - 1]) { /* results */
            flights--;
            for (int i = 0; i < in_stage[stages - 1].n; i++) {
                struct sched_seq *q = &s[in_stage[stages - 1].seq[i]];
                q->n_known++, q->n_pending--, q->n_flight--, done++;
            }
        }
        for (;;) {
            bool go;
            struct sched_plan p = run(s, streams, lim, step, flights, &go);
            if (!go)
                break;
            struct sim_batch *b = &queue[n_queue++];
            *b = (struct sim_batch){.step = step, .n = p.n_items};
            for (int i = 0; i < p.n_items; i++) {
                struct sched_seq *q = &s[b->seq[i] = items[i].seq];
                q->next++, q->n_pending++, q->n_flight++, q->last_step = step;
                q->lane = lanes[b->seq[i]];
            }
            step++, flights++;
            assert_true(flights <= sched_max_flight(&lim, streams));
        }
        memmove(in_stage + 1, in_stage, sizeof in_stage - sizeof *in_stage);
        memmove(busy + 1, busy, sizeof busy - sizeof *busy);
        /* Stage 1 takes its oldest micro-batch if all its tokens are known by now. */
        busy[0] = n_queue > 0;
        for (int i = 0; busy[0] && i < queue[0].n; i++)
            for (int k = 1; k < stages; k++)
                for (int j = 0; busy[k] && j < in_stage[k].n; j++)
                    if (in_stage[k].seq[j] == queue[0].seq[i])
                        busy[0] = false;
        if (busy[0]) {
            in_stage[0] = queue[0];
            memmove(queue, queue + 1, (size_t)--n_queue * sizeof *queue);
        } else {
            ++*idle;
        }
    }
    *batches = (int)step;
    return ticks;
}

static void no_stage_idles_while_there_are_enough_streams(void **state)
{
    (void)state;
    for (int stages = 1; stages <= 4; stages++)
        for (int streams = 1; streams <= 24; streams += streams < 6 ? 1 : 6) {
            int idle, batches, ticks = simulate(stages, streams, 50, 0, &idle, &batches);
            int lanes_used = streams < stages ? streams : stages;
            assert_true(ticks <= 50 * stages + 3 * stages + 4 || streams >= 8 * (stages + 1));
            if (lanes_used == stages)
                assert_true(idle <= 3 * stages);
        }
}

/* Streams that end at different times leave lanes uneven; levelling them must not
 * leave single rows travelling alone. */
static void lanes_do_not_fall_apart(void **state)
{
    (void)state;
    for (int stages = 1; stages <= 4; stages++)
        for (int streams = 4; streams <= 20; streams += 4) {
            int idle, batches;
            simulate(stages, streams, 100, 4, &idle, &batches);
            assert_true(batches <= (stages + streams / (8 * (stages + 1))) * 100 + 2 * streams);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(whole_texts_are_not_cut),
        cmocka_unit_test(a_prompt_is_cut_so_that_all_stages_work),
        cmocka_unit_test(prompts_fill_the_pipeline_and_no_more),
        cmocka_unit_test(streams_are_spread_over_as_few_lanes_as_fill_the_stages),
        cmocka_unit_test(uneven_lanes_are_levelled_and_others_stay),
        cmocka_unit_test(a_lane_runs_ahead_over_the_ring_once),
        cmocka_unit_test(prompts_fill_the_gap_before_a_far_token),
        cmocka_unit_test(the_lane_that_waited_longest_goes_first),
        cmocka_unit_test(decode_and_prompt_rows_share_a_micro_batch),
        cmocka_unit_test(replayed_rows_go_as_generated_rows_many_at_once),
        cmocka_unit_test(a_row_without_a_page_names_a_victim),
        cmocka_unit_test(samplers_of_one_micro_batch_are_bounded),
        cmocka_unit_test(admission),
        cmocka_unit_test(lanes_do_not_fall_apart),
        cmocka_unit_test(no_stage_idles_while_there_are_enough_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
