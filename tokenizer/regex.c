/* regex.c - compile and match. JIT where the system allows it (SELinux and
 * MemoryDenyWriteExecute do not), the interpreter otherwise: same results. */
#include "tokenizer/regex.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct regex {
    pcre2_code *code;
    bool jit;
};

enum {
    MATCH_LIMIT = 200 * 1000 * 1000,
    HEAP_LIMIT_KIB = 256 * 1024,
    JIT_STACK_BYTES = 64 << 20,
};

err regex_open(const char *pattern, size_t len, struct regex **out, struct why *why)
{
    err e;
    struct buf text;
    struct regex *re = NULL;
    pcre2_code *code = NULL;
    pcre2_compile_context *context = NULL;
    buf_init(&text);

    TRY(regex_translate(pattern, len, &text, why));
    re = calloc(1, sizeof *re);
    context = pcre2_compile_context_create(NULL);
    if (!re || !context)
        FAIL(ERR_NOMEM, "tokenizer: regular expression");
    pcre2_set_parens_nest_limit(context, 50);

    int code_error;
    PCRE2_SIZE at;
    /* MULTILINE: ^ and $ stand at every line in Oniguruma's Ruby syntax. */
    code = pcre2_compile((PCRE2_SPTR)(text.data ? text.data : ""), text.len,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code_error, &at, context);
    if (!code) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(code_error, reason, sizeof reason);
        FAIL(ERR_FORMAT, "tokenizer: pre-tokenizer regex: %s at %zu of \"%.120s\"", (char *)reason, at, text.data);
    }
    *re = (struct regex){.code = code, .jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0};
    *out = re;
    code = NULL;
    re = NULL;
    e = ERR_OK;

out:
    pcre2_code_free(code);
    pcre2_compile_context_free(context);
    free(re);
    buf_fini(&text);
    return e;
}

void regex_close(struct regex *re)
{
    if (re)
        pcre2_code_free(re->code);
    free(re);
}

static err scratch_ready(struct regex_scratch *s, struct why *why)
{
    if (!s->match)
        s->match = pcre2_match_data_create(1, NULL);
    if (!s->context) {
        s->context = pcre2_match_context_create(NULL);
        if (s->context) {
            pcre2_set_match_limit(s->context, MATCH_LIMIT);
            pcre2_set_heap_limit(s->context, HEAP_LIMIT_KIB);
        }
    }
    return s->match && s->context ? ERR_OK : why_set(why, ERR_NOMEM, "tokenizer: regular expression");
}

static int run(const struct regex *re, struct regex_scratch *s, const char *text, size_t len, size_t from)
{
    if (re->jit)
        return pcre2_jit_match(re->code, (PCRE2_SPTR)text, len, from, 0, s->match, s->context);
    return pcre2_match(re->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK, s->match, s->context);
}

err regex_find(const struct regex *re, struct regex_scratch *s, const char *text, size_t len, size_t from,
               size_t *start, size_t *end, bool *found, struct why *why)
{
    if (!s->context || !s->match) {
        err e = scratch_ready(s, why);
        if (e != ERR_OK)
            return e;
    }
    int rc = run(re, s, text, len, from);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !s->stack) {
        s->stack = pcre2_jit_stack_create(64 << 10, JIT_STACK_BYTES, NULL);
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
        rc = run(re, s, text, len, from);
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
        *found = false;
        return ERR_OK;
    }
    if (rc < 0) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(rc, reason, sizeof reason);
        return why_set(why, ERR_LIMIT, "tokenizer: pre-tokenizer regex: %s", (char *)reason);
    }
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(s->match);
    *start = at[0];
    *end = at[1] > at[0] ? at[1] : at[0]; /* \K may put the start behind the end */
    *found = true;
    return ERR_OK;
}

void regex_scratch_fini(struct regex_scratch *s)
{
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    *s = (struct regex_scratch){0};
}
