/* gateway_embeddings.c - POST /v1/embeddings: an embedding whose outlet is an HTTP
 * exchange. When the client leaves, it is given up. */
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/front/embedding.h"
#include "coordinator/front/gateway_route.h"

struct http_embedding {
    LIST_ENTRY(http_embedding) link;
    struct gateway *g;
    struct http_exchange *x;
    struct embedding *e;
};

static void forget(struct http_embedding *h)
{
    LIST_REMOVE(h, link);
    h->g->n_running--;
    free(h);
}

static void gone_cb(void *ctx)
{
    struct http_embedding *h = ctx;
    embedding_cancel(h->e);
    forget(h);
}

void embeddings_close(struct gateway *g)
{
    while (!LIST_EMPTY(&g->embeddings))
        gone_cb(LIST_FIRST(&g->embeddings));
}

static void reply_cb(void *ctx, const struct completion_answer *a)
{
    struct http_embedding *h = ctx;
    if (a->status == 429)
        http_set_header(h->x, "Retry-After", "1");
    gateway_reply_json(h->x, a->status, a->body);
    forget(h);
}

static const struct completion_outlet outlet = { .reply = reply_cb };

static err start(const struct route_request *r, struct openai_embed *req, struct fault *fault)
{
    struct gateway *g = r->g;
    char key[64];
    struct http_embedding *h = calloc(1, sizeof *h);
    if (!h)
        return why_set(&fault->why, ERR_NOMEM, "no memory for the request");
    gateway_key(r, key, sizeof key);
    struct completion_options o = { .base = g->base, .front = g->o.front, .key = key, .outlet = &outlet, .ctx = h };
    h->g = g;
    h->x = r->x;
    err e = embedding_start(req, &o, &h->e, fault);
    if (e != ERR_OK) {
        free(h);
        return e;
    }
    LIST_INSERT_HEAD(&g->embeddings, h, link);
    g->n_running++;
    http_on_gone(h->x, gone_cb, h);
    return ERR_OK;
}

void route_embeddings(const struct route_request *r)
{
    struct openai_embed req = { 0 };
    struct fault fault = { 0 };
    size_t len;
    const char *json = http_body(r->x, &len);
    err e = openai_embed_parse(json, len, &req, &fault);
    if (e == ERR_OK)
        e = start(r, &req, &fault);
    if (e != ERR_OK)
        gateway_reply_fault(r->x, e, &fault);
    openai_embed_fini(&req);
}
