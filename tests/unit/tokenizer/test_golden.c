/* test_golden.c - tokenizer.json and tokenizer.model against HF's own answers.
 *
 * Data: CORDEE_CONFORMANCE/golden/tokenizers, else the compact copy in
 * tests/golden/tokenizers (CORDEE_SOURCE). Every string: ids with and without
 * special tokens, plain ids, decoded text, decoded without specials, stream.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <string.h>

#include "tests/unit/tokenizer/json_ids.h"
#include "tests/unit/tokenizer/read_whole.h"
#include "tokenizer/tokenizer.h"

struct tally {
    int checks, bad;
};

static const char *golden_dir(void)
{
    static char dir[512];
    const char *all = getenv("CORDEE_CONFORMANCE"), *source = getenv("CORDEE_SOURCE");
    if (!all && !source)
        skip();
    snprintf(dir, sizeof dir, "%s/%s", all ? all : source, all ? "golden/tokenizers" : "tests/golden/tokenizers");
    return dir;
}

static char *read_in(const char *dir, const char *name, const char *file, size_t *len)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/%s", dir, name, file);
    return read_whole(path, len);
}

static int equal_ids(const struct tok_ids *got, json_t *want)
{
    if (got->n != json_array_size(want))
        return 0;
    for (size_t i = 0; i < got->n; i++)
        if (got->id[i] != json_integer_value(json_array_get(want, i)))
            return 0;
    return 1;
}

static void complain(const char *what, const char *text, size_t len, const struct tok_ids *got, json_t *want)
{
    char *w = json_dumps(want, JSON_COMPACT | JSON_ENCODE_ANY);
    print_message("  %s of \"%.*s\": want %.160s got", what, (int)(len > 60 ? 60 : len), text, w);
    for (size_t i = 0; i < got->n && i < 30; i++)
        print_message(" %d", got->id[i]);
    print_message("\n");
    free(w);
}

static void check_encode(const struct tokenizer *t, json_t *c, const char *key, json_t *want, unsigned flags,
                         struct tally *n)
{
    if (!want)
        return;
    const char *text = json_string_value(json_object_get(c, "text"));
    size_t len = json_string_length(json_object_get(c, "text"));
    struct tok_ids got = {0};
    struct why why = {""};
    n->checks++;
    err e = tokenizer_encode(t, text, len, flags, &got, &why);
    if (e != ERR_OK || !equal_ids(&got, want)) {
        if (n->bad++ < 12)
            complain(e == ERR_OK ? key : why.text, text, len, &got, want);
    }
    tok_ids_fini(&got);
}

static void complain_text(const char *what, const struct buf *got, json_t *want, struct tally *n)
{
    if (n->bad++ < 12)
        print_message("  %s: want \"%s\" got \"%.*s\"\n", what, json_string_value(want), (int)got->len,
                      got->data ? got->data : "");
}

static int equal_text(const struct buf *got, json_t *want)
{
    return got->len == json_string_length(want) &&
           (got->len == 0 || memcmp(got->data, json_string_value(want), got->len) == 0);
}

static void check_decode(const struct tokenizer *t, json_t *c, struct tally *n)
{
    struct tok_ids ids = ids_of(json_object_get(c, "ids"));
    struct buf out;
    buf_init(&out);
    for (int skip_special = 0; skip_special < 2; skip_special++) {
        json_t *want = json_object_get(c, skip_special ? "decoded_skip" : "decoded");
        buf_clear(&out);
        n->checks++;
        assert_int_equal(tokenizer_decode(t, ids.id, ids.n, skip_special, &out, NULL), ERR_OK);
        if (!equal_text(&out, want))
            complain_text(skip_special ? "decoded_skip" : "decoded", &out, want, n);
    }
    buf_fini(&out);
    free(ids.id);
}

/* Piece by piece where the text is whole; the sum in any case. */
static void check_stream(const struct tokenizer *t, json_t *c, struct tally *n)
{
    json_t *want = json_object_get(c, "stream"), *whole = json_object_get(c, "decoded");
    struct tok_ids ids = ids_of(json_object_get(c, "ids"));
    struct tok_stream s;
    struct buf all, one;
    int exact = memmem(json_string_value(whole), json_string_length(whole), "\xef\xbf\xbd", 3) == NULL;
    buf_init(&all);
    buf_init(&one);
    tok_stream_init(&s, t, false, true);
    for (size_t i = 0; i < ids.n; i++) {
        buf_clear(&one);
        assert_int_equal(tok_stream_push(&s, ids.id[i], &one, NULL), ERR_OK);
        json_t *piece = json_array_get(want, i);
        n->checks++;
        if (exact && (json_is_null(piece) ? one.len != 0 : !equal_text(&one, piece)))
            complain_text("stream piece", &one, json_is_null(piece) ? json_object_get(c, "none") : piece, n);
        buf_put(&all, one.data ? one.data : "", one.len);
    }
    assert_int_equal(tok_stream_end(&s, &all, NULL), ERR_OK);
    n->checks++;
    if (exact && !equal_text(&all, whole))
        complain_text("stream sum", &all, whole, n);
    tok_stream_fini(&s);
    buf_fini(&all);
    buf_fini(&one);
    free(ids.id);
}

