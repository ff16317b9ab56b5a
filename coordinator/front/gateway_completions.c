/* gateway_completions.c - POST /v1/completions: a completion whose outlet is an HTTP
 * exchange; chats are answered through the same. When the client leaves, the completion is given up. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "coordinator/front/completion.h"
#include "coordinator/front/gateway_route.h"

struct http_completion {
    LIST_ENTRY(http_completion) link;
    struct gateway *g;
    struct http_exchange *x;
    struct completion *c;
};

static void forget(struct http_completion *h)
{
    LIST_REMOVE(h, link);
    h->g->n_running--;
    free(h);
}

static void gone_cb(void *ctx)
{
    struct http_completion *h = ctx;
    completion_cancel(h->c);
    forget(h);
}

void completions_close(struct gateway *g)
{
    while (!LIST_EMPTY(&g->completions))
        gone_cb(LIST_FIRST(&g->completions));
}

static void reply_cb(void *ctx, const struct completion_answer *a)
{
    struct http_completion *h = ctx;
    if (a->status == 429)
        http_set_header(h->x, "Retry-After", "1");
    gateway_reply_json(h->x, a->status, a->body);
    forget(h);
}

static void begin_cb(void *ctx)
{
    http_stream_begin(((struct http_completion *)ctx)->x);
}

static void put_cb(void *ctx, const char *data, size_t len)
{
    http_stream_put(((struct http_completion *)ctx)->x, data, len);
}

static void end_cb(void *ctx)
{
    struct http_completion *h = ctx;
    http_stream_end(h->x);
    forget(h);
}

static const struct completion_outlet outlet = { reply_cb, begin_cb, put_cb, end_cb };

err gateway_start_completion(const struct route_request *r, struct openai_completion *req, struct why *why)
{
    struct gateway *g = r->g;
    char id[48], key[64];
    struct http_completion *h = calloc(1, sizeof *h);
    if (!h)
        return why_set(why, ERR_NOMEM, "no memory for the request");
    snprintf(id, sizeof id, "%s-%08x%012llx", req->chat ? "chatcmpl" : "cmpl", g->id_salt,
             (unsigned long long)++g->n_ids);
    gateway_key(r, key, sizeof key);
    struct completion_options o = { .base = g->base, .front = g->o.front, .id = id, .key = key,
                                    .created = (int64_t)wall_seconds(), .outlet = &outlet, .ctx = h };
    h->g = g;
    h->x = r->x;
    err e = completion_start(req, &o, &h->c, why);
    if (e != ERR_OK) {
        free(h);
        return e;
    }
    LIST_INSERT_HEAD(&g->completions, h, link);
    g->n_running++;
    http_on_gone(h->x, gone_cb, h);
    return ERR_OK;
}

void route_completions(const struct route_request *r)
{
    struct openai_completion req = { 0 };
    struct fault fault = { 0 };
    size_t len;
    const char *json = http_body(r->x, &len);
    err e = openai_completion_parse(json, len, &req, &fault);
    if (e == ERR_OK && !gateway_model_known(r, req.model))
        goto out; /* answered */
    if (e == ERR_OK)
        e = gateway_start_completion(r, &req, &fault.why);
    if (e != ERR_OK)
        gateway_reply_fault(r->x, e, &fault);
out:
    openai_completion_fini(&req);
}
