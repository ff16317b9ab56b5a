/* gateway_chat.c - POST /v1/chat/completions, and POST /apply-template, which stops
 * where the prompt's text is known. */
#include "coordinator/front/chat.h"
#include "coordinator/front/gateway_route.h"

/* The body as a chat for a model that is served; false: answered, with what is wrong. */
static bool take_chat(const struct route_request *r, struct openai_chat *req)
{
    struct fault fault = { 0 };
    size_t len;
    const char *json = http_body(r->x, &len);
    err e = openai_chat_parse(json, len, req, &fault);
    if (e != ERR_OK) {
        gateway_reply_fault(r->x, e, &fault);
        return false;
    }
    return gateway_model_known(r, req->completion.model);
}

void route_chat(const struct route_request *r)
{
    struct openai_chat req = { 0 };
    struct fault fault = { 0 };
    if (take_chat(r, &req)) {
        err e = chat_prompt(r->g->chat, &req, &fault);
        if (e == ERR_OK)
            e = gateway_start_completion(r, &req.completion, &fault.why);
        if (e != ERR_OK)
            gateway_reply_fault(r->x, e, &fault);
    }
    openai_chat_fini(&req);
}

void route_apply_template(const struct route_request *r)
{
    struct openai_chat req = { 0 };
    struct fault fault = { 0 };
    struct jinja_text text = { 0 };
    struct buf body = { 0 };
    if (take_chat(r, &req)) {
        err e = chat_render(r->g->chat, &req, &text, &fault);
        if (e == ERR_OK) {
            openai_put_template(&body, (struct openai_text){ text.text.data, text.text.len });
            gateway_reply_json(r->x, 200, &body);
        } else {
            gateway_reply_fault(r->x, e, &fault);
        }
    }
    buf_fini(&body);
    jinja_text_fini(&text);
    openai_chat_fini(&req);
}
