/* openai_chat.c - the body of POST /v1/chat/completions becomes a struct.
 *
 * Templates were written for Python dictionaries as model authors build them, clients
 * send what OpenAI's library dumps: nulls for everything unset, content in parts, tool
 * arguments as JSON inside a string. The messages are brought into the authors' form
 * here, so that a template sees the same whoever sent them. Keys that nobody knows are
 * kept: templates may.
 */
#include "api/openai_chat.h"

#include <limits.h>
#include <string.h>

#include "api/fields.h"
#include "api/openai_sampling.h"

/* Fields that only chats have. */
struct chat_fields {
    int max_completion_tokens, top_logprobs;
    bool logprobs, have_top;
    bool add_generation_prompt, have_generation_prompt, continue_final;
};

#define AT(member) offsetof(struct chat_fields, member)
static const struct field fields[] = {
    { "max_completion_tokens",  FIELD_INT,  AT(max_completion_tokens), 0, INT_MAX },
    { "logprobs",               FIELD_BOOL, AT(logprobs),              0, 0 },
    { "top_logprobs",           FIELD_INT,  AT(top_logprobs),          0, OPENAI_MAX_TOP, AT(have_top) },
    { "add_generation_prompt",  FIELD_BOOL, AT(add_generation_prompt), 0, 0, AT(have_generation_prompt) },
    { "continue_final_message", FIELD_BOOL, AT(continue_final),        0, 0 },
};
#undef AT

/* ---- messages ------------------------------------------------------------------- */

/* Appends the text of one part of a content list. */
static err part_text(const json_t *part, size_t i, size_t k, struct buf *out, struct why *why)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *text = json_object_get(part, "text");
    if (json_is_string(part)) /* as some clients write it */
        text = part;
    else if (!type)
        return why_set(why, ERR_INVAL, "messages[%zu].content[%zu] must be an object with a type", i, k);
    else if (strcmp(type, "refusal") == 0)
        text = json_object_get(part, "refusal");
    else if (strcmp(type, "text") != 0)
        return why_set(why, ERR_UNSUPPORTED, "messages[%zu].content[%zu] is of type \"%.40s\"; only text is taken", i,
                       k, type);
    if (!json_is_string(text))
        return why_set(why, ERR_INVAL, "messages[%zu].content[%zu] has no text", i, k);
    if (k > 0)
        buf_putc(out, '\n');
    buf_put(out, json_string_value(text), json_string_length(text));
    return ERR_OK;
}

static err content_tidy(json_t *message, size_t i, struct why *why)
{
    err e;
    json_t *content = json_object_get(message, "content"), *flat;
    struct buf text = { 0 };
    if (content && !json_is_null(content) && !json_is_string(content) && !json_is_array(content))
        FAIL(ERR_INVAL, "messages[%zu].content must be a string or a list of parts", i);
    if (json_is_string(content))
        return ERR_OK;
    for (size_t k = 0; k < json_array_size(content); k++)
        TRY(part_text(json_array_get(content, k), i, k, &text, why));
    flat = text.failed ? NULL : json_stringn(text.data ? text.data : "", text.len);
    if (!flat || json_object_set_new(message, "content", flat))
        FAIL(ERR_NOMEM, "no memory for messages");
    e = ERR_OK;
out:
    buf_fini(&text);
    return e;
}

/* {"function": {"arguments": "{...}"}}: the string becomes the object that it holds. */
static err call_tidy(json_t *call, size_t i, size_t k, struct why *why)
{
    json_t *function = json_object_get(call, "function");
    const json_t *text = json_object_get(function, "arguments");
    json_error_t at;
    if (!json_is_object(function))
        return why_set(why, ERR_INVAL, "messages[%zu].tool_calls[%zu] has no function", i, k);
    if (text && !json_is_string(text) && !json_is_null(text))
        return ERR_OK;
    size_t len = json_string_length(text);
    json_t *value = len ? json_loadb(json_string_value(text), len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &at) : json_object();
    if (!value && len)
        return why_set(why, ERR_INVAL, "messages[%zu].tool_calls[%zu]: the arguments are not JSON: %s", i, k, at.text);
    if (json_object_set_new(function, "arguments", value))
        return why_set(why, ERR_NOMEM, "no memory for messages");
    return ERR_OK;
}

