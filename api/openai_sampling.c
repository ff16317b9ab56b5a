/* openai_sampling.c - see openai_sampling.h.
 *
 * Numbers and flags are rows of one table; what is left are the fields with more
 * than one shape: stop, logit_bias, stream_options.
 */
#include "api/openai_sampling.h"

#include <float.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "api/fields.h"

#define AT(member) offsetof(struct openai_completion, member)
static const struct field fields[] = {
    /* name                 kind         where                   min      max */
    { "n",                  FIELD_INT,   AT(n),                  1,       OPENAI_MAX_CHOICES },
    { "max_tokens",         FIELD_INT,   AT(max_tokens),         0,       INT_MAX },
    { "min_tokens",         FIELD_INT,   AT(min_tokens),         0,       INT_MAX },
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

err openai_sampling_read(const json_t *root, struct openai_completion *r, struct fault *fault)
{
    err e;
    TRY(fields_read(root, fields, sizeof fields / sizeof *fields, r, fault));
    TRY(fields_text(root, "model", &r->arena, &r->model, fault));
    TRY(fields_text(root, "user", &r->arena, &r->user, fault));
    TRY(stop_read(root, r, fault));
    TRY(bias_read(root, r, fault));
    TRY(stream_options_read(root, r, fault));
    if (fields_get(root, "stop_token_ids"))
        TRY(fields_ids(fields_get(root, "stop_token_ids"), "stop_token_ids", &r->arena, &r->stop_token_ids,
                       &r->n_stop_token_ids, fault));
    if (r->top_k < 0)
        r->top_k = 0; /* vLLM's -1: off */
    if (r->top_p <= 0)
        r->top_p = FLT_MIN; /* only the best token remains */
out:
    return e;
}

err openai_min_tokens_check(const struct openai_completion *r, struct fault *fault)
{
    if (r->max_tokens < 0 || r->min_tokens <= r->max_tokens)
        return ERR_OK;
    fault->param = "min_tokens";
    return why_set(&fault->why, ERR_INVAL, "min_tokens (%d) is greater than max_tokens (%d)", r->min_tokens,
                   r->max_tokens);
}
