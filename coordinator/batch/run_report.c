/* run_report.c - see run_report.h. */
#include "coordinator/batch/run_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int count_hosts(const struct run_stage *s, int n)
{
    int hosts = 0;
    for (int i = 0; i < n; i++) {
        int j = 0;
        while (j < i && strcmp(s[j].host, s[i].host) != 0)
            j++;
        hosts += j == i;
    }
    return hosts > 0 ? hosts : 1;
}

struct batch_prefix run_report_prefix(const struct run_report *r)
{
    return (struct batch_prefix){ r->before.pages + r->now.pages, r->before.again + r->now.again,
                                  r->before.evicted + r->now.evicted };
}

/* Counters begin again with every epoch. */
static void take_prefix(struct run_report *r, const Cordee__Stats *stats)
{
    if (!r->asked) { /* what a running engine did for others before does not count */
        r->before = (struct batch_prefix){ -stats->prefix_pages, -stats->prefix_pages_again,
                                           -stats->prefix_pages_evicted };
    } else if (stats->epoch != r->epoch) {
        r->before = run_report_prefix(r);
    }
    r->asked = true;
    r->epoch = stats->epoch;
    r->now = (struct batch_prefix){ stats->prefix_pages, stats->prefix_pages_again, stats->prefix_pages_evicted };
}

void run_report_take_stats(struct run_report *r, const Cordee__Stats *stats)
{
    if (!stats || stats->n_stage == 0)
        return;
    take_prefix(r, stats);
    r->settled = true;
    for (size_t i = 0; i < stats->n_stage; i++)
        r->settled = r->settled && stats->stage[i]->steps >= stats->steps;
    struct run_stage *stages = calloc(stats->n_stage, sizeof *stages);
    if (!stages)
        return;
    for (size_t i = 0; i < stats->n_stage; i++) {
        const Cordee__StageStats *s = stats->stage[i];
        double total = (double)(s->busy_us + s->wait_us);
        stages[i] = (struct run_stage){ .rank = s->rank, .first = s->first, .last = s->last,
                                        .busy = total > 0 ? (double)s->busy_us / total : 0,
                                        .wait = total > 0 ? (double)s->wait_us / total : 0,
                                        .sent_bytes = s->sent_bytes };
        snprintf(stages[i].host, sizeof stages[i].host, "%s", s->host ? s->host : "");
    }
    free(r->stages);
    r->stages = stages;
    r->n_stages = (int)stats->n_stage;
    r->nodes = count_hosts(stages, r->n_stages);
}

void run_report_fini(struct run_report *r)
{
    free(r->stages);
    *r = (struct run_report){ 0 };
}

/* ---- energy and cost ---------------------------------------------------------------------- */

struct cost {
    double kj_per_1k, money_per_1k, money; /* NAN: cannot be said */
    bool energy_measured;
};

/* Energy: this machine's counters when the run is on one node (tokens of this session
 * then), else watts times node time. */
static struct cost cost_of(const struct run_report *r)
{
    const struct batch_totals *t = &r->totals;
    struct cost c = { (double)NAN, (double)NAN, (double)NAN, r->nodes == 1 && r->energy.joules > 0 };
    double tokens = (double)(t->prompt_tokens + t->completion_tokens);
    double mine = tokens - (double)t->tokens_before, joules = (double)NAN;
    if (tokens <= 0)
        return c;
    if (c.energy_measured && mine > 0)
        joules = r->energy.joules * tokens / mine;
    else if (r->watts > 0)
        joules = r->watts * t->node_s;
    c.kj_per_1k = joules / tokens;
    if (r->node_hour > 0)
        c.money = r->node_hour * t->node_s / 3600;
    if (r->kwh > 0 && !isnan(joules))
        c.money = (isnan(c.money) ? 0 : c.money) + r->kwh * joules / 3.6e6;
    c.money_per_1k = c.money / tokens * 1000;
    return c;
}

static double rate(uint64_t n, double s)
{
    return s > 0 ? (double)n / s : (double)NAN;
}

/* ---- text ------------------------------------------------------------------------------------ */

static void line(struct buf *out, const char *name, double v, const char *unit, const char *label)
{
    if (!isnan(v))
        buf_printf(out, "%-28s %14.6g %-10s %s\n", name, v, unit, label);
}

