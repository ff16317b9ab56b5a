/* shards.json: written and read again it is the same, and nothing malformed gets past with
 * another reason than one that names the file. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "model/shards.h"

static char dir[] = "/tmp/cordee-shards-XXXXXX", file[sizeof dir + 16];

/* ---- there and back ---------------------------------------------------------------------------- */

/* Values that lose something unless written with all digits. */
static const float values[] = {0.0f, -0.0f, 1.0f / 3, FLT_MAX, FLT_MIN, 1e-45f, -3.14159274f, 16777217.0f};

static struct file_tensor tensor(const char *name, const char *type, enum fmt fmt, int n_dims, int64_t a,
                                 int64_t b, int64_t c)
{
    struct file_tensor t = {
        .name = name, .type_name = type, .fmt = fmt, .n_dims = n_dims, .dims = {a, b, c, 1}, .bytes = 12345};
    t.row_bytes = fmt == FMT_COUNT ? 0 : fmt_row_bytes(fmt, t.dims[n_dims - 1]);
    return t;
}

static void put(struct catalog *c, struct file_tensor t)
{
    struct why why = {""};
    assert_int_equal(catalog_push(c, &t, &why), ERR_OK);
}

static void fill(struct shards *s, struct catalog *c)
{
    static struct shard_stage stages[] = {{"stage-1-of-3.cordee", 0, 0, true, false, 65536},
                                          {"stage-2-of-3.cordee", 0, 7, false, false, 1ull << 40},
                                          {"stage-3-of-3.cordee", 7, 7, false, true, 65600}};
    *s = (struct shards){.path = dir,
                         .name = "a \"model\" \\ of \xc3\xa9t\xc3\xa9\n",
                         .hash = "0123456789abcdef",
                         .weights = "00112233aabbccdd",
                         .facts_hash = "fedcba9876543210",
                         .gguf = true,
                         .file_bytes = 1ull << 50,
                         .stages = stages,
                         .n_stages = 3};
    for (int f = 0; f < FMT_COUNT; f++)
        put(c, tensor(fmt_traits[f].name, "whatever", (enum fmt)f, 3, 2, 5, fmt_traits[f].block * 3));
    put(c, tensor("nothing to compute with", "I64", FMT_COUNT, 1, 9, 1, 1));
    struct file_tensor table = tensor("table", "F32", FMT_F32, 2, 2, 4, 1);
    table.data = (const uint8_t *)values;
    table.bytes = sizeof values;
    put(c, table);
    struct why why = {""};
    assert_int_equal(catalog_sort(c, &why), ERR_OK);
}

static void check_same(const struct shards *a, const struct shards *b)
{
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->hash, b->hash);
    assert_string_equal(a->weights, b->weights);
    assert_string_equal(a->facts_hash, b->facts_hash);
    assert_true(a->gguf == b->gguf && a->file_bytes == b->file_bytes && a->n_stages == b->n_stages);
    for (int i = 0; i < a->n_stages; i++) {
        const struct shard_stage *x = &a->stages[i], *y = &b->stages[i];
        assert_string_equal(x->file, y->file);
        assert_true(x->first == y->first && x->last == y->last && x->embed == y->embed && x->head == y->head);
        assert_true(x->bytes == y->bytes);
    }
}

static void check_tensors(const struct catalog *a, const struct catalog *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        const struct file_tensor *x = &a->t[i], *y = &b->t[i];
        assert_string_equal(x->name, y->name);
        assert_string_equal(x->type_name, y->type_name);
        assert_true(x->fmt == y->fmt && x->n_dims == y->n_dims && x->bytes == y->bytes &&
                    x->row_bytes == y->row_bytes);
        assert_memory_equal(x->dims, y->dims, sizeof x->dims);
        assert_int_equal(x->data != NULL, y->data != NULL);
        if (x->data)
            assert_memory_equal(x->data, y->data, sizeof values);
    }
}

