/* test_kv.c - where a position of a head lies, and what a page costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "model/kv.h"

static const struct hparams heads = {
    .n_layer = 3, .n_head = 4, .n_head_kv = 2, .head_dim_k = 24, .head_dim_v = 16};
static const struct hparams compressed = {
    .n_layer = 3, .n_head = 4, .n_head_kv = 4, .kv_lora = 64, .qk_rope = 16};
static const struct arch_desc plain_family, latent_family = {.attn = {.latent = true}};

static void pages_hold_every_position_apart(void **state)
{
    struct kernels k;
    struct kv kv;
    struct why why;
    float in_k[24], in_v[16];
    (void)state;
    kernels_init(&k, ISA_REF, PREC_EXACT);
    assert_int_equal(kv_init(&plain_family, &heads, 3, 5, KV_F32, &k, &kv, &why), ERR_OK);
    assert_int_equal(kv_bytes(&kv), 5ull * 3 * 2 * KV_PAGE * (24 + 16) * sizeof(float));

    for (int round = 0; round < 2; round++) /* write all, then look at all */
        for (uint32_t page = 0; page < 5; page++)
            for (int l = 0; l < 3; l++)
                for (int h = 0; h < 2; h++)
                    for (int pos = 64; pos < 64 + KV_PAGE; pos++) {
                        float tag = (float)(((int)page * 3 + l) * 2 + h) * 100 + (float)pos;
                        const float *at =
                            (const float *)(kv.base + page * kv.page_bytes + kv_head_offset(&kv, l, h));
                        int j = pos % KV_PAGE;
                        for (int i = 0; i < 24; i++)
                            in_k[i] = tag + (float)i / 64;
                        for (int i = 0; i < 16; i++)
                            in_v[i] = -in_k[i];
                        if (round == 0) {
                            kv_put(&kv, page, l, h, pos, in_k, in_v);
                            continue;
                        }
                        for (int i = 0; i < 24; i++)
                            assert_true(at[(i / 2 * KV_PAGE + j) * 2 + i % 2] == in_k[i]);
                        at += kv.v_in_head / sizeof(float);
                        for (int i = 0; i < 16; i++)
                            assert_true(at[(j / 2 * 16 + i) * 2 + j % 2] == in_v[i]);
                    }
    kv_fini(&kv);
}

static void latent_values_are_a_view_of_the_keys(void **state)
{
    struct kv kv;
    struct why why;
    (void)state;
    assert_int_equal(kv_shape(&latent_family, &compressed, 2, 1, KV_F16, &kv, &why), ERR_OK);
    assert_int_equal(kv.n_heads, 1);
    assert_int_equal(kv.dk, 80);
    assert_int_equal(kv.dv, 64);
    assert_int_equal(kv.v_in_head, 0);
    assert_int_equal(kv_bytes(&kv), 2 * KV_PAGE * 80 * 2);
}

static void q8_0_refuses_what_it_cannot_hold(void **state)
{
    struct kv kv;
    struct why why;
    struct hparams good = heads;
    (void)state;
    assert_int_equal(kv_shape(&plain_family, &heads, 1, 1, KV_Q8_0, &kv, &why), ERR_UNSUPPORTED);
    assert_int_equal(kv_shape(&latent_family, &compressed, 1, 1, KV_Q8_0, &kv, &why), ERR_UNSUPPORTED);
    good.head_dim_k = 23;
    assert_int_equal(kv_shape(&plain_family, &good, 1, 1, KV_F16, &kv, &why), ERR_UNSUPPORTED);
    good.head_dim_k = good.head_dim_v = 64;
    assert_int_equal(kv_shape(&plain_family, &good, 1, 1, KV_Q8_0, &kv, &why), ERR_OK);
}

static void too_many_pages_say_how_much_is_missing(void **state)
{
    struct kernels k;
    struct kv kv;
    struct why why;
    (void)state;
    kernels_init(&k, ISA_REF, PREC_EXACT);
    assert_int_equal(kv_init(&plain_family, &heads, 3, 4000000000u, KV_F32, &k, &kv, &why), ERR_NOMEM);
    assert_non_null(strstr(why.text, "MiB"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_hold_every_position_apart),
        cmocka_unit_test(latent_values_are_a_view_of_the_keys),
        cmocka_unit_test(q8_0_refuses_what_it_cannot_hold),
        cmocka_unit_test(too_many_pages_say_how_much_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
