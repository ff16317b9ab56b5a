/* gateway_metrics.c - GET /metrics: Prometheus' text format, version 0.0.4.
 *
 * Two tables say it all: families of the cluster and families with one sample a stage,
 * each a row with its name, type, meaning and place in the statistics message. Counters
 * of the pipeline start again with every epoch, which Prometheus takes for a restart of
 * the counter, as it is. While no cluster can answer, the gateway's own families are
 * there still: a scraper must see that the cluster is down, not nothing.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/front/gateway_route.h"

enum value { U32, U64, REAL, MICROSECONDS /* u64, shown in seconds */ };

struct family {
    const char *name, *type, *help;
    enum value value;
    size_t offset;
};

#define AT(field) offsetof(Cordee__Stats, field)
static const struct family of_cluster[] = {
    { "cordee_uptime_seconds", "gauge", "Age of the running epoch.", REAL, AT(uptime_s) },
    { "cordee_requests_total", "counter", "Sequences taken in by this epoch.", U64, AT(requests) },
    { "cordee_requests_failed_total", "counter", "Sequences that failed.", U64, AT(failed) },
    { "cordee_requests_cancelled_total", "counter", "Sequences that were cancelled.", U64, AT(cancelled) },
    { "cordee_requests_active", "gauge", "Sequences that run.", U64, AT(active) },
    { "cordee_requests_queued", "gauge", "Sequences that wait for a slot.", U64, AT(queued) },
    { "cordee_prompt_tokens_total", "counter", "Prompt tokens, cached ones included.", U64, AT(prompt_tokens) },
    { "cordee_generated_tokens_total", "counter", "Generated tokens.", U64, AT(generated_tokens) },
    { "cordee_prefix_hit_tokens_total", "counter", "Prompt tokens that came from the prefix cache.", U64,
      AT(cached_tokens) },
    { "cordee_prefix_pages_total", "counter", "Full pages of prompts that were computed.", U64, AT(prefix_pages) },
    { "cordee_prefix_pages_again_total", "counter", "Of these, computed before in this epoch.", U64,
      AT(prefix_pages_again) },
    { "cordee_prefix_pages_evicted_total", "counter", "Cached pages given up for others.", U64,
      AT(prefix_pages_evicted) },
    { "cordee_kv_pages", "gauge", "Pages of the KV cache.", U32, AT(pages) },
    { "cordee_kv_pages_used", "gauge", "Pages that hold something.", U32, AT(pages_used) },
    { "cordee_restarts_total", "counter", "Epochs that had to be launched anew.", U64, AT(restarts) },
};
#undef AT

#define AT(field) offsetof(Cordee__StageStats, field)
static const struct family of_stage[] = {
    { "cordee_stage_busy_seconds_total", "counter", "Time spent computing.", MICROSECONDS, AT(busy_us) },
    { "cordee_stage_wait_seconds_total", "counter", "Time spent waiting for work.", MICROSECONDS, AT(wait_us) },
    { "cordee_stage_steps_total", "counter", "Micro-batches computed.", U64, AT(steps) },
    { "cordee_stage_rows_total", "counter", "Rows (tokens) computed.", U64, AT(rows) },
    { "cordee_stage_sent_bytes_total", "counter", "Bytes sent to other ranks.", U64, AT(sent_bytes) },
    { "cordee_stage_received_bytes_total", "counter", "Bytes received from other ranks.", U64, AT(received_bytes) },
    { "cordee_stage_weight_bytes", "gauge", "Memory of the weights.", U64, AT(weight_bytes) },
    { "cordee_stage_kv_bytes", "gauge", "Memory of the KV cache.", U64, AT(kv_bytes) },
    { "cordee_stage_resident_bytes", "gauge", "Resident memory of the process.", U64, AT(rss_bytes) },
};
#undef AT

static void put_family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_value(struct buf *out, const struct family *f, const void *message)
{
    const char *at = (const char *)message + f->offset;
    switch (f->value) {
    case U32:
        buf_printf(out, " %" PRIu32 "\n", *(const uint32_t *)at);
        break;
    case U64:
        buf_printf(out, " %" PRIu64 "\n", *(const uint64_t *)at);
        break;
    case REAL:
        buf_printf(out, " %.9g\n", *(const double *)at);
        break;
    case MICROSECONDS:
        buf_printf(out, " %.6f\n", (double)*(const uint64_t *)at / 1e6);
        break;
    }
}