static void what_is_written_is_read(void **state)
{
    struct shards out, in;
    struct catalog sent = {0}, got = {0};
    struct why why = {""};
    struct arena a;
    (void)state;
    arena_init(&a, 0);
    fill(&out, &sent);
    assert_false(shards_here(dir));
    for (int gguf = 0; gguf < 2; gguf++) {
        out.gguf = gguf;
        assert_int_equal(shards_write(&out, &sent, &why), ERR_OK);
        assert_true(shards_here(dir));
        assert_int_equal(shards_read(dir, &a, &in, &got, &why), ERR_OK);
        check_same(&out, &in);
        assert_string_equal(in.path, dir);
        check_tensors(&sent, &got);
        catalog_fini(&got);
        got = (struct catalog){0};
    }
    catalog_fini(&sent);
    arena_fini(&a);
    assert_int_equal(unlink(file), 0);
}

/* What JSON has no words for must not become a file that cannot be read. */
static void what_cannot_be_written(void **state)
{
    struct shards s;
    struct catalog c = {0};
    struct why why = {""};
    (void)state;
    fill(&s, &c);
    s.name = "\xff\xfe";
    assert_int_not_equal(shards_write(&s, &c, &why), ERR_OK);
    assert_non_null(strstr(why.text, file));
    assert_int_not_equal(access(file, F_OK), 0);
    s.name = "m";
    for (int i = 0; i < 2; i++) {
        const float odd[8] = {1, i ? NAN : INFINITY};
        catalog_find(&c, "table")->data = (const uint8_t *)odd;
        assert_int_not_equal(shards_write(&s, &c, &why), ERR_OK);
        assert_int_not_equal(access(file, F_OK), 0);
    }
    s.path = "/nonexistent";
    catalog_find(&c, "table")->data = (const uint8_t *)values;
    assert_int_equal(shards_write(&s, &c, &why), ERR_IO);
    assert_non_null(strstr(why.text, "/nonexistent/shards.json"));
    catalog_fini(&c);
}

/* ---- hostile text -------------------------------------------------------------------------------- */

static const char good[] =
    "{\"cordee_shards\":1,\"model\":\"m\",\"hash\":\"0123456789abcdef\",\"weights\":\"00112233aabbccdd\",\"facts\":\"gguf\",\"facts_hash\":"
    "\"0123456789abcdef\","
    "\"file_bytes\":99,\"stages\":["
    "{\"file\":\"a.cordee\",\"first\":0,\"last\":2,\"embedding\":true,\"head\":false,\"bytes\":1},"
    "{\"file\":\"b.cordee\",\"first\":2,\"last\":5,\"embedding\":false,\"head\":false,\"bytes\":2},"
    "{\"file\":\"c.cordee\",\"first\":5,\"last\":6,\"embedding\":false,\"head\":true,\"bytes\":3}],"
    "\"tensors\":["
    "{\"name\":\"t\",\"type\":\"F32\",\"format\":\"f32\",\"shape\":[2,2],\"bytes\":16,\"values\":[1,2,3,4]},"
    "{\"name\":\"u\",\"type\":\"Q4_K\",\"format\":\"q4_k\",\"shape\":[3,256],\"bytes\":432}]}";

static err parse(const char *text, size_t len, struct why *why)
{
    struct shards s;
    struct catalog tensors = {0};
    struct arena a;
    char *copy = malloc(len ? len : 1); /* a sanitizer sees its end */
    assert_non_null(copy);
    memcpy(copy, text, len);
    arena_init(&a, 0);
    err e = shards_parse(copy, len, "/some/dir", &a, &s, &tensors, why);
    catalog_fini(&tensors);
    arena_fini(&a);
    free(copy);
    return e;
}

