#include "api/jinja_chat.h"

#include <stdlib.h>
#include <string.h>

/* The first of the names under which a message carries reasoning that is not null. */
static json_t *reasoning_of(const json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *v = json_object_get(message, names[i]);
        if (v && !json_is_null(v))
            return v;
    }
    return NULL;
}

/* {"thinking": reasoning, **message, "reasoning_content": reasoning}: the order of
 * the keys shows in templates that print whole messages. NULL: no memory. */
static json_t *with_reasoning(json_t *message)
{
    json_t *reasoning = reasoning_of(message), *copy;
    if (!reasoning)
        return json_incref(message);
    copy = json_object();
    if (!copy || json_object_set(copy, "thinking", reasoning) || json_object_update(copy, message) ||
        json_object_set(copy, "reasoning_content", reasoning)) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

static err copy_messages(const json_t *messages, json_t **out, struct why *why)
{
    err e = ERR_OK;
    json_t *copy = json_array();
    if (!json_is_array(messages))
        FAIL(ERR_INVAL, "`messages` must be a list");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        if (!json_is_object(message))
            FAIL(ERR_INVAL, "message %zu must be an object", i);
        if (json_array_append_new(copy, with_reasoning(message)))
            FAIL(ERR_NOMEM, "chat messages");
    }
    *out = copy;
    copy = NULL;
out:
    json_decref(copy);
    return e;
}

static const json_t *or_null(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);
    return v ? v : json_null();
}

static size_t add_object(const json_t *object, bool from_user, struct jinja_var *vars)
{
    size_t n = 0;
    json_t *o = (json_t *)object; /* the iterators of jansson do not know const */
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it))
        vars[n++] = (struct jinja_var){json_object_iter_key(it), json_object_iter_value(it), from_user};
    return n;
}

err jinja_render_chat(const struct jinja *t, const json_t *request, const json_t *model,
                      const struct jinja_options *options, struct jinja_text *out, int *line, struct why *why)
{
    err e;
    json_t *messages = NULL;
    struct jinja_var *vars = NULL;
    size_t n = 0;

    if (!json_is_object(request))
        FAIL(ERR_INVAL, "the request must be an object");
    TRY(copy_messages(json_object_get(request, "messages"), &messages, why));
    vars = calloc(json_object_size(request) + json_object_size(model) + 4, sizeof *vars);
    if (!vars)
        FAIL(ERR_NOMEM, "template variables");

    n += add_object(request, true, vars);
    vars[n++] = (struct jinja_var){"messages", messages, true}; /* later ones win */
    vars[n++] = (struct jinja_var){"tools", or_null(request, "tools"), true};
    vars[n++] = (struct jinja_var){"documents", or_null(request, "documents"), true};
    if (!json_object_get(request, "add_generation_prompt"))
        vars[n++] = (struct jinja_var){"add_generation_prompt", json_false(), false};
    n += add_object(model, false, vars + n);
    e = jinja_render(t, vars, n, options, out, line, why);
out:
    free(vars);
    json_decref(messages);
    return e;
}
