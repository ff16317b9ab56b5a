/* json_pretokenizer.c - the "pre_tokenizer" section. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/json_read.h"
#include "tokenizer/text.h"

static err read_behavior(const json_t *o, enum pre_behavior fallback, enum pre_behavior *out, struct why *why)
{
    static const struct { const char *name; enum pre_behavior behavior; } names[] = {
        {"Isolated", PRE_ISOLATED}, {"Removed", PRE_REMOVED}, {"MergedWithPrevious", PRE_MERGED_PREVIOUS},
        {"MergedWithNext", PRE_MERGED_NEXT}, {"Contiguous", PRE_CONTIGUOUS},
    };
    const char *s;
    size_t len;
    err e = json_get_string(o, "behavior", &s, &len, why);
    if (e != ERR_OK)
        return e;
    *out = fallback;
    for (size_t i = 0; s && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(s, names[i].name) == 0) {
            *out = names[i].behavior;
            return ERR_OK;
        }
    }
    return s ? why_set(why, ERR_UNSUPPORTED, "tokenizer.json: split behavior \"%.40s\"", s) : ERR_OK;
}

static err read_split(const json_t *o, struct pre_list *l, struct why *why)
{
    err e;
    struct pre_step st = {.kind = PRE_REGEX};
    TRY(read_behavior(o, PRE_ISOLATED, &st.behavior, why));
    TRY(json_get_bool(o, "invert", false, &st.invert, why));
    TRY(json_get_pattern(o, &st.text, &st.text_len, &st.regex, why));
    if (st.text)
        st.kind = PRE_STRING;
    return pre_list_add(l, st, why);
out:
    return e;
}

static err read_byte_level(const json_t *o, struct pre_list *l, struct why *why)
{
    err e;
    bool add_space, use_regex;
    TRY(json_get_bool(o, "add_prefix_space", true, &add_space, why));
    TRY(json_get_bool(o, "use_regex", true, &use_regex, why));
    if (use_regex) { /* the blank goes in front of what the regex sees */
        if (add_space) {
            struct pre_step lead = {.kind = PRE_METASPACE, .prepend = PREPEND_ALWAYS, .text = json_strndup(" ", 1),
                                    .text_len = 1};
            if (!lead.text)
                FAIL(ERR_NOMEM, "tokenizer.json: pre_tokenizer");
            TRY(pre_list_add(l, lead, why));
        }
        TRY(pre_list_add_regex(l, pretok_gpt2, strlen(pretok_gpt2), PRE_ISOLATED, false, why));
    }
    TRY(pre_list_add(l, (struct pre_step){.kind = PRE_BYTE_LEVEL, .add_space = add_space && !use_regex}, why));
out:
    return e;
}

/* Older files say add_prefix_space, newer prepend_scheme. */
static err read_metaspace(const json_t *o, struct pre_list *l, struct why *why)
{
    err e;
    struct pre_step st = {.kind = PRE_METASPACE, .prepend = PREPEND_ALWAYS};
    bool add;
    const char *scheme;
    size_t scheme_len;
    TRY(json_get_bool(o, "split", true, &st.split, why));
    TRY(json_get_bool(o, "add_prefix_space", true, &add, why));
    TRY(json_get_string(o, "prepend_scheme", &scheme, &scheme_len, why));
    if (scheme && strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0)
        FAIL(ERR_UNSUPPORTED, "tokenizer.json: prepend_scheme \"%.40s\"", scheme);
    if (scheme)
        st.prepend = scheme[0] == 'a' ? PREPEND_ALWAYS : scheme[0] == 'f' ? PREPEND_FIRST : PREPEND_NEVER;
    if (!add)
        st.prepend = PREPEND_NEVER;
    TRY(json_copy_string(o, "replacement", META, &st.text, &st.text_len, why));
    if (st.text_len == 0 || st.text_len > 4 || utf8_size((unsigned char)st.text[0]) != st.text_len)
        FAIL(ERR_FORMAT, "tokenizer.json: Metaspace replacement is not one character");
    e = pre_list_add(l, st, why);
    st.text = NULL;
out:
    free(st.text);
    return e;
}

static err read_delimiter(const json_t *o, struct pre_list *l, struct why *why)
{
    err e;
    struct pre_step st = {.kind = PRE_STRING, .behavior = PRE_REMOVED};
    TRY(json_copy_string(o, "delimiter", "", &st.text, &st.text_len, why));
    if (st.text_len == 0)
        FAIL(ERR_FORMAT, "tokenizer.json: CharDelimiterSplit without delimiter");
    e = pre_list_add(l, st, why);
    st.text = NULL;
out:
    free(st.text);
    return e;
}

static err read_class(const json_t *o, const char *type, struct pre_list *l, struct why *why)
{
    err e;
    struct pre_step st = {.behavior = PRE_ISOLATED};
    if (strcmp(type, "Digits") == 0) {
        bool each;
        TRY(json_get_bool(o, "individual_digits", false, &each, why));
        st.kind = PRE_DIGITS;
        st.behavior = each ? PRE_ISOLATED : PRE_CONTIGUOUS;
    } else if (strcmp(type, "Punctuation") == 0) {
        st.kind = PRE_PUNCT;
        TRY(read_behavior(o, PRE_ISOLATED, &st.behavior, why));
    } else { /* WhitespaceSplit, BertPreTokenizer */
        st.kind = PRE_SPACE;
        st.behavior = PRE_REMOVED;
    }
    TRY(pre_list_add(l, st, why));
    if (strcmp(type, "BertPreTokenizer") == 0)
        TRY(pre_list_add(l, (struct pre_step){.kind = PRE_PUNCT, .behavior = PRE_ISOLATED}, why));
out:
    return e;
}

static err read_step(const json_t *o, const char *type, void *ctx, struct why *why)
{
    struct pre_list *l = ctx;
    /* Rust's \w, spelt out: wider than Oniguruma's by Other_Alphabetic and the joiners. */
    static const char words[] = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]+|"
                                "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}\\s]+";
    if (strcmp(type, "Split") == 0)
        return read_split(o, l, why);
    if (strcmp(type, "ByteLevel") == 0)
        return read_byte_level(o, l, why);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(o, l, why);
    if (strcmp(type, "CharDelimiterSplit") == 0)
        return read_delimiter(o, l, why);
    if (strcmp(type, "Whitespace") == 0)
        return pre_list_add_regex(l, words, strlen(words), PRE_REMOVED, true, why);
    if (strcmp(type, "Digits") == 0 || strcmp(type, "Punctuation") == 0 || strcmp(type, "WhitespaceSplit") == 0 ||
        strcmp(type, "BertPreTokenizer") == 0)
        return read_class(o, type, l, why);
    return why_set(why, ERR_UNSUPPORTED, "tokenizer.json: pre_tokenizer \"%.60s\" is not known", type);
}

err json_pretokenizer(const json_t *o, struct pre_list *l, struct why *why)
{
    return json_each_step(o, "pretokenizers", read_step, l, why);
}
