/* openai_request.c - the body of POST /v1/completions becomes a struct.
 *
 * Numbers and flags are rows of one table; what is left are the fields with more
 * than one shape: prompt, stop, logit_bias, logprobs, stream_options. Fields
 * nobody knows are ignored, as evaluation harnesses send their own.
 */
#include "api/openai.h"

#include <float.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "api/fields.h"

#define AT(member) offsetof(struct openai_completion, member)
static const struct field fields[] = {
    /* name                 kind         where                   min      max */
    { "n",                  FIELD_INT,   AT(n),                  1,       OPENAI_MAX_CHOICES },
    { "best_of",            FIELD_INT,   AT(best_of),            1,       OPENAI_MAX_CHOICES },
    { "max_tokens",         FIELD_INT,   AT(max_tokens),         0,       INT_MAX },
    { "min_tokens",         FIELD_INT,   AT(min_tokens),         0,       INT_MAX },
    { "logprobs",           FIELD_INT,   AT(logprobs),           0,       OPENAI_MAX_TOP },
    { "echo",               FIELD_BOOL,  AT(echo),               0,       0 },
    { "stream",             FIELD_BOOL,  AT(stream),             0,       0 },
    { "seed",               FIELD_I64,   AT(seed),               0,       0, AT(have_seed) },
    { "temperature",        FIELD_FLOAT, AT(temperature),        0,       2 },
    { "top_p",              FIELD_FLOAT, AT(top_p),              0,       1 },
    { "min_p",              FIELD_FLOAT, AT(min_p),              0,       1 },
    { "top_k",              FIELD_INT,   AT(top_k),              -1,      INT_MAX },
    { "presence_penalty",   FIELD_FLOAT, AT(presence_penalty),   -2,      2 },
    { "frequency_penalty",  FIELD_FLOAT, AT(frequency_penalty),  -2,      2 },
    { "repetition_penalty", FIELD_FLOAT, AT(repetition_penalty), 0.01,    100 },
    { "ignore_eos",         FIELD_BOOL,  AT(ignore_eos),         0,       0 },
    { "return_token_ids",   FIELD_BOOL,  AT(return_token_ids),   0,       0 },
    { "add_special_tokens", FIELD_BOOL,  AT(add_special_tokens), 0,       0 },
    { "priority",           FIELD_INT,   AT(priority),           INT_MIN, INT_MAX },
};
#undef AT

/* One prompt: a string, or a list of ids. */
static err prompt_one(const json_t *v, struct arena *arena, struct openai_prompt *out, struct fault *fault)
{
    struct why *why = &fault->why;
    fault->param = "prompt";
    if (json_is_string(v)) {
        size_t len = json_string_length(v);
        char *s = arena_strndup(arena, json_string_value(v), len);
        if (!s)
            return why_set(why, ERR_NOMEM, "no memory for a prompt of %zu bytes", len);
        *out = (struct openai_prompt){ .text = { s, len } };
        return ERR_OK;
    }
    if (!json_is_array(v))
        return why_set(why, ERR_INVAL, "prompt must be a string, a list of strings, a list of token ids "
                                       "or a list of lists of token ids");
    int32_t *ids;
    int n;
    err e = fields_ids(v, "prompt", arena, &ids, &n, fault);
    if (e != ERR_OK)
        return e;
    fault->param = "prompt";
    if (n == 0)
        return why_set(why, ERR_INVAL, "prompt: a list of token ids is empty");
    *out = (struct openai_prompt){ .ids = ids, .n_ids = n };
    return ERR_OK;
}

/* A list is one prompt of ids when it starts with a number, else a list of prompts. */
static err prompts_read(const json_t *root, struct openai_completion *r, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    const json_t *v = fields_get(root, "prompt");
    fault->param = "prompt";
    if (!v)
        FAIL(ERR_INVAL, "prompt is missing");
    bool many = json_is_array(v) && !json_is_integer(json_array_get(v, 0));
    size_t n = many ? json_array_size(v) : 1;
    if (n == 0)
        FAIL(ERR_INVAL, "prompt is an empty list");
    if (n > OPENAI_MAX_PROMPTS)
        FAIL(ERR_LIMIT, "prompt has %zu entries, at most %d are taken in one request", n, OPENAI_MAX_PROMPTS);
    r->prompts = arena_array(&r->arena, n, sizeof *r->prompts);
    if (!r->prompts)
        FAIL(ERR_NOMEM, "no memory for %zu prompts", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = many ? json_array_get(v, i) : v;
        if (many && json_is_string(json_array_get(v, 0)) != json_is_string(one))
            FAIL(ERR_INVAL, "prompt: a list must hold only strings or only lists of token ids");
        TRY(prompt_one(one, &r->arena, &r->prompts[i], fault));
    }
    r->n_prompts = (int)n;
    fault->param = NULL;
    e = ERR_OK;
out:
    return e;
}

/* A string or a list of any length; empty strings would match at once and are left out. */
static err stop_read(const json_t *root, struct openai_completion *r, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    const json_t *v = fields_get(root, "stop");
    if (!v)
        return ERR_OK;
    fault->param = "stop";
    size_t n = json_is_array(v) ? json_array_size(v) : 1, bytes = 0;
    r->stop = arena_array(&r->arena, n ? n : 1, sizeof *r->stop);
    if (!r->stop)
        FAIL(ERR_NOMEM, "no memory for %zu stop strings", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_string(one))
            FAIL(ERR_INVAL, "stop must be a string or a list of strings");
        size_t len = json_string_length(one);
        if (len == 0)
            continue;
        bytes += len;
        if (bytes > OPENAI_MAX_STOP_BYTES)
            FAIL(ERR_LIMIT, "stop strings are longer than %d bytes together", OPENAI_MAX_STOP_BYTES);
        char *s = arena_strndup(&r->arena, json_string_value(one), len);
        if (!s)
            FAIL(ERR_NOMEM, "no memory for stop strings");
        r->stop[r->n_stop++] = (struct openai_text){ s, len };
    }
    fault->param = NULL;
    e = ERR_OK;
