/* test_tables.c - tokenizers from tables: what is refused, whom control tokens
 * obey, what spans mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tokenizer/tokenizer.h"

#define P(s, score, type) {s, sizeof(s) - 1, score, type}

static const struct tok_piece spm_pieces[] = {
    P("<unk>", 0, TOKEN_UNKNOWN), P("<s>", 0, TOKEN_CONTROL), P("</s>", 0, TOKEN_CONTROL),
    P("\xe2\x96\x81", -1, TOKEN_NORMAL), P("a", -2, TOKEN_NORMAL), P("b", -3, TOKEN_NORMAL),
    P("ab", -4, TOKEN_NORMAL), P("\xe2\x96\x81" "ab", -5, TOKEN_NORMAL), P("<", -6, TOKEN_NORMAL),
    P("s", -7, TOKEN_NORMAL), P(">", -8, TOKEN_NORMAL), P("<s", -9, TOKEN_NORMAL), P("<tool>", 0, TOKEN_USER_DEFINED),
    P("abab", -0.5f, TOKEN_UNUSED),
};
enum { N_SPM = sizeof spm_pieces / sizeof spm_pieces[0] };

static struct tok_tables spm_tables(void)
{
    return (struct tok_tables){.model = TOK_SPM, .pieces = spm_pieces, .n_pieces = N_SPM, .bos = 1, .eos = 2,
                               .unk = 0, .pad = -1, .sep = -1, .cls = -1, .mask = -1, .add_bos = true,
                               .add_space_prefix = true, .escape_spaces = true};
}

static struct tokenizer *open_ok(const struct tok_tables *tab)
{
    struct tokenizer *t = NULL;
    struct why why = {""};
    if (tokenizer_open(tab, &t, &why) != ERR_OK)
        print_error("%s\n", why.text);
    assert_non_null(t);
    return t;
}

static void expect(const struct tokenizer *t, const char *text, unsigned flags, const int32_t *want, size_t n)
{
    struct tok_ids ids = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, &ids, NULL), ERR_OK);
    assert_int_equal(ids.n, n);
    assert_memory_equal(ids.id, want, n * sizeof *want);
    tok_ids_fini(&ids);
}
#define EXPECT(t, text, flags, ...)                                          \
    do {                                                                     \
        static const int32_t want_[] = {__VA_ARGS__};                        \
        expect(t, text, flags, want_, sizeof want_ / sizeof want_[0]);       \
    } while (0)

static void test_spm(void **state)
{
    (void)state;
    struct tok_tables tab = spm_tables();
    struct tokenizer *t = open_ok(&tab);
    EXPECT(t, "ab", 0, 7);
    EXPECT(t, "ab", ENCODE_ADD_SPECIAL, 1, 7);
    EXPECT(t, "zz", 0, 3, 0);         /* a run of unknown characters is one unk */
    EXPECT(t, "<tool>ab", 0, 12, 7);  /* user-defined tokens always */
    EXPECT(t, "<s>", 0, 3, 11, 10);   /* control tokens never by themselves */
    EXPECT(t, "<s>ab", ENCODE_PARSE_SPECIAL, 1, 7);
    EXPECT(t, "abab", 0, 3, 6, 6);    /* an UNUSED piece merges, and is undone */
    struct tok_ids none = {0};
    assert_int_equal(tokenizer_encode(t, "", 0, 0, &none, NULL), ERR_OK);
    assert_int_equal(none.n, 0);
    tok_ids_fini(&none);
    tokenizer_close(t);
}

static void test_spans(void **state)
{
    (void)state;
    struct tok_tables tab = spm_tables();
    struct tokenizer *t = open_ok(&tab);
    const struct tok_span spans[] = {{"<s>a", 4, true}, {"b<s>", 4, false}, {"", 0, true}, {"</s>", 4, true}};
    static const int32_t want[] = {1, 7, 11, 10, 2}; /* "ab" crosses the edge, the user's <s> stays text */
    struct tok_ids ids = {0};
    assert_int_equal(tokenizer_encode_spans(t, spans, 4, 0, &ids, NULL), ERR_OK);
    assert_int_equal(ids.n, 5);
    assert_memory_equal(ids.id, want, sizeof want);
    ids.n = 0;
    const struct tok_span torn[] = {{"<", 1, true}, {"s>", 2, false}}; /* half of it may not */
    assert_int_equal(tokenizer_encode_spans(t, torn, 2, 0, &ids, NULL), ERR_OK);
    for (size_t i = 0; i < ids.n; i++)
        assert_int_not_equal(ids.id[i], 1);
    tok_ids_fini(&ids);
    tokenizer_close(t);
}

static void test_bad_text(void **state)
{
    (void)state;
    struct tok_tables tab = spm_tables();
    struct tokenizer *t = open_ok(&tab);
    struct tok_ids ids = {0};
    struct why why = {""};
    assert_int_equal(tokenizer_encode(t, "a", 1, 0, &ids, NULL), ERR_OK);
    size_t before = ids.n;
    assert_int_equal(tokenizer_encode(t, "ab\xff", 3, ENCODE_ADD_SPECIAL, &ids, &why), ERR_INVAL);
    assert_non_null(strstr(why.text, "byte 2"));
    assert_int_equal(ids.n, before); /* untouched */
    assert_int_equal(tokenizer_encode(t, "\xed\xa0\x80", 3, 0, &ids, &why), ERR_INVAL);
    assert_int_equal(tokenizer_encode(t, "a\0b", 3, 0, &ids, &why), ERR_OK);
    int32_t bad = N_SPM;
    struct buf out;
    buf_init(&out);
    assert_int_equal(tokenizer_decode(t, &bad, 1, false, &out, &why), ERR_INVAL);
    bad = -1;
    assert_int_equal(tokenizer_token_bytes(t, bad, &out, &why), ERR_INVAL);
    assert_null(tokenizer_piece(t, bad, NULL));
    buf_fini(&out);
    tok_ids_fini(&ids);
    tokenizer_close(t);
}

