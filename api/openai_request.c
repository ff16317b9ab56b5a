/* openai_request.c - the body of POST /v1/completions becomes a struct.
 *
 * openai_sampling.c reads what chats have too; here are the prompts and what only
 * completions know. Fields nobody knows are ignored, as evaluation harnesses send
 * their own.
 */
#include "api/openai.h"

#include "api/fields.h"
#include "api/openai_sampling.h"

#define AT(member) offsetof(struct openai_completion, member)
static const struct field fields[] = {
    /* name      kind        where         min max */
    { "best_of",  FIELD_INT,  AT(best_of),  1,  OPENAI_MAX_CHOICES },
    { "logprobs", FIELD_INT,  AT(logprobs), 0,  OPENAI_MAX_TOP },
    { "echo",     FIELD_BOOL, AT(echo),     0,  0 },
};
#undef AT

/* One prompt: a string, or a list of ids. */
static err prompt_one(const json_t *v, const char *name, struct arena *arena, struct openai_prompt *out,
                      struct fault *fault)
{
    struct why *why = &fault->why;
    fault->param = name;
    if (json_is_string(v)) {
        size_t len = json_string_length(v);
        char *s = arena_strndup(arena, json_string_value(v), len);
        if (!s)
            return why_set(why, ERR_NOMEM, "no memory for a text of %zu bytes", len);
        *out = (struct openai_prompt){ .text = { s, len } };
        return ERR_OK;
    }
    if (!json_is_array(v))
        return why_set(why, ERR_INVAL, "%s must be a string, a list of strings, a list of token ids "
                                       "or a list of lists of token ids", name);
    int32_t *ids;
    int n;
    err e = fields_ids(v, name, arena, &ids, &n, fault);
    if (e != ERR_OK)
        return e;
    fault->param = name;
    if (n == 0)
        return why_set(why, ERR_INVAL, "%s: a list of token ids is empty", name);
    *out = (struct openai_prompt){ .ids = ids, .n_ids = n };
    return ERR_OK;
}

/* A list is one prompt of ids when it starts with a number, else a list of prompts. */
err openai_prompts_read(const json_t *root, const char *name, struct arena *arena, struct openai_prompt **out,
                        int *n_out, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    const json_t *v = fields_get(root, name);
    fault->param = name;
    if (!v)
        FAIL(ERR_INVAL, "%s is missing", name);
    bool many = json_is_array(v) && !json_is_integer(json_array_get(v, 0));
    size_t n = many ? json_array_size(v) : 1;
    if (n == 0)
        FAIL(ERR_INVAL, "%s is an empty list", name);
    if (n > OPENAI_MAX_PROMPTS)
        FAIL(ERR_LIMIT, "%s has %zu entries, at most %d are taken in one request", name, n, OPENAI_MAX_PROMPTS);
    struct openai_prompt *prompts = arena_array(arena, n, sizeof *prompts);
    if (!prompts)
        FAIL(ERR_NOMEM, "no memory for %zu prompts", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = many ? json_array_get(v, i) : v;
        if (many && json_is_string(json_array_get(v, 0)) != json_is_string(one))
            FAIL(ERR_INVAL, "%s: a list must hold only strings or only lists of token ids", name);
        TRY(prompt_one(one, name, arena, &prompts[i], fault));
    }
    *out = prompts;
    *n_out = (int)n;
    fault->param = NULL;
    e = ERR_OK;
out:
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
    fault->param = NULL;
    e = openai_min_tokens_check(r, fault);
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
    TRY(openai_sampling_read(root, &r, fault));
    TRY(openai_prompts_read(root, "prompt", &r.arena, &r.prompts, &r.n_prompts, fault));
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
