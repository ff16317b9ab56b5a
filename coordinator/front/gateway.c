/* gateway.c - see gateway.h. */
#include "coordinator/front/gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api/keys.h"
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/front/chat.h"
#include "coordinator/front/completion.h"
#include "coordinator/front/gateway_route.h"

static const struct route {
    const char *method, *path; /* a path that ends in '/' takes everything below it */
    route_fn *fn;
    bool open; /* needs no API key */
} routes[] = {
    { "POST", "/v1/completions", route_completions, false },
    { "POST", "/v1/chat/completions", route_chat,   false },
    { "POST", "/v1/embeddings",  route_embeddings,  false },
    { "POST", "/apply-template", route_apply_template, false },
    { "GET",  "/v1/models",      route_models,      false },
    { "GET",  "/v1/models/",     route_model,       false },
    { "GET",  "/health",         route_health,      true },
    { "GET",  "/stats",          route_stats,       false },
    { "GET",  "/metrics",        route_metrics,     false },
    { "POST", "/tokenize",       route_tokenize,    false },
    { "POST", "/detokenize",     route_detokenize,  false },
    { "GET",  "/tokenizer_info", route_tokenizer_info, false },
};

/* ---- answers ------------------------------------------------------------------------ */

void gateway_reply_json(struct http_exchange *x, int status, const struct buf *body)
{
    static const char lost[] = "{\"error\":{\"message\":\"no memory for the answer\",\"type\":\"server_error\","
                               "\"param\":null,\"code\":null}}";
    if (body->failed)
        http_reply(x, 500, "application/json", lost, sizeof lost - 1);
    else
        http_reply(x, status, "application/json", body->data ? body->data : "", body->len);
}

void gateway_reply_error(struct http_exchange *x, int status, const char *message, const char *param,
                         const char *code)
{
    struct buf body = { 0 };
    openai_put_error(&body, status, message, param, code);
    if (status == 429)
        http_set_header(x, "Retry-After", "1");
    gateway_reply_json(x, status, &body);
    buf_fini(&body);
}

void gateway_reply_fault(struct http_exchange *x, err code, const struct fault *fault)
{
    struct buf body = { 0 };
    int status = openai_status(code);
    openai_put_fault(&body, code, fault);
    if (status == 429)
        http_set_header(x, "Retry-After", "1");
    gateway_reply_json(x, status, &body);
    buf_fini(&body);
}

bool gateway_model_known(const struct route_request *r, struct openai_text model)
{
    struct fault fault = { .param = "model" };
    if (completion_model_served(&front_backend(r->g->o.front)->facts, model, &fault.why))
        return true;
    gateway_reply_fault(r->x, ERR_NOTFOUND, &fault);
    return false;
}

void gateway_key(const struct route_request *r, char *out, size_t size)
{
    if (r->g->o.keys)
        snprintf(out, size, "key %d", r->key);
    else
        snprintf(out, size, "%s", http_peer(r->x));
}

/* ---- routing --------------------------------------------------------------------------- */

static bool path_matches(const char *pattern, const char *path, const char **rest)
{
    size_t len = strlen(pattern);
    if (pattern[len - 1] == '/' && strncmp(path, pattern, len) == 0 && path[len]) {
        *rest = path + len;
        return true;
    }
    *rest = "";
    return strcmp(path, pattern) == 0;
}

static bool method_matches(const struct route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(route->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

static void request_cb(void *ctx, struct http_exchange *x)
{
    struct route_request r = { .g = ctx, .x = x };
    const char *method = http_method(x), *path = http_path(x);
    const struct route *other = NULL; /* the path is known, the method is not */
    struct why why;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!path_matches(routes[i].path, path, &r.rest))
            continue;
        other = &routes[i];
        if (!method_matches(other, method))
            continue;
        r.key = other->open ? 0 : keys_check(r.g->o.keys, http_header(x, "Authorization"));
        if (r.key < 0) {
            http_set_header(x, "WWW-Authenticate", "Bearer");
            gateway_reply_error(x, 401, "a valid API key is needed: Authorization: Bearer KEY", NULL,
                                "invalid_api_key");
            return;
        }
        other->fn(&r);
        return;
    }
    if (other) {
        http_set_header(x, "Allow", other->method);
        why_set(&why, ERR_INVAL, "%s takes %s, not %s", path, other->method, method);
        gateway_reply_error(x, 405, why.text, NULL, "method_not_allowed");
    } else {
        why_set(&why, ERR_NOTFOUND, "there is nothing at %.200s", path);
        gateway_reply_error(x, 404, why.text, NULL, "not_found");
    }
}

/* ---- open and close --------------------------------------------------------------------- */

err gateway_open(struct event_base *base, const struct gateway_options *o, struct gateway **out, struct why *why)
{
    err e;
    struct gateway *g = calloc(1, sizeof *g);
    if (!g)
        FAIL(ERR_NOMEM, "no memory for the gateway");
    if (!front_tokenizer(o->front))
        FAIL(ERR_INVAL, "the gateway's front needs a tokenizer");
    g->base = base;
    g->o = *o;
    TRY(chat_open(o->chat_template, front_tokenizer(o->front), &g->chat, why));
    g->created = (int64_t)wall_seconds();
    if (getrandom(&g->id_salt, sizeof g->id_salt, 0) != (ssize_t)sizeof g->id_salt)
        FAIL(ERR_IO, "no random bytes");
    TRY(http_open(base, &o->http, request_cb, g, &g->http, why));
    g->o.http.address = NULL; /* borrowed only for this call */
    *out = g;
    g = NULL;
out:
    gateway_close(g);
    return e;
}

void gateway_close(struct gateway *g)
{
    if (!g)
        return;
    completions_close(g);
    embeddings_close(g);
    http_close(g->http);
    chat_close(g->chat);
    buf_fini(&g->scratch);
    free(g);
}

int gateway_port(const struct gateway *g)
{
    return http_port(g->http);
}

void gateway_stop_accepting(struct gateway *g)
{
    http_stop_accepting(g->http);
}

int gateway_running(const struct gateway *g)
{
    return g->n_running;
}
