/* Opens every GGUF of the conformance data and the default model: which of them
 * are runnable, and that what binding promises (shapes, bytes) holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/source.h"

static void check_views(const struct source *s)
{
    const struct hparams *hp = source_hparams(s);
    struct why why;

    for (int layer = 0; layer < hp->n_layer; layer++)
        for (int role = 0; role < W_COUNT; role++) {
            struct tensor_view v;
            err e = source_tensor(s, (enum weight_role)role, layer, &v, &why);
            if (e == ERR_NOTFOUND || e == ERR_UNSUPPORTED)
                continue;
            assert_int_equal(e, ERR_OK);
            int64_t rows = 1;
            for (int i = 0; i < v.n_dims - 1; i++)
                rows *= v.dims[i];
            assert_int_equal(v.row_bytes, fmt_row_bytes(v.fmt, v.dims[v.n_dims - 1]));
            assert_int_equal(v.bytes, (uint64_t)rows * v.row_bytes);
            assert_non_null(v.data);
            tensor_view_fini(&v);
        }
}

static void opens(const char *path)
{
    struct source *s = NULL;
    struct why why = { "" };
    err e = source_open(path, &s, &why);

    if (e)
        print_message("%s: %s: %s\n", path, err_name(e), why.text);
    assert_int_equal(e, ERR_OK);
    check_views(s);
    for (int i = 0; i < source_hparams(s)->n_layer; i++)
        assert_true(source_layer_bytes(s, i) > 0);
    assert_true(source_head_bytes(s) > 0);
    assert_int_equal(strlen(source_hash(s)), 16);
    source_close(s);
}

static void conformance_files_open(void **state)
{
    static const char *const files[] = {
        "llama-kq.IQ4_XS", "llama-kq.Q2_K", "llama-kq.Q3_K_M", "llama-kq.Q4_K_M", "llama-kq.Q5_K_M",
        "llama-kq.Q6_K", "llama2-mha.IQ4_NL", "llama2-mha.MXFP4", "llama2-mha.Q4_0", "llama2-mha.Q5_1",
        "llama2-mha.Q8_0", "llama2-mha.f16", "llama31-gqa.bf16", "mistral-swa.f16", "mixtral.MXFP4_MOE",
        "mixtral.f16", "gemma3.f16",
    };
    const char *dir = getenv("CORDEE_CONFORMANCE");

    (void)state;
    if (!dir)
        skip();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/golden/gguf/%s.gguf", dir, files[i]);
        opens(path);
    }
}

static void default_model_opens(void **state)
{
    const char *path = getenv("CORDEE_MODEL");

    (void)state;
    if (!path)
        skip();
    opens(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conformance_files_open),
        cmocka_unit_test(default_model_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