/* Replaced in the good text: the part of each object that counts. */
static const struct {
    const char *old, *new;
    err want;
} changes[] = {
    {"\"cordee_shards\":1", "\"cordee_shards\":1", ERR_OK},
    {"\"cordee_shards\":1", "\"cordee_shards\":2", ERR_UNSUPPORTED},
    {"\"cordee_shards\":1", "\"cordee_shards\":0", ERR_UNSUPPORTED},
    {"\"cordee_shards\":1", "\"cordee_shards\":\"1\"", ERR_FORMAT},
    {"\"cordee_shards\":1", "\"cordee_shards\":1.0", ERR_FORMAT},
    {"\"cordee_shards\":1", "\"cordee_shards\":99999999999", ERR_FORMAT},
    {"\"cordee_shards\":1", "\"cordee_shards\":99999999999999999999", ERR_FORMAT},
    {"\"cordee_shards\":1", "\"cordee_shards\":1,\"cordee_shards\":1", ERR_FORMAT},
    {"\"cordee_shards\":1,", "", ERR_FORMAT},
    {"\"model\":\"m\"", "\"model\":7", ERR_FORMAT},
    {"\"model\":\"m\"", "\"model\":\"a\\u0000b\"", ERR_FORMAT},
    {"\"model\":\"m\"", "\"model\":\"\xff\"", ERR_FORMAT},
    {"\"hash\":\"0123456789abcdef\"", "\"hash\":\"0123456789abcde\"", ERR_FORMAT},
    {"\"hash\":\"0123456789abcdef\"", "\"hash\":\"0123456789abcdef0\"", ERR_FORMAT},
    {"\"hash\":\"0123456789abcdef\"", "\"hash\":\"0123456789abcdeg\"", ERR_FORMAT},
    {"\"hash\":\"0123456789abcdef\"", "\"hash\":null", ERR_FORMAT},
    {"\"facts\":\"gguf\"", "\"facts\":\"hf\"", ERR_OK},
    {"\"facts\":\"gguf\"", "\"facts\":\"other\"", ERR_FORMAT},
    {"\"facts\":\"gguf\"", "\"facts\":[]", ERR_FORMAT},
    {"\"weights\":\"00112233aabbccdd\"", "\"weights\":\"0\"", ERR_FORMAT},
    {"\"weights\":\"00112233aabbccdd\"", "\"weights\":null", ERR_FORMAT},
    {"\"facts_hash\":\"0123456789abcdef\"", "\"facts_hash\":1", ERR_FORMAT},
    {"\"file_bytes\":99", "\"file_bytes\":-1", ERR_FORMAT},
    {"\"file_bytes\":99", "\"file_bytes\":9223372036854775807", ERR_OK},
    {"\"file_bytes\":99", "\"file_bytes\":9223372036854775808", ERR_FORMAT},
    {"\"file_bytes\":99", "\"file_bytes\":1e3", ERR_FORMAT},
    {"\"stages\":[", "\"stages\":{},\"other\":[", ERR_FORMAT},
    {"\"stages\":[", "\"stages\":[],\"other\":[", ERR_FORMAT},
    {"\"stages\":[", "\"stages\":7,\"other\":[", ERR_FORMAT},
    {"\"stages\":[", "\"stages\":[3,", ERR_FORMAT},
    {"\"stages\":[", "\"stages\":[[],", ERR_FORMAT},
    {"\"a.cordee\"", "\"../a.cordee\"", ERR_FORMAT},
    {"\"a.cordee\"", "\"/etc/passwd\"", ERR_FORMAT},
    {"\"a.cordee\"", "\"sub/a.cordee\"", ERR_FORMAT},
    {"\"a.cordee\"", "\"..\"", ERR_FORMAT},
    {"\"a.cordee\"", "\".\"", ERR_FORMAT},
    {"\"a.cordee\"", "\"\"", ERR_FORMAT},
    {"\"a.cordee\"", "\"a\\u0000b\"", ERR_FORMAT},
    {"\"a.cordee\"", "\"a\\\"b\"", ERR_FORMAT},
    {"\"a.cordee\"", "\"a\\nb\"", ERR_FORMAT},
    {"\"a.cordee\"", "null", ERR_FORMAT},
    {"\"first\":0", "\"first\":1", ERR_FORMAT},
    {"\"first\":0", "\"first\":-1", ERR_FORMAT},
    {"\"first\":0", "\"first\":0.5", ERR_FORMAT},
    {"\"first\":0,", "", ERR_FORMAT},
    {"\"first\":2", "\"first\":1", ERR_FORMAT},
    {"\"first\":2", "\"first\":3", ERR_FORMAT},
    {"\"last\":5", "\"last\":1", ERR_FORMAT},
    {"\"last\":5", "\"last\":6", ERR_FORMAT},
    {"\"last\":6", "\"last\":4", ERR_FORMAT},
    {"\"last\":6", "\"last\":2147483648", ERR_FORMAT},
    {"\"last\":6", "\"last\":2147483647", ERR_OK}, /* more than the model has: the plan refuses it */
    {"\"embedding\":true", "\"embedding\":false", ERR_FORMAT},
    {"\"embedding\":true", "\"embedding\":1", ERR_FORMAT},
    {"\"embedding\":true,", "", ERR_FORMAT},
    {"\"last\":5,\"embedding\":false", "\"last\":5,\"embedding\":true", ERR_FORMAT},
    {"\"last\":5,\"embedding\":false", "\"last\":5,\"embedding\":0", ERR_FORMAT},
    {"\"head\":true", "\"head\":false", ERR_FORMAT},
    {"\"head\":true", "\"head\":\"true\"", ERR_FORMAT},
    {"\"embedding\":true,\"head\":false", "\"embedding\":true,\"head\":true", ERR_FORMAT},
    {"\"embedding\":true,\"head\":false", "\"embedding\":true,\"head\":null", ERR_FORMAT},
    {"\"bytes\":1}", "\"bytes\":-1}", ERR_FORMAT},
    {"\"bytes\":1}", "\"bytes\":\"1\"}", ERR_FORMAT},
    {"\"tensors\":[", "\"tensors\":[],\"other\":[", ERR_FORMAT},
    {"\"tensors\":[", "\"tensors\":{},\"other\":[", ERR_FORMAT},
    {"\"tensors\":[", "\"tensors\":[null,", ERR_FORMAT},
    {"\"name\":\"t\"", "\"name\":\"u\"", ERR_FORMAT},
    {"\"name\":\"t\"", "\"name\":[]", ERR_FORMAT},
    {"\"type\":\"F32\"", "\"type\":32", ERR_FORMAT},
    {"\"format\":\"f32\"", "\"format\":3", ERR_FORMAT},
    {"\"format\":\"f32\"", "\"format\":\"f16\"", ERR_FORMAT}, /* values are f32 */
    {"\"format\":\"q4_k\"", "\"format\":\"q9_9\"", ERR_OK},   /* cannot be computed with */
    {"\"shape\":[3,256]", "\"shape\":[3,255]", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":[]", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":[1,1,1,3,256]", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":[0,256]", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":[-3,256]", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":[3.0,256]", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":[\"3\",256]", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":256", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":[4294967296,4294967296]", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":[9223372036854775807,256]", ERR_FORMAT},
    {"\"shape\":[3,256]", "\"shape\":[65536,65536,65536,65536]", ERR_FORMAT},
    {"\"bytes\":432", "\"bytes\":-432", ERR_FORMAT},
    {"\"bytes\":16", "\"bytes\":17", ERR_FORMAT}, /* the values are read by it */
    {"\"values\":[1,2,3,4]", "\"values\":[1,2,3]", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":[1,2,3,4,5]", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":[]", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":{}", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":null", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":[1,2,3,\"4\"]", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":[1,2,null,4]", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":[1,2,3,1e39]", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":[1,2,3,-1e308]", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":[1,2,3,1e999]", ERR_FORMAT},
    {"\"values\":[1,2,3,4]", "\"values\":[1,2,3,-3.4028234663852886e38]", ERR_OK},
    {"}]}", "}]}}", ERR_FORMAT},
    {"}]}", "}]", ERR_FORMAT},
};

