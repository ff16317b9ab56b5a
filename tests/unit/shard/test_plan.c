/* The planner as a table: each row is one cluster; a sentence says why it is here.
 * Sizes are in units of one layer's weights unless a row says otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shard/plan.h"

#define UNIT 1000u
#define MAX_NODES 8

static const struct {
    const char *reason;
    int n_layer, head, n;
    int memory[MAX_NODES];   /* units; 0: unknown */
    double speed[MAX_NODES]; /* 0: 1 */
    err want;
    int last[MAX_NODES];
} rows[] = {
    {"even split", 36, 0, 3, {16, 16, 16}, {0}, ERR_OK, {12, 24, 36}},
    {"remainder goes to the front, which has no head", 37, 0, 3, {16, 16, 16}, {0}, ERR_OK, {13, 25, 37}},
    {"a small node takes less", 36, 0, 3, {18, 4, 18}, {0}, ERR_OK, {16, 20, 36}},
    {"one rank is a cluster too", 36, 0, 1, {64}, {0}, ERR_OK, {36}},
    {"does not fit: say so now", 36, 0, 2, {4, 4}, {0}, ERR_REFUSED, {0}},
    {"unknown memory is not checked", 36, 0, 2, {0, 0}, {0}, ERR_OK, {18, 36}},
    {"the head costs as many layers as it weighs", 16, 4, 2, {0}, {0}, ERR_OK, {10, 16}},
    {"a head heavier than all layers stands alone", 4, 9, 2, {0}, {0}, ERR_OK, {4, 4}},
    {"twice the speed, twice the layers", 30, 0, 2, {0}, {2, 1}, ERR_OK, {20, 30}},
    {"a slow node in the middle", 10, 0, 3, {0}, {2, 1, 2}, ERR_OK, {4, 6, 10}},
    {"fewer layers than stages: some are empty, none is refused", 2, 0, 4, {0}, {0}, ERR_OK, {1, 2, 2, 2}},
    {"more stages than anything to hold", 2, 0, 5, {0}, {0}, ERR_REFUSED, {0}},
    {"no stage at all", 2, 0, 0, {0}, {0}, ERR_INVAL, {0}},
};

static void table(void **state)
{
    uint64_t bytes[64];

    (void)state;
    for (size_t i = 0; i < 64; i++)
        bytes[i] = UNIT;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct plan_model m = {
            .n_layer = rows[i].n_layer, .layer_bytes = bytes, .head_bytes = (uint64_t)rows[i].head * UNIT};
        struct plan_node nodes[MAX_NODES] = {0};
        struct plan_stage stages[MAX_NODES] = {0};
        struct why why = {""};
        for (int k = 0; k < rows[i].n; k++)
            nodes[k] = (struct plan_node){(uint64_t)rows[i].memory[k] * UNIT,
                                          rows[i].speed[k] > 0 ? rows[i].speed[k] : 1};
        err e = plan_cut(&m, nodes, rows[i].n, stages, &why);
        if (e != rows[i].want)
            print_error("%s: %s %s\n", rows[i].reason, err_name(e), why.text);
        assert_int_equal(e, rows[i].want);
        if (e) {
            assert_true(why.text[0] != 0);
            continue;
        }
        for (int k = 0; k < rows[i].n; k++) {
            if (stages[k].last != rows[i].last[k])
                print_error("%s: stage %d ends at %d\n", rows[i].reason, k, stages[k].last);
            assert_int_equal(stages[k].last, rows[i].last[k]);
            assert_int_equal(stages[k].first, k ? stages[k - 1].last : 0);
            assert_int_equal(stages[k].embed, k == 0);
            assert_int_equal(stages[k].head, k == rows[i].n - 1);
        }
    }
}

/* Bytes add up, and memory counts embedding, KV and buffers. */
static void bytes_add_up(void **state)
{
    uint64_t bytes[] = {10, 20, 30, 40};
    struct plan_model m = {.n_layer = 4,
                           .layer_bytes = bytes,
                           .embed_bytes = 7,
                           .head_bytes = 5,
                           .kv_bytes_per_layer = 3,
                           .fixed_bytes = 2};
    struct plan_node nodes[2] = {{0, 1}, {0, 1}};
    struct plan_stage s[2];
    struct why why;

    (void)state;
    assert_int_equal(plan_cut(&m, nodes, 2, s, &why), ERR_OK);
    assert_int_equal(s[0].last, 3);
    assert_int_equal(s[0].weight_bytes, 67);
    assert_int_equal(s[0].kv_bytes, 9);
    assert_int_equal(s[1].weight_bytes, 45);
    nodes[0].memory_bytes = 77; /* one byte short of 67 + 9 + 2 */
    assert_int_equal(plan_cut(&m, nodes, 2, s, &why), ERR_OK);
    assert_int_equal(s[0].last, 2);
    nodes[1].memory_bytes = 70;
    assert_int_equal(plan_cut(&m, nodes, 2, s, &why), ERR_REFUSED);
    assert_non_null(strstr(why.text, "GiB"));
}