static void put_label(struct buf *out, const char *s)
{
    for (; s && *s; s++) {
        if (*s == '\n') {
            buf_puts(out, "\\n");
            continue;
        }
        if (*s == '\\' || *s == '"')
            buf_putc(out, '\\');
        buf_putc(out, *s);
    }
}

static void put_cluster(struct buf *out, const Cordee__Stats *stats)
{
    for (size_t i = 0; i < sizeof of_cluster / sizeof *of_cluster; i++) {
        const struct family *f = &of_cluster[i];
        put_family(out, f->name, f->type, f->help);
        buf_puts(out, f->name);
        put_value(out, f, stats);
    }
    for (size_t i = 0; stats->n_stage && i < sizeof of_stage / sizeof *of_stage; i++) {
        const struct family *f = &of_stage[i];
        put_family(out, f->name, f->type, f->help);
        for (size_t k = 0; k < stats->n_stage; k++) {
            buf_printf(out, "%s{rank=\"%u\",host=\"", f->name, stats->stage[k]->rank);
            put_label(out, stats->stage[k]->host);
            buf_puts(out, "\"}");
            put_value(out, f, stats->stage[k]);
        }
    }
}

static void put_own(struct buf *out, struct gateway *g)
{
    bool ready = backend_ready(front_backend(g->o.front));
    struct health h = { .ready = ready, .state = "" };
    if (g->o.health)
        g->o.health(g->o.health_ctx, &h);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } own[] = {
        { "cordee_ready", "gauge", "1 while requests are answered.", h.ready },
        { "cordee_epoch", "gauge", "Number of the running epoch; every launch counts.", h.epoch },
        { "cordee_http_answers_total", "counter", "Completions and chats asked for over HTTP.", g->n_ids },
        { "cordee_http_answers_running", "gauge", "Those that are not answered yet.", (uint64_t)g->n_running },
        { "cordee_http_connections", "gauge", "Open connections.", (uint64_t)http_connections(g->http) },
    };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        put_family(out, own[i].name, own[i].type, own[i].help);
        buf_printf(out, "%s %" PRIu64 "\n", own[i].name, own[i].value);
    }
    if (h.n_hosts)
        put_family(out, "cordee_host_used", "gauge", "1 for a host that epochs may use, 0 for one that is suspect or out.");
    for (int i = 0; i < h.n_hosts; i++) {
        buf_puts(out, "cordee_host_used{host=\"");
        put_label(out, h.hosts[i].name);
        buf_printf(out, "\"} %d\n", h.hosts[i].used);
    }
}

/* The statistics may come after the client went, or after the gateway was closed; so
 * what the gateway itself knows is written down before asking. */
struct metrics_wait {
    struct http_exchange *x; /* NULL: gone */
    struct buf body;
};

static void metrics_gone(void *ctx)
{
    ((struct metrics_wait *)ctx)->x = NULL;
}

static void metrics_done(void *ctx, const Cordee__Stats *stats)
{
    struct metrics_wait *w = ctx;
    if (stats)
        put_cluster(&w->body, stats);
    if (w->x && w->body.failed)
        gateway_reply_error(w->x, 500, "no memory for the answer", NULL, NULL);
    else if (w->x)
        http_reply(w->x, 200, "text/plain; version=0.0.4; charset=utf-8", w->body.data, w->body.len);
    buf_fini(&w->body);
    free(w);
}

void route_metrics(const struct route_request *r)
{
    struct metrics_wait *w = calloc(1, sizeof *w);
    if (!w) {
        gateway_reply_error(r->x, 500, "no memory for the answer", NULL, NULL);
        return;
    }
    w->x = r->x;
    put_own(&w->body, r->g);
    http_on_gone(r->x, metrics_gone, w);
    if (r->g->o.stats)
        r->g->o.stats(r->g->o.stats_ctx, metrics_done, w);
    else
        metrics_done(w, NULL);
}