static void changed_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const char *at = strstr(good, changes[i].old);
        struct why why = {""};
        char text[4096];
        assert_non_null(at);
        int len = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, changes[i].new,
                           at + strlen(changes[i].old));
        err e = parse(text, (size_t)len, &why);
        if (e != changes[i].want || (e && strncmp(why.text, "/some/dir/shards.json: ", 23) != 0))
            print_error("%s: %s: %s\n", changes[i].new, err_name(e), why.text);
        assert_int_equal(e, changes[i].want);
        if (e)
            assert_memory_equal(why.text, "/some/dir/shards.json: ", 23);
    }
}

/* Each value of the good text in turn becomes one of another kind. */
static void retype(json_t *root, json_t *x, int *n)
{
    static const char *const others[] = {"null", "true", "-1", "1e300", "\"\"", "[]", "{}", "[[[]]]"};
    json_t *v;
    const char *key;
    size_t at;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        void *next;
        json_object_foreach_safe(x, next, key, v)
        {
            json_t *old = json_incref(v);
            char name[64];
            snprintf(name, sizeof name, "%s", key);
            json_object_set_new(x, name, json_loads(others[i], JSON_DECODE_ANY, NULL));
            char *text = json_dumps(root, JSON_COMPACT);
            struct why why = {""};
            err e = parse(text, strlen(text), &why);
            /* Texts and truths have values of the same type among the others. */
            assert_true(e == ERR_OK ? json_typeof(json_object_get(x, name)) == json_typeof(old) ||
                                          json_is_boolean(old)
                                    : strncmp(why.text, "/some/dir/shards.json: ", 23) == 0);
            free(text);
            json_object_set_new(x, name, old);
            ++*n;
        }
    }
    json_object_foreach(x, key, v) if (json_is_array(v))
    {
        json_t *y;
        json_array_foreach(v, at, y) if (json_is_object(y)) retype(root, y, n);
    }
}

