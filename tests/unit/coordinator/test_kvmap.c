/* test_kvmap.c - pages: references, chains, eviction order, scores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "coordinator/engine/kvmap.h"

enum { ROWS = 4, SALT = 5 };

static struct kvmap *map;

static int fresh(void **state)
{
    (void)state;
    struct why why;
    return kvmap_open(6, ROWS, &map, &why);
}

static int done(void **state)
{
    (void)state;
    kvmap_close(map);
    return 0;
}

/* Takes, publishes and sends the pages of a prompt of n pages. */
static void compute(const int32_t *ids, int n, int n_top, uint32_t *pages)
{
    assert_true(kvmap_take(map, n, pages));
    for (int i = 0; i < n; i++) {
        kvmap_publish(map, pages[i], i ? pages[i - 1] : KVMAP_NONE, SALT, ids + i * ROWS, n_top, 0);
        kvmap_sent(map, pages[i]);
    }
}

static const int32_t abc[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const int32_t abx[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13};
static const int32_t xbc[] = {1, 2, 3, 5, 5, 6, 7, 8, 9, 10, 11, 12};

static void all_or_nothing(void **state)
{
    (void)state;
    uint32_t p[7];
    assert_int_equal(kvmap_room(map), 6);
    assert_false(kvmap_take(map, 7, p));
    assert_int_equal(kvmap_room(map), 6);
    assert_true(kvmap_take(map, 6, p));
    assert_int_equal(kvmap_used(map), 6);
    assert_false(kvmap_take(map, 1, p + 6));
    kvmap_release(map, p, 6);
    assert_int_equal(kvmap_room(map), 6);
}

static void the_longest_common_prefix_is_shared(void **state)
{
    (void)state;
    uint32_t a[3], b[3];
    compute(abc, 3, KVMAP_NO_SCORES, a);
    assert_int_equal(kvmap_match(map, SALT, abx, 3, KVMAP_NO_SCORES, 0, b), 2);
    assert_int_equal(b[0], a[0]);
    assert_int_equal(b[1], a[1]);
    assert_int_equal(kvmap_match(map, SALT, xbc, 3, KVMAP_NO_SCORES, 0, b), 0); /* same pages behind another */
    assert_int_equal(kvmap_match(map, SALT + 1, abc, 3, KVMAP_NO_SCORES, 0, b), 0);
    assert_int_equal(kvmap_match(map, SALT, abc + ROWS, 1, KVMAP_NO_SCORES, 0, b), 0); /* not at the start */
    assert_int_equal(kvmap_match(map, SALT, abc, 2, KVMAP_NO_SCORES, 0, b), 2);        /* no more than asked */
}

static void cached_pages_come_back_until_room_is_needed(void **state)
{
    (void)state;
    uint32_t a[3], b[6], c[3];
    compute(abc, 3, KVMAP_NO_SCORES, a);
    kvmap_release(map, a, 3);
    assert_int_equal(kvmap_used(map), 0);
    assert_int_equal(kvmap_match(map, SALT, abc, 3, KVMAP_NO_SCORES, 0, c), 3);
    assert_int_equal(kvmap_used(map), 3);
    kvmap_release(map, c, 3);

    assert_true(kvmap_take(map, 4, b)); /* three free ones and the deepest cached one */
    assert_int_equal(kvmap_match(map, SALT, abc, 3, KVMAP_NO_SCORES, 0, c), 2);
    kvmap_release(map, c, 2);
    assert_true(kvmap_take(map, 2, b + 4));
    assert_int_equal(kvmap_match(map, SALT, abc, 3, KVMAP_NO_SCORES, 0, c), 0);
}

static void least_recently_used_goes_first(void **state)
{
    (void)state;
    uint32_t a[1], b[1], c[5];
    compute(abc, 1, KVMAP_NO_SCORES, a);
    compute(xbc, 1, KVMAP_NO_SCORES, b);
    kvmap_release(map, a, 1);
    kvmap_release(map, b, 1);
    assert_int_equal(kvmap_match(map, SALT, abc, 1, KVMAP_NO_SCORES, 0, a), 1); /* used again */
    kvmap_release(map, a, 1);
    assert_true(kvmap_take(map, 5, c));
    assert_int_equal(kvmap_match(map, SALT, xbc, 1, KVMAP_NO_SCORES, 0, b), 0);
    assert_int_equal(kvmap_match(map, SALT, abc, 1, KVMAP_NO_SCORES, 0, a), 1);
}

static void shared_pages_stay_while_anybody_holds_them(void **state)
{
    (void)state;
    uint32_t a[3], b[3], c[3];
    compute(abc, 3, KVMAP_NO_SCORES, a);
    assert_int_equal(kvmap_match(map, SALT, abc, 3, KVMAP_NO_SCORES, 0, b), 3);
    kvmap_release(map, a, 3);
    assert_int_equal(kvmap_room(map), 3);
    assert_true(kvmap_take(map, 3, c));
    assert_false(kvmap_take(map, 1, c));
    kvmap_release(map, b, 3);
    assert_int_equal(kvmap_room(map), 3);
}

/* A page behind one that was evicted and taken again must not be found through it. */
static void a_chain_is_not_found_through_a_reused_page(void **state)
{
    (void)state;
    uint32_t a[2], b[6], c[2];
    compute(abc, 2, KVMAP_NO_SCORES, a);
    kvmap_release(map, a, 1); /* only the first page: the order no engine has */
    assert_true(kvmap_take(map, 5, b));
    for (int i = 0; i < 5; i++)
        if (b[i] == a[0])
            kvmap_publish(map, b[i], KVMAP_NONE, SALT, abc, KVMAP_NO_SCORES, 0);
    assert_int_equal(kvmap_match(map, SALT, abc, 2, KVMAP_NO_SCORES, 0, c), 1);
}

static void an_abandoned_page_says_so(void **state)
{
    (void)state;
    uint32_t a[1], b[1], c[1];
    assert_true(kvmap_take(map, 1, a));
    kvmap_publish(map, a[0], KVMAP_NONE, SALT, abc, KVMAP_NO_SCORES, 0);
    assert_int_equal(kvmap_match(map, SALT, abc, 1, KVMAP_NO_SCORES, 0, b), 1);
    assert_int_equal(kvmap_state(map, b[0]), KVMAP_PLANNED);
    kvmap_abandon(map, a[0]);
    kvmap_release(map, a, 1);
    assert_int_equal(kvmap_state(map, b[0]), KVMAP_ABANDONED);
    assert_int_equal(kvmap_match(map, SALT, abc, 1, KVMAP_NO_SCORES, 0, c), 0);
    kvmap_release(map, b, 1);
    assert_int_equal(kvmap_room(map), 6);
}

static void scores_travel_with_pages(void **state)
{
    (void)state;
    uint32_t a[1], b[1];
    struct token_logprob top[2] = {{7, -0.5f}, {8, -1.5f}};
    struct kvmap_score s = {-0.25f, 7, 2, top}, got;
    compute(abc, 1, 2, a);
    assert_false(kvmap_score_get(map, a[0], 0, &got));
    kvmap_score_put(map, a[0], 1, &s); /* out of order: ignored */
    assert_false(kvmap_score_get(map, a[0], 1, &got));
    for (int i = 0; i < ROWS; i++)
        kvmap_score_put(map, a[0], i, &s);
    assert_int_equal(kvmap_match(map, SALT, abc, 1, 3, 0, b), 0); /* too few alternatives */
    assert_int_equal(kvmap_match(map, SALT, abc, 1, 2, 0, b), 1);
    assert_true(kvmap_score_get(map, b[0], 3, &got));
    assert_true(got.logprob == -0.25f && got.argmax == 7 && got.n_top == 2 && got.top[1].token == 8);
}

static void pages_with_scores_replace_those_without(void **state)
{
    (void)state;
    uint32_t a[1], b[1], c[1];
    compute(abc, 1, KVMAP_NO_SCORES, a);
    assert_int_equal(kvmap_match(map, SALT, abc, 1, 0, 0, b), 0);
    compute(abc, 1, 0, b);
    assert_int_equal(kvmap_match(map, SALT, abc, 1, 0, 0, c), 1);
    assert_int_equal(c[0], b[0]);
    kvmap_release(map, a, 1);
    kvmap_release(map, b, 1);
    kvmap_release(map, c, 1);
    assert_int_equal(kvmap_room(map), 6);
}

static void scores_of_a_pages_end(void **state)
{
    (void)state;
    uint32_t a[2], b[2];
    struct kvmap_score s = {-0.5f, 9, 0, NULL}, got;
    assert_true(kvmap_take(map, 2, a));
    for (int i = 0; i < 2; i++) {
        kvmap_publish(map, a[i], i ? a[0] : KVMAP_NONE, SALT, abc + i * ROWS, 0, 6 - i * ROWS);
        kvmap_sent(map, a[i]);
    }
    kvmap_score_put(map, a[1], 1, &s); /* out of order: ignored */
    kvmap_score_put(map, a[1], 2, &s);
    assert_false(kvmap_score_get(map, a[1], 1, &got));
    assert_true(kvmap_score_get(map, a[1], 2, &got));
    assert_int_equal(kvmap_match(map, SALT, abc, 2, 0, 5, b), 1); /* one score more than there is */
    assert_int_equal(kvmap_match(map, SALT, abc, 2, 0, 6, b), 2);
    assert_int_equal(kvmap_match(map, SALT, abc, 2, 0, 0, b), 0);
    assert_int_equal(kvmap_match(map, SALT, abc, 2, 1, 6, b), 1);
    assert_int_equal(kvmap_match(map, SALT, abc, 2, KVMAP_NO_SCORES, 0, b), 2);
}

static void what_is_computed_again_is_counted(void **state)
{
    (void)state;
    uint32_t a[3], b[3], c[6];
    compute(abc, 3, KVMAP_NO_SCORES, a);
    compute(abx, 3, KVMAP_NO_SCORES, b); /* without having looked: two pages were there */
    assert_int_equal(kvmap_counts(map).published, 6);
    assert_int_equal(kvmap_counts(map).again, 2);
    kvmap_release(map, a, 3);
    kvmap_release(map, b, 3);
    assert_true(kvmap_take(map, 6, c)); /* forgets them all */
    assert_int_equal(kvmap_counts(map).evicted, 5); /* one of the six was never announced */
    kvmap_release(map, c, 6);
    compute(abc, 3, KVMAP_NO_SCORES, a);
    assert_int_equal(kvmap_counts(map).again, 5);
}

int main(void)
{
#define WITH_MAP(f) cmocka_unit_test_setup_teardown(f, fresh, done)
    const struct CMUnitTest tests[] = {
        WITH_MAP(all_or_nothing),
        WITH_MAP(the_longest_common_prefix_is_shared),
        WITH_MAP(cached_pages_come_back_until_room_is_needed),
        WITH_MAP(least_recently_used_goes_first),
        WITH_MAP(shared_pages_stay_while_anybody_holds_them),
        WITH_MAP(a_chain_is_not_found_through_a_reused_page),
        WITH_MAP(an_abandoned_page_says_so),
        WITH_MAP(scores_travel_with_pages),
        WITH_MAP(pages_with_scores_replace_those_without),
        WITH_MAP(scores_of_a_pages_end),
        WITH_MAP(what_is_computed_again_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