static void drop_nulls(json_t *object)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(object, next, key, value)
        if (json_is_null(value))
            json_object_del(object, key);
}

/* The messages are this request's own tree: tidied in place. */
static err message_tidy(json_t *message, size_t i, struct why *why)
{
    err e;
    if (!json_is_object(message))
        FAIL(ERR_INVAL, "messages[%zu] must be an object", i);
    drop_nulls(message);
    const json_t *role = json_object_get(message, "role");
    if (!json_is_string(role) || json_string_length(role) == 0)
        FAIL(ERR_INVAL, "messages[%zu] has no role", i);
    TRY(content_tidy(message, i, why));
    const json_t *calls = json_object_get(message, "tool_calls");
    if (calls && !json_is_array(calls))
        FAIL(ERR_INVAL, "messages[%zu].tool_calls must be a list", i);
    for (size_t k = 0; k < json_array_size(calls); k++)
        TRY(call_tidy(json_array_get(calls, k), i, k, why));
out:
    return e;
}

static err messages_read(const json_t *root, json_t *variables, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    json_t *messages = fields_get(root, "messages");
    fault->param = "messages";
    if (!messages)
        FAIL(ERR_INVAL, "messages is missing");
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        FAIL(ERR_INVAL, "messages must be a list of at least one message");
    for (size_t i = 0; i < json_array_size(messages); i++)
        TRY(message_tidy(json_array_get(messages, i), i, why));
    if (json_object_set(variables, "messages", messages))
        FAIL(ERR_NOMEM, "no memory for messages");
    fault->param = NULL;
    e = ERR_OK;
out:
    return e;
}

/* ---- other variables of the template ---------------------------------------------- */

static err list_read(const json_t *root, const char *name, json_t *variables, struct fault *fault)
{
    json_t *list = fields_get(root, name);
    if (!list)
        return ERR_OK;
    fault->param = name;
    if (!json_is_array(list))
        return why_set(&fault->why, ERR_INVAL, "%s must be a list", name);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_object(json_array_get(list, i)))
            return why_set(&fault->why, ERR_INVAL, "%s[%zu] must be an object", name, i);
    fault->param = NULL;
    if (json_array_size(list) && json_object_set(variables, name, list))
        return why_set(&fault->why, ERR_NOMEM, "no memory for %s", name);
    return ERR_OK;
}

/* "auto" is what a template with tools does; calls cannot be forced. */
static err tools_read(const json_t *root, json_t *variables, struct fault *fault)
{
    const json_t *choice = fields_get(root, "tool_choice");
    const char *word = json_string_value(choice);
    if (choice && !(word && (!strcmp(word, "auto") || !strcmp(word, "none")))) {
        fault->param = "tool_choice";
        return why_set(&fault->why, ERR_UNSUPPORTED, "tool_choice must be \"auto\" or \"none\": calls cannot be forced");
    }
    return word && !strcmp(word, "none") ? ERR_OK : list_read(root, "tools", variables, fault);
}

static err kwargs_read(const json_t *root, json_t *variables, struct fault *fault)
{
    static const char *const own[] = { "messages", "tools", "documents", "chat_template" };
    json_t *kwargs = fields_get(root, "chat_template_kwargs"), *effort = fields_get(root, "reasoning_effort");
    struct why *why = &fault->why;
    err e;
    fault->param = "chat_template_kwargs";
    if (kwargs && !json_is_object(kwargs))
        FAIL(ERR_INVAL, "chat_template_kwargs must be an object");
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (json_object_get(kwargs, own[i]))
            FAIL(ERR_INVAL, "chat_template_kwargs: \"%s\" cannot be given here", own[i]);
    fault->param = NULL;
    if ((effort && json_object_set(variables, "reasoning_effort", effort)) ||
        (kwargs && json_object_update(variables, kwargs)))
        FAIL(ERR_NOMEM, "no memory for chat_template_kwargs");
    e = ERR_OK;
out:
    return e;
}