static void other_types(void **state)
{
    int n = 0;
    json_t *root = json_loads(good, 0, NULL);
    (void)state;
    assert_non_null(root);
    retype(root, root, &n);
    json_decref(root);
    assert_true(n > 200);
}

static void cut_off_anywhere(void **state)
{
    struct why why;
    (void)state;
    for (size_t len = 0; len < sizeof good - 1; len++) {
        assert_int_equal(parse(good, len, &why), ERR_FORMAT);
        assert_memory_equal(why.text, "/some/dir/shards.json: ", 23);
    }
    assert_int_equal(parse(good, sizeof good - 1, &why), ERR_OK);
    assert_int_equal(parse("[]", 2, &why), ERR_FORMAT);
    assert_int_equal(parse("7", 1, &why), ERR_FORMAT);
}

static void what_is_no_directory_of_shards(void **state)
{
    struct shards s;
    struct catalog c = {0};
    struct why why = {""};
    struct arena a;
    (void)state;
    arena_init(&a, 0);
    assert_false(shards_here("/nonexistent"));
    assert_int_equal(shards_read("/nonexistent", &a, &s, &c, &why), ERR_NOTFOUND);
    assert_int_equal(mkdir(file, 0777), 0);
    assert_false(shards_here(dir));
    assert_int_equal(rmdir(file), 0);
    fclose(fopen(file, "w"));
    assert_int_equal(shards_read(dir, &a, &s, &c, &why), ERR_FORMAT);
    assert_non_null(strstr(why.text, file));
    assert_int_equal(unlink(file), 0);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read), cmocka_unit_test(what_cannot_be_written),
        cmocka_unit_test(changed_fields),          cmocka_unit_test(other_types),
        cmocka_unit_test(cut_off_anywhere),        cmocka_unit_test(what_is_no_directory_of_shards),
    };
    if (!mkdtemp(dir))
        return 1;
    snprintf(file, sizeof file, "%s/%s", dir, SHARDS_FILE);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(file);
    return rmdir(dir) == 0 ? failed : 1;
}