out:
    return e;
}

/* {"123": -100, ...}: token ids as keys. */
static err bias_read(const json_t *root, struct openai_completion *r, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    json_t *v = fields_get(root, "logit_bias"), *value;
    const char *key;
    if (!v)
        return ERR_OK;
    fault->param = "logit_bias";
    if (!json_is_object(v))
        FAIL(ERR_INVAL, "logit_bias must be an object of token ids and numbers");
    size_t n = json_object_size(v);
    r->bias = arena_array(&r->arena, n ? n : 1, sizeof *r->bias);
    if (!r->bias || n > INT_MAX)
        FAIL(ERR_NOMEM, "no memory for %zu biases", n);
    json_object_foreach(v, key, value) {
        char *end;
        size_t digits = strspn(key, "0123456789");
        long id = strtol(key, &end, 10);
        if (digits == 0 || key[digits] || digits > 10 || id > INT32_MAX)
            FAIL(ERR_INVAL, "logit_bias: \"%.40s\" is not a token id", key);
        double b = json_number_value(value);
        if (!json_is_number(value) || !(b >= -100 && b <= 100))
            FAIL(ERR_INVAL, "logit_bias of token %ld must be a number between -100 and 100", id);
        r->bias[r->n_bias++] = (struct openai_bias){ (int32_t)id, (float)b };
    }
    fault->param = NULL;
    e = ERR_OK;
out:
    return e;
}

static err stream_options_read(const json_t *root, struct openai_completion *r, struct fault *fault)
{
    static const struct field rows[] = {
        { "include_usage", FIELD_BOOL, offsetof(struct openai_completion, include_usage), 0, 0 },
    };
    const json_t *v = fields_get(root, "stream_options");
    if (!v)
        return ERR_OK;
    fault->param = "stream_options";
    if (!json_is_object(v))
        return why_set(&fault->why, ERR_INVAL, "stream_options must be an object");
    if (!r->stream)
        return why_set(&fault->why, ERR_INVAL, "stream_options is only for stream: true");
    err e = fields_read(v, rows, 1, r, fault);
    if (e == ERR_OK)
        fault->param = NULL;
    return e;
}

/* What single fields cannot say. */
static err completion_check(const json_t *root, struct openai_completion *r, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    const json_t *suffix = fields_get(root, "suffix");

    fault->param = "suffix";
    if (suffix && !(json_is_string(suffix) && json_string_length(suffix) == 0))
        FAIL(ERR_UNSUPPORTED, "suffix is not supported: models are not asked to fill in the middle");
    fault->param = "best_of";
    if (r->best_of == 0)
        r->best_of = r->n;
    if (r->best_of < r->n)
        FAIL(ERR_INVAL, "best_of (%d) must not be less than n (%d)", r->best_of, r->n);
    if (r->best_of > r->n && r->stream)
        FAIL(ERR_INVAL, "best_of greater than n cannot be streamed");
    fault->param = "n";
    if ((int64_t)r->n_prompts * r->best_of > OPENAI_MAX_PROMPTS)
        FAIL(ERR_LIMIT, "%d prompts with %d choices each are more than %d", r->n_prompts, r->best_of,
             OPENAI_MAX_PROMPTS);
    fault->param = "min_tokens";
    if (r->min_tokens > r->max_tokens)
        FAIL(ERR_INVAL, "min_tokens (%d) is greater than max_tokens (%d)", r->min_tokens, r->max_tokens);
    if (r->top_k < 0)
        r->top_k = 0; /* vLLM's -1: off */
    if (r->top_p <= 0)
        r->top_p = FLT_MIN; /* only the best token remains */
    fault->param = NULL;
    e = ERR_OK;
out:
    return e;
}

err openai_completion_parse(const char *body, size_t len, struct openai_completion *out, struct fault *fault)
{
    err e;
    json_t *root = NULL;
    struct openai_completion r = {
        .n = 1, .max_tokens = 16, .logprobs = -1, .temperature = 1, .top_p = 1,
        .repetition_penalty = 1, .add_special_tokens = true,
    };
    arena_init(&r.arena, 0);
    TRY(fields_parse(body, len, &root, fault));
    TRY(fields_read(root, fields, sizeof fields / sizeof *fields, &r, fault));
    TRY(fields_text(root, "model", &r.arena, &r.model, fault));
    TRY(fields_text(root, "user", &r.arena, &r.user, fault));
    TRY(prompts_read(root, &r, fault));
    TRY(stop_read(root, &r, fault));
    TRY(bias_read(root, &r, fault));
    TRY(stream_options_read(root, &r, fault));
    if (fields_get(root, "stop_token_ids"))
        TRY(fields_ids(fields_get(root, "stop_token_ids"), "stop_token_ids", &r.arena, &r.stop_token_ids,
                       &r.n_stop_token_ids, fault));
    TRY(completion_check(root, &r, fault));
    *out = r;
    arena_init(&r.arena, 0); /* moved */
out:
    arena_fini(&r.arena);
    json_decref(root);
    return e;
}

void openai_completion_fini(struct openai_completion *r)
{
    arena_fini(&r->arena);
    *r = (struct openai_completion){ 0 };
}