static err variables_read(const json_t *root, const struct chat_fields *own, json_t *variables, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    bool generate = own->have_generation_prompt ? own->add_generation_prompt : !own->continue_final;
    TRY(kwargs_read(root, variables, fault));
    TRY(messages_read(root, variables, fault));
    TRY(tools_read(root, variables, fault));
    TRY(list_read(root, "documents", variables, fault));
    fault->param = "continue_final_message";
    if (generate && own->continue_final)
        FAIL(ERR_INVAL, "add_generation_prompt and continue_final_message exclude each other");
    fault->param = NULL;
    if (json_object_set_new(variables, "add_generation_prompt", json_boolean(generate)))
        FAIL(ERR_NOMEM, "no memory for variables");
out:
    return e;
}

/* ---- the request -------------------------------------------------------------------- */

/* What would change the answer and is not done here is refused, not ignored. */
static err refusals(const json_t *root, struct fault *fault)
{
    const json_t *format = fields_get(root, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (format && !(type && strcmp(type, "text") == 0)) {
        fault->param = "response_format";
        return why_set(&fault->why, type ? ERR_UNSUPPORTED : ERR_INVAL,
                       "response_format must be {\"type\": \"text\"}%s", type ? ": answers cannot be bound to a schema" : "");
    }
    if (fields_get(root, "chat_template")) {
        fault->param = "chat_template";
        return why_set(&fault->why, ERR_UNSUPPORTED, "the template is the model's; requests cannot bring one");
    }
    return ERR_OK;
}

static err own_read(const json_t *root, struct chat_fields *own, struct openai_completion *r, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    own->max_completion_tokens = -1;
    TRY(fields_read(root, fields, sizeof fields / sizeof *fields, own, fault));
    fault->param = "top_logprobs";
    if (own->have_top && own->top_logprobs > 0 && !own->logprobs)
        FAIL(ERR_INVAL, "top_logprobs needs logprobs: true");
    fault->param = NULL;
    if (own->max_completion_tokens >= 0)
        r->max_tokens = own->max_completion_tokens;
    if (own->logprobs)
        r->logprobs = own->top_logprobs;
    r->best_of = r->n;
    e = openai_min_tokens_check(r, fault);
out:
    return e;
}

err openai_chat_parse(const char *body, size_t len, struct openai_chat *out, struct fault *fault)
{
    err e;
    json_t *root = NULL;
    struct why *why = &fault->why;
    struct chat_fields own = { 0 };
    struct openai_chat r = {
        .completion = { .chat = true, .n = 1, .max_tokens = -1, .logprobs = -1, .temperature = 1, .top_p = 1,
                        .repetition_penalty = 1 },
        .variables = json_object(),
    };
    arena_init(&r.completion.arena, 0);
    if (!r.variables)
        FAIL(ERR_NOMEM, "no memory for a chat");
    TRY(fields_parse(body, len, &root, fault));
    TRY(openai_sampling_read(root, &r.completion, fault));
    TRY(own_read(root, &own, &r.completion, fault));
    TRY(refusals(root, fault));
    TRY(variables_read(root, &own, r.variables, fault));
    r.continue_final = own.continue_final;
    *out = r;
    r.variables = NULL;
    arena_init(&r.completion.arena, 0); /* moved */
out:
    openai_chat_fini(&r);
    json_decref(root);
    return e;
}

void openai_chat_fini(struct openai_chat *r)
{
    json_decref(r->variables);
    openai_completion_fini(&r->completion);
    *r = (struct openai_chat){ 0 };
}