/* Is a control token of this list written out in the text? */
static int spells_control(const struct tokenizer *t, json_t *text, json_t *ids)
{
    size_t i, len;
    json_t *x;
    json_array_foreach(ids, i, x) {
        int32_t id = (int32_t)json_integer_value(x);
        const char *piece = tokenizer_piece(t, id, &len);
        if ((tokenizer_type(t, id) == TOKEN_CONTROL || tokenizer_type(t, id) == TOKEN_UNKNOWN) &&
            memmem(json_string_value(text), json_string_length(text), piece, len))
            return 1;
    }
    return 0;
}

static struct tally check_json(const char *dir, const char *name)
{
    struct tally n = {0, 0};
    struct why why = {""};
    struct tokenizer *t = NULL;
    size_t len, config_len, golden_len, i;
    json_t *c;
    char *json = read_in(dir, name, "tokenizer.json", &len);
    char *config = read_in(dir, name, "tokenizer_config.json", &config_len);
    char *text = read_in(dir, name, "golden.json", &golden_len);
    assert_non_null(json);
    assert_non_null(text);
    json_t *golden = json_loadb(text, golden_len, JSON_ALLOW_NUL, NULL);
    assert_non_null(golden);
    if (tokenizer_open_json(json, len, config, config_len, &t, &why) != ERR_OK) {
        print_error("%s: %s\n", name, why.text);
        n.bad = 1;
    } else {
        json_array_foreach(json_object_get(golden, "encode"), i, c) {
            json_t *plain = json_object_get(c, "ids_plain"), *ids = json_object_get(c, "ids");
            check_encode(t, c, "ids", ids, ENCODE_PARSE_SPECIAL, &n);
            check_encode(t, c, "ids_special", json_object_get(c, "ids_special"),
                         ENCODE_PARSE_SPECIAL | ENCODE_ADD_SPECIAL, &n);
            /* HF's unigram spells control tokens out of a user's text; we never do. */
            if (!spells_control(t, json_object_get(c, "text"), plain ? plain : ids))
                check_encode(t, c, "ids_plain", plain ? plain : ids, 0, &n);
            check_decode(t, c, &n);
            check_stream(t, c, &n);
        }
        json_array_foreach(json_object_get(golden, "decode"), i, c) {
            check_decode(t, c, &n);
            check_stream(t, c, &n);
        }
        int bos = json_is_integer(json_object_get(golden, "bos_id"))
                      ? (int)json_integer_value(json_object_get(golden, "bos_id")) : -1;
        assert_int_equal(tokenizer_bos(t), bos);
        assert_int_equal(tokenizer_eos(t), json_is_integer(json_object_get(golden, "eos_id"))
                                               ? (int)json_integer_value(json_object_get(golden, "eos_id")) : -1);
    }
    tokenizer_close(t);
    json_decref(golden);
    free(json);
    free(config);
    free(text);
    return n;
}

/* tokenizer.model: SentencePiece's own ids (sp_ids where they differ). */
static struct tally check_model(const char *dir, const char *name)
{
    struct tally n = {0, 0};
    struct why why = {""};
    struct tokenizer *t = NULL;
    size_t len, golden_len, i;
    json_t *c;
    char *model = read_in(dir, name, "tokenizer.model", &len);
    if (!model)
        return n;
    char *text = read_in(dir, name, "golden.json", &golden_len);
    json_t *golden = json_loadb(text, golden_len, JSON_ALLOW_NUL, NULL);
    assert_non_null(golden);
    if (tokenizer_open_spm(model, len, NULL, 0, &t, &why) != ERR_OK) {
        print_error("%s: %s\n", name, why.text);
        n.bad = 1;
    } else {
        json_array_foreach(json_object_get(golden, "encode"), i, c) {
            json_t *sp = json_object_get(c, "sp_ids"), *plain = json_object_get(c, "ids_plain");
            check_encode(t, c, "sp_ids", sp ? sp : plain ? plain : json_object_get(c, "ids"), 0, &n);
        }
    }
    tokenizer_close(t);
    json_decref(golden);
    free(model);
    free(text);
    return n;
}

static void over_all(struct tally (*check)(const char *dir, const char *name), const char *what)
{
    const char *dir = golden_dir();
    struct dirent **list;
    int n = scandir(dir, &list, NULL, alphasort), seen = 0, bad = 0;
    for (int i = 0; i < n; i++) {
        size_t len;
        char *golden = list[i]->d_name[0] == '.' ? NULL : read_in(dir, list[i]->d_name, "golden.json", &len);
        if (golden) {
            struct tally r = check(dir, list[i]->d_name);
            if (r.checks + r.bad > 0)
                print_message("%-20s %s: %d checks, %d differ\n", list[i]->d_name, what, r.checks, r.bad);
            seen++;
            bad += r.bad;
        }
        free(golden);
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    assert_true(seen > 0);
    assert_int_equal(bad, 0);
}

static void test_tokenizer_json(void **state)
{
    (void)state;
    over_all(check_json, "tokenizer.json");
}

static void test_tokenizer_model(void **state)
{
    (void)state;
    over_all(check_model, "tokenizer.model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer_json),
        cmocka_unit_test(test_tokenizer_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