static void refused(const struct tok_tables *tab, err want, const char *word)
{
    struct tokenizer *t = NULL;
    struct why why = {""};
    assert_int_equal(tokenizer_open(tab, &t, &why), want);
    assert_null(t);
    if (!strstr(why.text, word))
        print_error("\"%s\" does not say \"%s\"\n", why.text, word);
    assert_non_null(strstr(why.text, word));
}

static void test_refused(void **state)
{
    (void)state;
    struct tok_tables tab = spm_tables();
    struct tok_piece p[N_SPM];
    tab.bos = N_SPM;
    refused(&tab, ERR_FORMAT, "bos");
    tab = spm_tables();
    tab.n_pieces = 0;
    refused(&tab, ERR_FORMAT, "id");
    tab = spm_tables();
    tab.pieces = p;
    memcpy(p, spm_pieces, sizeof p);
    p[5] = p[4];
    refused(&tab, ERR_FORMAT, "same piece");
    memcpy(p, spm_pieces, sizeof p);
    p[5].score = NAN;
    refused(&tab, ERR_FORMAT, "score");
    p[5].score = 0;
    p[5].type = 77;
    refused(&tab, ERR_FORMAT, "type");
    tab = spm_tables();
    tab.unk = -1;
    refused(&tab, ERR_FORMAT, "unk"); /* and no byte pieces either */
    tab = spm_tables();
    tab.charsmap = "\xff\xff\xff\x7f";
    tab.charsmap_bytes = 4;
    refused(&tab, ERR_FORMAT, "charsmap");
    tab = spm_tables();
    tab.model = TOK_BPE;
    tab.pre = "nobody-knows";
    refused(&tab, ERR_UNSUPPORTED, "nobody-knows");
    tab.pre = "gpt-2";
    const struct tok_merge merge = {"a", "zzz", 1, 3};
    tab.merges = &merge;
    tab.n_merges = 1;
    refused(&tab, ERR_FORMAT, "merge 0");
}

static void refused_json(const char *json, err want, const char *word)
{
    struct tokenizer *t = NULL;
    struct why why = {""};
    err e = tokenizer_open_json(json, strlen(json), NULL, 0, &t, &why);
    if (e != want || !strstr(why.text, word))
        print_error("%s: %s, not \"%s\"\n", json, why.text, word);
    assert_int_equal(e, want);
    assert_non_null(strstr(why.text, word));
}

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

static void test_refused_json(void **state)
{
    (void)state;
    refused_json("{", ERR_FORMAT, "line 1");
    refused_json("[]", ERR_FORMAT, "object");
    refused_json("{}", ERR_FORMAT, "model");
    refused_json("{" MODEL ",\"normalizer\":{\"type\":\"Odd\"}}", ERR_UNSUPPORTED, "Odd");
    refused_json("{" MODEL ",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}", ERR_UNSUPPORTED, "UnicodeScripts");
    refused_json("{" MODEL ",\"decoder\":{\"type\":\"CTC\"}}", ERR_UNSUPPORTED, "CTC");
    refused_json("{" MODEL ",\"post_processor\":{\"type\":\"Odd\"}}", ERR_UNSUPPORTED, "Odd");
    refused_json("{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}", ERR_UNSUPPORTED, "WordLevel");
    refused_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", ERR_UNSUPPORTED,
                 "dropout");
    refused_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
                 ERR_UNSUPPORTED, "end_of_word_suffix");
    refused_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", ERR_FORMAT, "twice");
    refused_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", ERR_FORMAT, "line");
    refused_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":9999999},\"merges\":[]}}", ERR_FORMAT, "ids go up");
    refused_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b c\"]}}", ERR_FORMAT, "merge");
    refused_json("{" MODEL ",\"added_tokens\":[{\"id\":5,\"content\":\"a\"}]}", ERR_FORMAT, "added token");
}

struct thread_job {
    const struct tokenizer *t;
    int bad;
};

static void *encode_often(void *arg)
{
    struct thread_job *j = arg;
    for (int i = 0; i < 2000; i++) {
        struct tok_ids ids = {0};
        err e = tokenizer_encode(j->t, "ab ab zz ab<tool>", 17, ENCODE_ADD_SPECIAL, &ids, NULL);
        j->bad += e != ERR_OK || ids.n != 7 || ids.id[1] != 7;
        tok_ids_fini(&ids);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct tok_tables tab = spm_tables();
    struct tokenizer *t = open_ok(&tab);
    struct thread_job jobs[4] = {{t, 0}, {t, 0}, {t, 0}, {t, 0}};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &jobs[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].bad, 0);
    }
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spm),     cmocka_unit_test(test_spans),        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_refused_json), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
