/* test_large.c - long and unpleasant texts through every kind of tokenizer.
 *
 * As a test: texts that make naive merging, matching or normalising quadratic
 * end in time (the harness has a timeout), and come back unchanged where the
 * tokenizer loses nothing. With --bench [FILE]: MB per CPU second of each, 1 MB a text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <string.h>
#include <time.h>

#include "tests/unit/tokenizer/gguf_tables.h"

struct kind {
    const char *name;
    const char *unit; /* repeated; NULL: natural text */
};

static const struct kind kinds[] = {
    {"one letter", "a"},
    {"blanks", " "},
    {"newlines", "\n"},
    {"digits", "7"},
    {"no blanks", "thequickbrownfoxjumpsoverthelazydog"},
    {"han", "\xe4\xb8\x80\xe4\xba\x8c\xe4\xb8\x89"},
    {"capitals", "ABCD"},
    {"marks", "e\xcc\x81\xcc\xa3\xcc\x82"},
    {"only marks", "\xcc\xa3\xcc\x81"},
    {"meta", "\xe2\x96\x81"},
    {"emoji", "\xf0\x9f\x98\x80"},
    {"punctuation", "!?"},
    {"almost special", "<|im_start"},
    {"mixed", "Hello, world! 12345 caf\xc3\xa9 \xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82\n  if (x) { return; }\n"},
};

static char *fill(const char *unit, size_t bytes, size_t *len)
{
    size_t n = strlen(unit);
    char *s = malloc(bytes + n + 1);
    assert_non_null(s);
    for (*len = 0; *len < bytes; *len += n)
        memcpy(s + *len, unit, n);
    return s;
}

/* Of this thread: neighbours on the machine do not count. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double encode(const struct tokenizer *t, const char *s, size_t len, struct tok_ids *ids)
{
    struct why why = {""};
    uint64_t from = cpu_ns();
    err e = tokenizer_encode(t, s, len, 0, ids, &why);
    double seconds = (double)(cpu_ns() - from) / 1e9;
    if (e != ERR_OK)
        print_error("%s\n", why.text);
    assert_int_equal(e, ERR_OK);
    return seconds;
}

static struct tokenizer *open_json(const char *dir, const char *name)
{
    char path[1024];
    size_t len;
    struct tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/%s/tokenizer.json", dir, name);
    char *json = read_whole(path, &len);
    if (!json)
        return NULL;
    assert_int_equal(tokenizer_open_json(json, len, NULL, 0, &t, NULL), ERR_OK);
    free(json);
    return t;
}

static void each_golden(void (*visit)(const char *name, const struct tokenizer *t, void *ctx), void *ctx)
{
    char dir[512];
    const char *all = getenv("CORDEE_CONFORMANCE"), *source = getenv("CORDEE_SOURCE");
    if (!all && !source)
        skip();
    snprintf(dir, sizeof dir, "%s/%s", all ? all : source, all ? "golden/tokenizers" : "tests/golden/tokenizers");
    struct dirent **list;
    int n = scandir(dir, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        struct tokenizer *t = open_json(dir, list[i]->d_name);
        if (t)
            visit(list[i]->d_name, t, ctx);
        tokenizer_close(t);
        free(list[i]);
    }
    if (n >= 0)
        free(list);
}

static void visit_unpleasant(const char *name, const struct tokenizer *t, void *ctx)
{
    static const char *const lossless[] = {"bloom", "deepseek3", "falcon", "gpt2", "gpt4o", "granite", "llama3"};
    int exact = 0;
    for (size_t i = 0; i < sizeof lossless / sizeof lossless[0]; i++)
        exact |= strcmp(name, lossless[i]) == 0;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        size_t len;
        char *s = fill(kinds[k].unit, 128 << 10, &len);
        struct tok_ids ids = {0};
        struct buf back;
        buf_init(&back);
        encode(t, s, len, &ids);
        assert_int_equal(tokenizer_decode(t, ids.id, ids.n, false, &back, NULL), ERR_OK);
        if (exact) {
            assert_int_equal(back.len, len);
            assert_memory_equal(back.data, s, len);
        }
        buf_fini(&back);
        tok_ids_fini(&ids);
        free(s);
    }
    ++*(int *)ctx;
}

static void test_unpleasant_texts(void **state)
{
    (void)state;
    int seen = 0;
    each_golden(visit_unpleasant, &seen);
    assert_true(seen > 0);
}

struct bench {
    const char *natural;
    size_t natural_len;
};

static void visit_bench(const char *name, const struct tokenizer *t, void *ctx)
{
    const struct bench *b = ctx;
    printf("%-18s", name);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0] + (b->natural != NULL); k++) {
        int natural = k == sizeof kinds / sizeof kinds[0];
        size_t len;
        char *made = natural ? NULL : fill(kinds[k].unit, 1 << 20, &len);
        const char *s = natural ? b->natural : made;
        len = natural ? b->natural_len : len;
        double best = 1e9;
        for (int i = 0; i < 3; i++) {
            struct tok_ids ids = {0};
            double seconds = encode(t, s, len, &ids);
            best = seconds < best ? seconds : best;
            tok_ids_fini(&ids);
        }
        printf(" %8.1f", (double)len / best / 1e6);
        free(made);
    }
    printf("\n");
    fflush(stdout);
}

static int bench(const char *file, int n_gguf, char **gguf)
{
    struct bench b = {0};
    if (file)
        b.natural = read_whole(file, &b.natural_len);
    printf("MB/s              ");
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        printf(" %8.8s", kinds[k].name);
    printf("%s\n", b.natural ? "  natural" : "");
    for (int i = 0; i < n_gguf; i++) {
        struct gguf_tables g;
        struct tokenizer *t = NULL;
        if (gguf_tables_read(&g, gguf[i]) != 0)
            continue;
        uint64_t from = cpu_ns();
        err e = tokenizer_open(&g.t, &t, NULL);
        const char *name = strrchr(gguf[i], '/');
        printf("(opened in %d ms)\n", (int)((cpu_ns() - from) / 1000000));
        if (e == ERR_OK)
            visit_bench(name ? name + 1 : gguf[i], t, &b);
        tokenizer_close(t);
        gguf_tables_free(&g);
    }
    if (n_gguf == 0)
        each_golden(visit_bench, &b);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_unpleasant_texts)};
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench(argc > 2 ? argv[2] : NULL, argc > 3 ? argc - 3 : 0, argv + 3);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