void run_report_text(const struct run_report *r, struct buf *out)
{
    const struct batch_totals *t = &r->totals;
    struct cost c = cost_of(r);
    const char *energy = c.energy_measured ? "measured (RAPL, this session)" : "estimated (rates.watts)";
    uint64_t tokens = t->prompt_tokens + t->completion_tokens;
    buf_printf(out, "%s: %s, %s\n", r->command, r->model, r->fingerprint);
    line(out, "items", (double)t->n_items, "", "");
    line(out, "  answered", (double)t->n_ok, "", "");
    line(out, "  failed", (double)t->n_failed, "", "");
    line(out, "tokens in", (double)t->prompt_tokens, "", "measured");
    line(out, "  of these from the cache", (double)t->cached_tokens, "", "measured");
    line(out, "tokens out", (double)t->completion_tokens, "", "measured");
    line(out, "prefix pages computed", (double)t->prefix.pages, "", "measured");
    line(out, "  again in one epoch", (double)t->prefix.again, "", "measured");
    line(out, "  given up for others", (double)t->prefix.evicted, "", "measured");
    line(out, "tokens in and out", rate(tokens, t->wall_s), "per s", "measured");
    line(out, "latency, median", t->latency_p50_s, "s", "measured");
    line(out, "latency, 99 %", t->latency_p99_s, "s", "measured");
    line(out, "sessions", t->sessions, "", "");
    line(out, "restarts of the cluster", t->restarts, "", "");
    line(out, "wall time", t->wall_s / 3600, "h", "measured");
    line(out, "node time", t->node_s / 3600, "h", "measured");
    line(out, "energy per 1,000 tokens", c.kj_per_1k, "kJ", energy);
    line(out, "cost per 1,000 tokens", c.money_per_1k, "", "estimated (rates)");
    line(out, "cost", c.money, "", "estimated (rates)");
    for (int i = 0; i < r->n_stages; i++) {
        const struct run_stage *s = &r->stages[i];
        buf_printf(out, "stage %u (layers %u to %u, %s): busy %.1f %%, measured in the last epoch\n", s->rank,
                   s->first, s->last, s->host[0] ? s->host : "?", s->busy * 100);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------- */

static void figure(struct buf *out, const char *name, double v, const char *label)
{
    buf_printf(out, ",\"%s\":", name);
    if (isnan(v))
        buf_puts(out, "null");
    else
        buf_printf(out, "{\"value\":%.9g,\"basis\":\"%s\"}", v, label);
}

static void count(struct buf *out, const char *name, uint64_t v)
{
    buf_printf(out, ",\"%s\":%" PRIu64, name, v);
}

static void text(struct buf *out, const char *name, const char *s)
{
    buf_printf(out, "\"%s\":", name);
    buf_put_json(out, s, strlen(s), true);
}

void run_report_json(const struct run_report *r, struct buf *out)
{
    const struct batch_totals *t = &r->totals;
    struct cost c = cost_of(r);
    buf_putc(out, '{');
    text(out, "command", r->command);
    buf_putc(out, ',');
    text(out, "model", r->model);
    buf_putc(out, ',');
    text(out, "fingerprint", r->fingerprint);
    count(out, "items", (uint64_t)t->n_items);
    count(out, "answered", (uint64_t)t->n_ok);
    count(out, "failed", (uint64_t)t->n_failed);
    count(out, "prompt_tokens", t->prompt_tokens);
    count(out, "cached_tokens", t->cached_tokens);
    count(out, "completion_tokens", t->completion_tokens);
    count(out, "prefix_pages", t->prefix.pages);
    count(out, "prefix_pages_again", t->prefix.again);
    count(out, "prefix_pages_evicted", t->prefix.evicted);
    count(out, "sessions", t->sessions);
    count(out, "restarts", t->restarts);
    count(out, "nodes", (uint64_t)r->nodes);
    figure(out, "tokens_per_s", rate(t->prompt_tokens + t->completion_tokens, t->wall_s), "measured");
    figure(out, "latency_p50_s", t->latency_p50_s, "measured");
    figure(out, "latency_p99_s", t->latency_p99_s, "measured");
    figure(out, "wall_hours", t->wall_s / 3600, "measured");
    figure(out, "node_hours", t->node_s / 3600, "measured");
    figure(out, "energy_kj_per_1k_tokens", c.kj_per_1k, c.energy_measured ? "measured" : "estimated");
    figure(out, "cost_per_1k_tokens", c.money_per_1k, "estimated");
    figure(out, "cost", c.money, "estimated");
    buf_puts(out, ",\"stages\":[");
    for (int i = 0; i < r->n_stages; i++) {
        const struct run_stage *s = &r->stages[i];
        buf_printf(out, "%s{\"rank\":%u,\"first\":%u,\"last\":%u,\"busy\":%.4f,\"wait\":%.4f,\"sent_bytes\":%" PRIu64
                        ",",
                   i ? "," : "", s->rank, s->first, s->last, s->busy, s->wait, s->sent_bytes);
        text(out, "host", s->host);
        buf_putc(out, '}');
    }
    buf_puts(out, "]}\n");
}
