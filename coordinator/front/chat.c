/* chat.c - see chat.h.
 *
 * Templates differ in what they take, and do not say so. Two questions are asked once,
 * by rendering a probe and looking for it in the text: whether content must be a list
 * of typed parts (some templates print nothing for a string), and whether the role
 * `developer` is known (if not, its messages go in as `system`, which is what it means).
 */
#include "coordinator/front/chat.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "api/jinja_chat.h"

struct chat {
    struct jinja *template; /* NULL: refused */
    struct why refused;
    const struct tokenizer *tok;
    json_t *model;  /* variables that the model vouches for */
    bool typed;     /* content as [{"type": "text", "text": ...}] */
    bool developer; /* a role of its own */
};

/* ---- what a template takes ---------------------------------------------------------- */

static const char needle[] = "Zanzibar";

static bool text_holds(const struct jinja_text *x, const char *what)
{
    return x->text.len && memmem(x->text.data, x->text.len, what, strlen(what));
}

/* Whether the needle, as content of that role and form, comes out. */
static bool probe(const struct chat *c, const char *role, bool typed)
{
    struct jinja_options o = { .now = jinja_now(), .limits = { .max_steps = 1000000 } };
    struct jinja_text x = { 0 };
    struct why why;
    bool found = false;
    json_t *content = typed ? json_pack("[{ssss}]", "type", "text", "text", needle) : json_string(needle);
    json_t *request = json_pack("{s[{ssso}{ssss}]sb}", "messages", "role", role, "content", content, "role",
                                strcmp(role, "user") ? "user" : "assistant", "content", "-", "add_generation_prompt", 0);
    if (request && jinja_render_chat(c->template, request, c->model, &o, &x, NULL, &why) == ERR_OK)
        found = text_holds(&x, needle);
    jinja_text_fini(&x);
    json_decref(request);
    return found;
}

/* ---- open --------------------------------------------------------------------------- */

static err model_token(const struct chat *c, const char *name, int id, struct why *why)
{
    size_t len;
    const char *piece = id >= 0 ? tokenizer_piece(c->tok, id, &len) : NULL;
    if (piece && json_object_set_new(c->model, name, json_stringn(piece, len)))
        return why_set(why, ERR_NOMEM, "no memory for the chat template");
    return ERR_OK;
}

err chat_open(const char *source, const struct tokenizer *tok, struct chat **out, struct why *why)
{
    err e;
    struct chat *c = calloc(1, sizeof *c);
    if (!c || !(c->model = json_object()))
        FAIL(ERR_NOMEM, "no memory for the chat template");
    c->tok = tok;
    TRY(model_token(c, "bos_token", tokenizer_bos(tok), why));
    TRY(model_token(c, "eos_token", tokenizer_eos(tok), why));
    if (!source) {
        why_set(&c->refused, ERR_UNSUPPORTED, "the model has no chat template; use /v1/completions");
    } else if ((e = jinja_open(source, strlen(source), &c->template, NULL, &c->refused)) != ERR_OK) {
        struct why reason = c->refused;
        why_set(&c->refused, e, "the model's chat template cannot be used: %.180s", reason.text);
    } else {
        c->typed = !probe(c, "user", false) && probe(c, "user", true);
        c->developer = probe(c, "developer", c->typed);
    }
    *out = c;
    c = NULL;
    e = ERR_OK;
out:
    chat_close(c);
    return e;
}

void chat_close(struct chat *c)
{
    if (!c)
        return;
    jinja_close(c->template);
    json_decref(c->model);
    free(c);
}

err chat_check(const struct chat *c, struct why *why)
{
    return c->template ? ERR_OK : why_set(why, ERR_UNSUPPORTED, "%s", c->refused.text);
}

/* ---- render -------------------------------------------------------------------------- */

/* Puts the messages into the form that the template takes. */
static err messages_suit(const struct chat *c, json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *m = json_array_get(messages, i), *content = json_object_get(m, "content");
        if (!c->developer && !strcmp(json_string_value(json_object_get(m, "role")), "developer") &&
            json_object_set_new(m, "role", json_string("system")))
            return ERR_NOMEM;
        if (c->typed && json_is_string(content) &&
            json_object_set_new(m, "content", json_pack("[{sssO}]", "type", "text", "text", content)))
            return ERR_NOMEM;
    }
    return ERR_OK;
}

