/* Opens every GGUF and Hugging Face directory of the conformance data and the
 * default model, and checks that what binding promises (shapes, bytes) holds. */
#include <dirent.h>
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

/* Every model's tokenizer opens and fits its vocabulary (which may be padded). */
static void check_tokenizer(const char *path, const struct source *s)
{
    struct tokenizer *t = NULL;
    struct why why = {""};
    const int32_t *end;
    err e = source_tokenizer(s, &t, &why);

    if (e)
        print_error("%s: %s\n", path, why.text);
    assert_int_equal(e, ERR_OK);
    assert_in_range(tokenizer_size(t), 1, source_hparams(s)->n_vocab);
    for (size_t i = 0, n = source_end_tokens(s, &end); i < n; i++)
        assert_in_range(end[i], 0, source_hparams(s)->n_vocab - 1);
    tokenizer_close(t);
}

static void opens(const char *path)
{
    struct source *s = NULL;
    struct why why = {""};
    err e = source_open(path, &s, &why);

    if (e)
        print_message("%s: %s: %s\n", path, err_name(e), why.text);
    assert_int_equal(e, ERR_OK);
    check_views(s);
    for (int i = 0; i < source_hparams(s)->n_layer; i++)
        assert_true(source_layer_bytes(s, i) > 0);
    assert_true(source_embed_bytes(s) > 0);
    assert_true(source_parameters(s) > 0);
    assert_int_equal(strlen(source_hash(s)), 16);
    check_tokenizer(path, s);
    source_close(s);
}

/* Every entry of a folder of the conformance data. */
static void open_folder(const char *folder)
{
    const char *root = getenv("CORDEE_CONFORMANCE");
    char path[1024];
    struct dirent *f;
    int n = 0;

    if (!root)
        skip();
    snprintf(path, sizeof path, "%s/golden/%s", root, folder);
    DIR *d = opendir(path);
    assert_non_null(d);
    while ((f = readdir(d))) {
        if (f->d_name[0] == '.' || strstr(f->d_name, ".json"))
            continue;
        snprintf(path, sizeof path, "%s/golden/%s/%s", root, folder, f->d_name);
        opens(path);
        n++;
    }
    closedir(d);
    assert_true(n > 0);
}

static void gguf_files_open(void **state)
{
    (void)state;
    open_folder("gguf");
}

static void hf_directories_open(void **state)
{
    (void)state;
    open_folder("models");
}

/* Models of a fresh machine, and one in two files. */
static void tiny_models_open(void **state)
{
    static const char *const files[] = {"tiny-llama-spm", "tiny-llama-bpe", "tiny-gemma3-spm",
                                        "tiny-gemma3-bpe", "tiny-split-00001-of-00002"};
    const char *root = getenv("CORDEE_SOURCE");
    char path[1024];

    (void)state;
    if (!root)
        skip();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/tests/golden/tiny/%s.gguf", root, files[i]);
        opens(path);
    }
    struct source *s;
    struct why why;
    snprintf(path, sizeof path, "%s/tests/golden/tiny/tiny-split-00002-of-00002.gguf", root);
    assert_int_equal(source_open(path, &s, &why), ERR_FORMAT);
    assert_non_null(strstr(why.text, "give the first"));
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
        cmocka_unit_test(gguf_files_open),
        cmocka_unit_test(hf_directories_open),
        cmocka_unit_test(tiny_models_open),
        cmocka_unit_test(default_model_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
