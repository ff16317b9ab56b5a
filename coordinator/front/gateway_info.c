/* gateway_info.c - GET /health, /stats, /v1/models and /v1/models/NAME. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/front/gateway_route.h"
#include "coordinator/front/served.h"

/* ---- /health: 200 once requests are answered, 503 before and in between -------------- */

static void put_hosts(struct buf *out, const struct health *h)
{
    buf_printf(out, ",\"hosts\":[");
    for (int i = 0; i < h->n_hosts; i++) {
        const struct health_host *x = &h->hosts[i];
        buf_printf(out, "%s{\"host\":", i ? "," : "");
        buf_put_json(out, x->name, strlen(x->name), false);
        buf_printf(out, ",\"state\":\"%s\"", x->state);
        if (!x->used) {
            buf_printf(out, ",\"reason\":");
            buf_put_json(out, x->reason, strlen(x->reason), false);
        }
        buf_putc(out, '}');
    }
    buf_putc(out, ']');
}

void route_health(const struct route_request *r)
{
    struct gateway *g = r->g;
    bool ready = backend_ready(front_backend(g->o.front));
    struct health h = { .ready = ready, .state = ready ? "ready" : "not ready" };
    struct buf body = { 0 };
    if (g->o.health)
        g->o.health(g->o.health_ctx, &h);
    buf_printf(&body, "{\"status\":");
    buf_put_json(&body, h.state, strlen(h.state), false);
    buf_printf(&body, ",\"ready\":%s,\"epoch\":%u,\"running\":%d", h.ready ? "true" : "false", h.epoch, g->n_running);
    if (h.detail && *h.detail) {
        buf_printf(&body, ",\"detail\":");
        buf_put_json(&body, h.detail, strlen(h.detail), false);
    }
    if (h.n_hosts)
        put_hosts(&body, &h);
    buf_putc(&body, '}');
    gateway_reply_json(r->x, h.ready ? 200 : 503, &body);
    buf_fini(&body);
}

/* ---- /stats ---------------------------------------------------------------------------- */

/* The answer may come after the client went. */
struct stats_wait {
    struct http_exchange *x; /* NULL: gone */
};

static void stats_gone(void *ctx)
{
    ((struct stats_wait *)ctx)->x = NULL;
}

static void stats_done(void *ctx, const Cordee__Stats *stats)
{
    struct stats_wait *w = ctx;
    struct buf body = { 0 };
    if (w->x && stats) {
        status_put_json(&body, &stats->base);
        gateway_reply_json(w->x, 200, &body);
    } else if (w->x) {
        gateway_reply_error(w->x, 503, "the cluster cannot say at the moment", NULL, NULL);
    }
    buf_fini(&body);
    free(w);
}

void route_stats(const struct route_request *r)
{
    struct stats_wait *w = r->g->o.stats ? calloc(1, sizeof *w) : NULL;
    if (!w) {
        gateway_reply_error(r->x, 404, "there are no statistics here", NULL, "not_found");
        return;
    }
    w->x = r->x;
    http_on_gone(r->x, stats_gone, w);
    r->g->o.stats(r->g->o.stats_ctx, stats_done, w);
}

/* ---- models ------------------------------------------------------------------------------ */

/* adapter NULL: the model itself. id: SERVED_NAME_BYTES that its name is kept in. */
static struct openai_model model_of(const struct gateway *g, const char *adapter, char *id)
{
    const struct model_facts *f = &front_backend(g->o.front)->facts;
    served_name(f, adapter, id, SERVED_NAME_BYTES);
    return (struct openai_model){
        .id = id, .parent = adapter ? f->name : NULL, .family = f->family, .hash = f->hash,
        .created = g->created, .n_params = f->n_params, .max_context = f->max_context,
    };
}

void route_models(const struct route_request *r)
{
    const struct model_facts *f = &front_backend(r->g->o.front)->facts;
    struct openai_model list[1 + FACTS_MAX_ADAPTERS];
    char ids[1 + FACTS_MAX_ADAPTERS][SERVED_NAME_BYTES];
    struct buf body = { 0 };
    int n = 0;
    if (f->name[0])
        for (; n <= f->n_adapters; n++)
            list[n] = model_of(r->g, n ? f->adapters[n - 1] : NULL, ids[n]);
    openai_put_models(&body, list, n);
    gateway_reply_json(r->x, 200, &body);
    buf_fini(&body);
}

void route_model(const struct route_request *r)
{
    struct buf body = { 0 };
    struct openai_text name = { r->rest, strlen(r->rest) };
    struct openai_model m;
    char id[SERVED_NAME_BYTES];
    const char *adapter;
    if (name.len == 0) { /* elsewhere an empty name means the served one */
        gateway_reply_error(r->x, 404, "which model? /v1/models lists them", NULL, "not_found");
        return;
    }
    if (!gateway_model_known(r, name) ||
        served_find(&front_backend(r->g->o.front)->facts, name.text, name.len, &adapter, NULL) != ERR_OK)
        return;
    m = model_of(r->g, adapter, id);
    openai_put_model(&body, &m);
    gateway_reply_json(r->x, 200, &body);
    buf_fini(&body);
}
