/* test_regex.c - the translation of patterns, and every named pre-tokenizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tokenizer/pretok.h"
#include "tokenizer/regex.h"

/* Words of `text` under `pattern` (isolated), joined by '|'. */
static void split(const char *pattern, enum pre_behavior behavior, const char *text, char *out, size_t cap)
{
    struct pre_list l = {0};
    struct pre_scratch s = {0};
    struct why why = {""};
    const char *base;
    const struct pre_spans *words;
    err e = pre_list_add_regex(&l, pattern, strlen(pattern), behavior, false, &why);
    if (e != ERR_OK)
        print_error("%s\n", why.text);
    assert_int_equal(e, ERR_OK);
    assert_int_equal(pretokenize(&l, &s, text, strlen(text), true, &base, &words, NULL), ERR_OK);
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < words->n; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%.*s", i ? "|" : "", (int)words->span[i].len,
                              base + words->span[i].at);
    pre_scratch_fini(&s);
    pre_list_fini(&l);
}

static void test_meaning(void **state)
{
    (void)state;
    static const struct { const char *pattern, *text, *words; } rows[] = {
        {"\\s+", "a b\xc2\xa0" "c", "a| |b|\xc2\xa0|c"},
        {"\\s", "a\xe1\xa0\x8e" "b", "a\xe1\xa0\x8e" "b"}, /* U+180E is no White_Space */
        {"[^(\\s|[.,!])]+", "ab.c(d|e)", "ab|.|c|(|d|||e|)"}, /* a nested set is a union */
        {"[a-z&&[^aeiou]]+", "hello", "h|e|ll|o"},
        {"[a-z&&[aeiou]]", "hello", "h|e|ll|o"},
        {"\\w+", "e\xcc\x81-x_1", "e\xcc\x81|-|x_1"}, /* marks are word characters */
        {"[\\s-]", "a-b c", "a|-|b| |c"},
        {"[-a]", "x-a", "x|-|a"},
        {"\\h+", "xafz", "x|af|z"}, /* hex digits, not blanks */
        {"x{,2}y", "xxxy", "x|xxy"},
        {"(?i:'s)|b", "it'S b", "it|'S| |b"},
        {"a{b", "a{b", "a{b"}, /* a brace that is no repeat */
        {"(a)(b)?", "abac", "ab|a|c"},
        {"[[:digit:]x]+", "a1x2", "a|1x2"},
        {"\\u0061+", "baab", "b|aa|b"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char got[256];
        split(rows[i].pattern, PRE_ISOLATED, rows[i].text, got, sizeof got);
        assert_string_equal(got, rows[i].words);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "a{1,3}+", "[^a&&[b]]", "[a[^b]]", "(?<x>a)", "\\k<x>", "[\\W]", "(*FAIL)", "\\p{NoSuchThing}", "[a", "(",
        "\\", "\\1", "[a&&[b]&&[c]]", "(?R)", "\\C",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct regex *re = NULL;
        struct why why = {""};
        err e = regex_open(patterns[i], strlen(patterns[i]), &re, &why);
        if (e == ERR_OK)
            print_error("accepted %s\n", patterns[i]);
        assert_true(e == ERR_UNSUPPORTED || e == ERR_FORMAT);
        assert_true(strlen(why.text) > 0);
    }
}

static void test_behaviors(void **state)
{
    (void)state;
    static const struct { enum pre_behavior behavior; const char *words; } rows[] = {
        {PRE_ISOLATED, "the|-|final|-|-|countdown"}, {PRE_REMOVED, "the|final|countdown"},
        {PRE_MERGED_PREVIOUS, "the-|final-|-|countdown"}, {PRE_MERGED_NEXT, "the|-final|-|-countdown"},
        {PRE_CONTIGUOUS, "the|-|final|--|countdown"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char got[256];
        split("-", rows[i].behavior, "the-final--countdown", got, sizeof got);
        assert_string_equal(got, rows[i].words);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        NULL, "", "default", "llama-bpe", "llama3", "gpt-2", "mpt", "falcon", "starcoder", "refact", "command-r",
        "qwen2", "qwen35", "stablelm2", "gpt-4o", "llama4", "tekken", "deepseek-v3", "deepseek-llm", "deepseek-coder",
        "bloom", "viking", "bailingmoe", "seed-coder", "chatglm-bpe", "smaug-bpe", "smollm", "exaone", "olmo",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct pre_list l = {0};
        struct why why = {""};
        bool whole, nfc;
        err e = pretok_named(names[i], &l, &whole, &nfc, &why);
        if (e != ERR_OK)
            print_error("%s: %s\n", names[i], why.text);
        assert_int_equal(e, ERR_OK);
        assert_true(l.n >= 2);
        pre_list_fini(&l);
    }
    static const char *const unknown[] = {"llama", "gpt", "bpe", "llama-bpe gpt-2", "no-such"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        struct pre_list l = {0};
        struct why why = {""};
        bool whole, nfc;
        assert_int_equal(pretok_named(unknown[i], &l, &whole, &nfc, &why), ERR_UNSUPPORTED);
        assert_non_null(strstr(why.text, "llama-bpe"));
        pre_list_fini(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meaning),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_behaviors),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
