/* test_gguf.c - real vocabularies and our own GGUF files, string by string.
 *
 * CORDEE_CONFORMANCE/thirdparty/vocab: 11 published vocabularies with expected
 * ids. CORDEE_CONFORMANCE/golden/gguf: expected ids of tokenizer.json, with the
 * differences that GGUF files cannot express listed in llamacpp_diff.json.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/unit/tokenizer/gguf_tables.h"
#include "tests/unit/tokenizer/json_ids.h"

static const char *conformance(void)
{
    const char *dir = getenv("CORDEE_CONFORMANCE");
    if (!dir)
        skip();
    return dir;
}

static struct tokenizer *open_gguf(struct gguf_tables *g, const char *path)
{
    struct why why = {""};
    struct tokenizer *t = NULL;
    if (gguf_tables_read(g, path) != 0)
        return NULL;
    if (tokenizer_open(&g->t, &t, &why) != ERR_OK)
        print_error("%s: %s\n", path, why.text);
    assert_non_null(t);
    return t;
}

static void print_ids(const char *name, const struct tok_ids *ids)
{
    print_message("  %s:", name);
    for (size_t i = 0; i < ids->n && i < 40; i++)
        print_message(" %d", ids->id[i]);
    print_message("\n");
}

static int same_ids(const struct tokenizer *t, const char *text, size_t len, unsigned flags,
                    const struct tok_ids *want, int verbose)
{
    struct tok_ids got = {0};
    struct why why = {""};
    err e = tokenizer_encode(t, text, len, flags, &got, &why);
    int same = e == ERR_OK && got.n == want->n && (got.n == 0 || memcmp(got.id, want->id, got.n * sizeof *got.id) == 0);
    if (!same && verbose) {
        print_message("differs on \"%.*s\" %s\n", (int)(len > 80 ? 80 : len), text, why.text);
        print_ids("got ", &got);
        print_ids("want", want);
    }
    tok_ids_fini(&got);
    return same;
}

static void test_published_vocabularies(void **state)
{
    (void)state;
    static const char *const names[] = {"bert-bge", "deepseek-coder", "falcon", "gpt-2", "llama-bpe", "llama-spm",
                                        "mpt", "phi-3", "qwen2", "refact", "starcoder"};
    static const char separator[] = "\n__ggml_vocab_test__\n";
    const char *dir = conformance();
    int bad = 0, strings = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[512];
        struct gguf_tables g;
        size_t in_len, out_len;
        snprintf(path, sizeof path, "%s/thirdparty/vocab/ggml-vocab-%s.gguf", dir, names[i]);
        struct tokenizer *t = open_gguf(&g, path);
        assert_non_null(t);
        size_t n = strlen(path);
        strcpy(path + n, ".inp");
        char *in = read_whole(path, &in_len);
        strcpy(path + n, ".out");
        char *out = read_whole(path, &out_len);
        assert_non_null(in);
        assert_non_null(out);
        char *line = out, *text = in;
        for (int more = 1; more; strings++) {
            char *end = strstr(text, separator);
            more = end != NULL;
            size_t len = end ? (size_t)(end - text) : strlen(text);
            int32_t list[512];
            struct tok_ids want = {list, 0, 0};
            char *line_end = strchr(line, '\n');
            if (!line_end)
                break;
            for (char *p = line; p < line_end;) {
                char *q;
                long id = strtol(p, &q, 10);
                if (q == p || q > line_end)
                    break;
                list[want.n++] = (int32_t)id;
                p = q;
            }
            line = line_end + 1;
            /* .out holds ids without specials; BERT's are added by rule. */
            if (!same_ids(t, text, len, 0, &want, 1)) {
                print_message("^ %s\n", names[i]);
                bad++;
            }
            text = end ? end + strlen(separator) : text;
        }
        free(in);
        free(out);
        tokenizer_close(t);
        gguf_tables_free(&g);
    }
    print_message("%d strings, %d differ\n", strings, bad);
    assert_int_equal(bad, 0);
}

static void test_golden_files(void **state)
{
    (void)state;
    const char *dir = conformance();
    char path[512];
    snprintf(path, sizeof path, "%s/golden/tokenizers/llamacpp_diff.json", dir);
    json_t *list = json_load_file(path, 0, NULL), *entry;
    const char *file;
    assert_non_null(list);
    int failed = 0;
    json_object_foreach(list, file, entry) {
        struct gguf_tables g;
        snprintf(path, sizeof path, "%s/golden/gguf/%s", dir, file);
        struct tokenizer *t = open_gguf(&g, path);
        if (!t)
            continue;
        snprintf(path, sizeof path, "%s/golden/tokenizers/%s/golden.json", dir,
                 json_string_value(json_object_get(entry, "tokenizer")));
        json_t *golden = json_load_file(path, JSON_ALLOW_NUL, NULL), *c;
        assert_non_null(golden);
        int may_differ = (int)json_integer_value(json_object_get(entry, "differs_without")), bad = 0, bad_special = 0;
        size_t i;
        json_array_foreach(json_object_get(golden, "encode"), i, c) {
            json_t *text = json_object_get(c, "text");
            struct tok_ids ids = ids_of(json_object_get(c, "ids")), special = ids_of(json_object_get(c, "ids_special"));
            const char *s = json_string_value(text);
            size_t len = json_string_length(text);
            int ok = same_ids(t, s, len, ENCODE_PARSE_SPECIAL, &ids, may_differ == 0);
            bad += !ok;
            bad_special += !same_ids(t, s, len, ENCODE_PARSE_SPECIAL | ENCODE_ADD_SPECIAL, &special, ok);
            free(ids.id);
            free(special.id);
        }
        print_message("%-28s %d differ, %d with specials (%d are known)\n", file, bad, bad_special, may_differ);
        failed += bad > may_differ || bad_special > may_differ;
        json_decref(golden);
        tokenizer_close(t);
        gguf_tables_free(&g);
    }
    json_decref(list);
    assert_int_equal(failed, 0);
}

/* The default model's own file against HF's ids. */
static void test_default_model(void **state)
{
    (void)state;
    const char *model = getenv("CORDEE_MODEL"), *dir = conformance(), *name;
    char path[512];
    struct gguf_tables g;
    if (!model)
        skip();
    snprintf(path, sizeof path, "%s/golden/gemma-3-270m.json", dir);
    json_t *golden = json_load_file(path, 0, NULL), *c;
    assert_non_null(golden);
    struct tokenizer *t = open_gguf(&g, model);
    assert_non_null(t);
    int seen = 0;
    json_object_foreach(json_object_get(golden, "cases"), name, c) {
        json_t *text = json_object_get(c, "text");
        struct tok_ids want = ids_of(json_object_get(c, "ids"));
        assert_true(same_ids(t, json_string_value(text), json_string_length(text),
                             ENCODE_ADD_SPECIAL | ENCODE_PARSE_SPECIAL, &want, 1));
        free(want.id);
        seen++;
    }
    assert_true(seen > 0);
    tokenizer_close(t);
    gguf_tables_free(&g);
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_model),
        cmocka_unit_test(test_published_vocabularies),
        cmocka_unit_test(test_golden_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