/* Against all cuts of small models with uneven layers. */
static void no_cut_is_better(void **state)
{
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 200; round++) {
        uint64_t bytes[7], least = UINT64_MAX, got = 0;
        struct plan_model m = {.n_layer = 7, .layer_bytes = bytes, .head_bytes = 25};
        struct plan_node nodes[3] = {{0, 1}, {0, 1}, {0, 1}};
        struct plan_stage s[3];
        for (int i = 0; i < 7; i++)
            bytes[i] = 1 + ((seed = seed * 1664525u + 1013904223u) >> 16) % 50;
        for (int a = 0; a <= 7; a++)
            for (int b = a; b <= 7; b++) {
                uint64_t sum[3] = {0, 0, 25};
                for (int i = 0; i < 7; i++)
                    sum[i < a ? 0 : i < b ? 1 : 2] += bytes[i];
                uint64_t worst = sum[0] > sum[1] ? sum[0] : sum[1];
                worst = worst > sum[2] ? worst : sum[2];
                least = worst < least ? worst : least;
            }
        assert_int_equal(plan_cut(&m, nodes, 3, s, NULL), ERR_OK);
        for (int i = 0; i < 3; i++)
            got = s[i].weight_bytes > got ? s[i].weight_bytes : got;
        assert_int_equal(got, least);
    }
}

/* A cut that shards were made for: bytes are filled in, memory counts, nothing is moved. */
static void a_given_cut(void **state)
{
    uint64_t bytes[] = {10, 20, 30, 40};
    struct plan_model m = {.n_layer = 4,
                           .layer_bytes = bytes,
                           .embed_bytes = 7,
                           .head_bytes = 5,
                           .kv_bytes_per_layer = 3,
                           .fixed_bytes = 2};
    struct plan_node nodes[3] = {{0, 1}, {0, 1}, {0, 1}};
    struct plan_stage s[3] = {{.last = 1}, {.first = 1, .last = 1}, {.first = 1, .last = 4}};
    struct why why = {""};

    (void)state;
    assert_int_equal(plan_given(&m, nodes, 3, s, &why), ERR_OK); /* uneven, with an empty stage */
    for (int i = 0; i < 3; i++) {
        static const uint64_t weights[] = {17, 0, 95}, kv[] = {3, 0, 9};
        static const int last[] = {1, 1, 4};
        assert_int_equal(s[i].first, i ? last[i - 1] : 0);
        assert_int_equal(s[i].last, last[i]);
        assert_int_equal(s[i].embed, i == 0);
        assert_int_equal(s[i].head, i == 2);
        assert_int_equal(s[i].weight_bytes, weights[i]);
        assert_int_equal(s[i].kv_bytes, kv[i]);
    }
    nodes[2].memory_bytes = 106; /* 95 + 9 + 2, to the byte */
    assert_int_equal(plan_given(&m, nodes, 3, s, &why), ERR_OK);
    nodes[2].memory_bytes = 105;
    assert_int_equal(plan_given(&m, nodes, 3, s, &why), ERR_REFUSED);
    assert_non_null(strstr(why.text, "stage 3 (layers 1 to 4)"));
    nodes[2].memory_bytes = 0;
    s[0] = (struct plan_stage){.last = 4};
    assert_int_equal(plan_given(&m, nodes, 1, s, &why), ERR_OK);
    assert_true(s[0].embed && s[0].head && s[0].weight_bytes == 112 && s[0].kv_bytes == 12);
}

static void a_given_cut_that_is_too_large(void **state)
{
    uint64_t bytes[] = {3ull << 30, 3ull << 30};
    struct plan_model m = {.n_layer = 2, .layer_bytes = bytes, .fixed_bytes = 1ull << 29};
    struct plan_node nodes[2] = {{4ull << 30, 1}, {3ull << 30, 1}};
    struct plan_stage s[2] = {{.last = 1}, {.first = 1, .last = 2}};
    struct why why = {""};

    (void)state;
    assert_int_equal(plan_given(&m, nodes, 2, s, &why), ERR_REFUSED);
    assert_non_null(strstr(why.text, "stage 2"));
    assert_non_null(strstr(why.text, "3.50 GiB"));
    assert_non_null(strstr(why.text, "3.00 GiB"));
}

static void a_cut_that_is_none(void **state)
{
    static const int cuts[][4] = {
        /* first and last of two stages, of four layers */
        {0, 2, 3, 4}, /* a gap */
        {0, 3, 2, 4}, /* a layer twice */
        {1, 2, 2, 4}, /* not from the first */
        {0, 2, 2, 3}, /* not to the last */
        {0, 2, 2, 5}, /* past it */
        {0, 5, 5, 4}, /* backwards */
        {0, 4, 4, 2147483647},
    };
    uint64_t bytes[4] = {1, 1, 1, 1};
    struct plan_model m = {.n_layer = 4, .layer_bytes = bytes};
    struct plan_node nodes[2] = {{0, 1}, {0, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct plan_stage s[2] = {{.first = cuts[i][0], .last = cuts[i][1]}, {.first = cuts[i][2], .last = cuts[i][3]}};
        struct why why = {""};
        assert_int_equal(plan_given(&m, nodes, 2, s, &why), ERR_INVAL);
        assert_non_null(strstr(why.text, "of 4"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),
        cmocka_unit_test(bytes_add_up),
        cmocka_unit_test(no_cut_is_better),
        cmocka_unit_test(a_given_cut),
        cmocka_unit_test(a_given_cut_that_is_too_large),
        cmocka_unit_test(a_cut_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