static bool is_space(char ch)
{
    return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

/* continue_final_message: drops what the template wrote behind the last message's
 * content. Templates often strip contents; then the stripped one is looked for. */
static err cut_after(struct jinja_text *x, struct openai_text content, struct why *why)
{
    const char *head = content.text, *end = content.text + content.len, *found = NULL;
    while (head < end && is_space(*head))
        head++;
    while (end > head && is_space(end[-1]))
        end--;
    size_t len = (size_t)(end - head), whole = (size_t)(content.text + content.len - head);
    for (size_t at = x->text.len; len && at-- > 0 && !found;)
        if (x->text.len - at >= len && !memcmp(x->text.data + at, head, len))
            found = x->text.data + at;
    if (!found)
        return why_set(why, ERR_INVAL, "continue_final_message: the template does not show the last message");
    size_t keep = (size_t)(found - x->text.data);
    keep += x->text.len - keep >= whole && !memcmp(found, head, whole) ? whole : len;
    x->text.len = keep;
    while (x->n_spans && x->spans[x->n_spans - 1].start >= keep)
        x->n_spans--;
    if (x->n_spans)
        x->spans[x->n_spans - 1].end = keep;
    return ERR_OK;
}

/* Of the last message, before it is made to suit. */
static struct openai_text last_content(const json_t *messages)
{
    const json_t *v = json_object_get(json_array_get(messages, json_array_size(messages) - 1), "content");
    return (struct openai_text){ json_string_value(v), json_string_length(v) };
}

err chat_render(const struct chat *c, const struct openai_chat *req, struct jinja_text *out, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    struct jinja_options o = { .now = jinja_now() };
    struct jinja_text x = { 0 };
    json_t *variables = NULL;
    TRY(chat_check(c, why));
    variables = json_deep_copy(req->variables);
    if (!variables || messages_suit(c, json_object_get(variables, "messages")) != ERR_OK)
        FAIL(ERR_NOMEM, "no memory for messages");
    fault->param = "messages";
    e = jinja_render_chat(c->template, variables, c->model, &o, &x, NULL, why);
    if (e == ERR_LIMIT) /* of the template's work; a context's has another meaning to clients */
        e = ERR_INVAL;
    if (e == ERR_OK && req->continue_final)
        e = cut_after(&x, last_content(json_object_get(req->variables, "messages")), why);
    if (e != ERR_OK)
        goto out;
    fault->param = NULL;
    *out = x;
    x = (struct jinja_text){ 0 };
out:
    jinja_text_fini(&x);
    json_decref(variables);
    return e;
}

/* ---- token ids ------------------------------------------------------------------------- */

static err text_encode(const struct chat *c, const struct jinja_text *x, unsigned flags, struct tok_ids *ids,
                       struct why *why)
{
    struct tok_span *spans = calloc(x->n_spans + 1, sizeof *spans);
    if (!spans)
        return why_set(why, ERR_NOMEM, "no memory for the prompt");
    for (size_t i = 0; i < x->n_spans; i++)
        spans[i] = (struct tok_span){ .text = x->text.data + x->spans[i].start,
                                      .len = x->spans[i].end - x->spans[i].start,
                                      .parse_special = !x->spans[i].from_user };
    err e = tokenizer_encode_spans(c->tok, spans, x->n_spans, flags, ids, why);
    free(spans);
    return e;
}

err chat_prompt(const struct chat *c, struct openai_chat *req, struct fault *fault)
{
    err e;
    struct why *why = &fault->why;
    struct openai_completion *r = &req->completion;
    struct jinja_text x = { 0 };
    struct tok_ids ids = { 0 };
    TRY(chat_render(c, req, &x, fault));
    fault->param = "messages";
    TRY(text_encode(c, &x, r->add_special_tokens ? ENCODE_ADD_SPECIAL : 0u, &ids, why));
    if (ids.n == 0)
        FAIL(ERR_INVAL, "the template makes nothing of these messages");
    if (ids.n > INT_MAX)
        FAIL(ERR_LIMIT, "the prompt has %zu tokens", ids.n);
    int32_t *copy = arena_array(&r->arena, ids.n, sizeof *copy);
    r->prompts = arena_array(&r->arena, 1, sizeof *r->prompts);
    if (!copy || !r->prompts)
        FAIL(ERR_NOMEM, "no memory for %zu token ids", ids.n);
    memcpy(copy, ids.id, ids.n * sizeof *copy);
    r->prompts[0] = (struct openai_prompt){ .ids = copy, .n_ids = (int)ids.n };
    r->n_prompts = 1;
    fault->param = NULL;
    e = ERR_OK;
out:
    tok_ids_fini(&ids);
    jinja_text_fini(&x);
    return e;
}
