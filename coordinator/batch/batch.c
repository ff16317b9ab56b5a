/* batch.c - see batch.h.
 *
 * The log's records: the manifest first; then sessions (when one begins), ticks (how long
 * it has run by now: a session that is killed leaves no farewell) and results.
 *
 * Items are begun from a timer of the loop, never from inside a result: the front must
 * not be submitted to from inside its own events.
 */
#include "coordinator/batch/batch.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/timer.h"
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/batch/batch_output.h"
#include "coordinator/batch/manifest.h"
#include "coordinator/batch/runlog.h"

enum {
    MAX_ATTEMPTS = 5,
    FULL_US = 50000,      /* begin again when there was no room and nothing of ours is live */
    RETRY_US = 1000000,   /* doubled with every attempt */
};
enum record { RECORD_MANIFEST = 1, RECORD_RESULT, RECORD_SESSION, RECORD_TICK };

struct result_head {
    uint64_t item, latency_us, prompt, completion, cached;
    uint32_t ok, zero;
};
_Static_assert(sizeof(struct result_head) == 48, "layout in the log");
struct tick {
    uint64_t elapsed_ms;
    uint32_t restarts, nodes;
    struct batch_prefix prefix;
};
_Static_assert(sizeof(struct tick) == 40, "layout in the log");

enum slot_state { SLOT_FREE, SLOT_LIVE, SLOT_WAITING };
struct slot {
    enum slot_state state;
    int64_t item;
    void *job;
    uint64_t begun_us, due_us;
    int attempts;
};

struct batch {
    struct batch_options o;
    char *out_path, *errors_path;
    struct runlog *log;
    struct batch_output out, errors;
    struct timer *timer;
    uint64_t *at;        /* [n_items] offset of the result's record + 1; 0: none */
    float *latency_s;    /* [n_items] in order of completion */
    int64_t n_latencies;
    struct slot *slots;  /* [window] */
    int n_live;          /* slots in use */
    int64_t next;        /* no item before it is without result or slot */
    bool admitting, begun, over;
    const char *manifest; /* while opening */
    size_t manifest_len;
    bool manifest_seen;
    uint64_t began_ms;
    struct tick tick;    /* of the session that is read or running */
    struct batch_totals sum;
    err failed;
    struct why why;
};

/* ---- what the log says ----------------------------------------------------------------- */

static void count_result(struct batch *b, const struct result_head *h)
{
    if (h->ok)
        b->sum.n_ok++;
    else
        b->sum.n_failed++;
    b->sum.prompt_tokens += h->prompt;
    b->sum.completion_tokens += h->completion;
    b->sum.cached_tokens += h->cached;
    b->latency_s[b->n_latencies++] = (float)((double)h->latency_us / 1e6);
}

static void add_prefix(struct batch_prefix *sum, const struct batch_prefix *p)
{
    sum->pages += p->pages;
    sum->again += p->again;
    sum->evicted += p->evicted;
}

/* The session that `tick` spoke of is over. */
static void fold_session(struct batch *b)
{
    double s = (double)b->tick.elapsed_ms / 1000;
    b->sum.wall_s += s;
    b->sum.node_s += s * b->tick.nodes;
    b->sum.restarts += b->tick.restarts;
    add_prefix(&b->sum.prefix, &b->tick.prefix);
    b->tick = (struct tick){ 0 };
}

static err put_output(struct batch *b, bool ok, const char *line, size_t len, struct why *why)
{
    if (b->o.ordered)
        return ERR_OK;
    return batch_output_put(ok || !b->errors.path ? &b->out : &b->errors, line, len, why);
}

static err read_result(struct batch *b, uint64_t offset, const char *body, size_t len, struct why *why)
{
    struct result_head h;
    if (len < sizeof h)
        return why_set(why, ERR_FORMAT, "%s: a result of %zu bytes", runlog_path(b->log), len);
    memcpy(&h, body, sizeof h);
    if (h.item >= (uint64_t)b->o.n_items || b->at[h.item])
        return why_set(why, ERR_FORMAT, "%s: result of item %llu is out of place", runlog_path(b->log),
                       (unsigned long long)h.item);
    b->at[h.item] = offset + 1;
    count_result(b, &h);
    return put_output(b, h.ok, body + sizeof h, len - sizeof h, why);
}

static err read_record(void *ctx, uint32_t kind, uint64_t offset, const char *body, size_t len, struct why *why)
{
    struct batch *b = ctx;
    if ((kind == RECORD_MANIFEST) == b->manifest_seen)
        return why_set(why, ERR_FORMAT, "%s: not the journal of a batch; move it away", runlog_path(b->log));
    switch (kind) {
    case RECORD_MANIFEST:
        b->manifest_seen = true;
        return manifest_compare(body, len, b->manifest, b->manifest_len, why);
    case RECORD_SESSION:
        fold_session(b);
        b->sum.sessions++;
        return ERR_OK;
    case RECORD_TICK:
        if (len == sizeof b->tick)
            memcpy(&b->tick, body, len);
        return ERR_OK;
    case RECORD_RESULT:
        return read_result(b, offset, body, len, why);
    default:
        return ERR_OK; /* of a later version */
    }
}

/* ---- open -------------------------------------------------------------------------------- */

/* With a new log, an output file that is there holds somebody's results. */
static err refuse_foreign(const struct batch_options *o, struct why *why)
{
    const char *paths[] = { o->out, o->errors };
    if (!runlog_is_empty(o->log))
        return ERR_OK;
    for (int i = 0; i < 2; i++)
        if (paths[i] && access(paths[i], F_OK) == 0)
            return why_set(why, ERR_INVAL, "%s is there already, and its journal %s is new; move it away", paths[i],
                           runlog_path(o->log));
    return ERR_OK;
}

static err take_up(struct batch *b, struct why *why)
{
    err e;
    if (!b->o.ordered) {
        TRY(batch_output_open(&b->out, b->out_path, why));
        if (b->errors_path)
            TRY(batch_output_open(&b->errors, b->errors_path, why));
    }
    TRY(runlog_each(b->log, read_record, b, why));
    if (!b->manifest_seen) {
        TRY(runlog_append(b->log, RECORD_MANIFEST, b->manifest, b->manifest_len, NULL, 0, NULL, why));
        TRY(runlog_sync(b->log, why));
    }
    if (b->out.path)
        TRY(batch_output_cut(&b->out, why));
    if (b->errors.path)
        TRY(batch_output_cut(&b->errors, why));
    fold_session(b);
    b->sum.n_before = b->sum.n_ok + b->sum.n_failed;
    b->sum.tokens_before = b->sum.prompt_tokens + b->sum.completion_tokens;
out:
    return e;
}

static void pump(void *ctx);

err batch_open(const struct batch_options *o, const char *manifest, size_t manifest_len, struct batch **out,
               struct why *why)
{
    err e;
    size_t n = (size_t)o->n_items + 1;
    struct batch *b = calloc(1, sizeof *b);
    if (!b) {
        runlog_close(o->log);
        return why_set(why, ERR_NOMEM, "batch");
    }
    b->o = *o;
    b->o.out = b->o.errors = NULL; /* borrowed only for this call */
    b->log = o->log;
    b->manifest = manifest;
    b->manifest_len = manifest_len;
    b->sum.n_items = o->n_items;
    b->out_path = strdup(o->out);
    b->errors_path = o->errors ? strdup(o->errors) : NULL;
    b->at = calloc(n, sizeof *b->at);
    b->latency_s = calloc(n, sizeof *b->latency_s);
    b->slots = calloc((size_t)o->window, sizeof *b->slots);
    b->timer = timer_open(o->base, pump, b);
    if (!b->out_path || (o->errors && !b->errors_path) || !b->at || !b->latency_s || !b->slots || !b->timer)
        FAIL(ERR_NOMEM, "a batch of %lld items", (long long)o->n_items);
    TRY(refuse_foreign(o, why));
    TRY(take_up(b, why));
    *out = b;
    b = NULL;
out:
    batch_close(b);
    return e;
}

void batch_close(struct batch *b)
{
    if (!b)
        return;
    if (b->slots)
        batch_drop(b);
    timer_close(b->timer);
    batch_output_close(&b->out);
    batch_output_close(&b->errors);
    runlog_close(b->log);
    free(b->out_path);
    free(b->errors_path);
    free(b->at);
    free(b->latency_s);
    free(b->slots);
    free(b);
}

/* ---- the window ---------------------------------------------------------------------------- */

static struct slot *slot_of(struct batch *b, int64_t i)
{
    for (int k = 0; k < b->o.window; k++)
        if (b->slots[k].state == SLOT_LIVE && b->slots[k].item == i)
            return &b->slots[k];
    return NULL;
}

static void slot_free(struct batch *b, struct slot *s)
{
    *s = (struct slot){ 0 };
    b->n_live--;
    timer_start(b->timer, 0);
}

static void fail(struct batch *b, err code, const struct why *why)
{
    if (b->failed == ERR_OK) {
        b->failed = code;
        b->why = *why;
    }
    b->admitting = false;
}

/* ERR_FULL: the slot is free again. */
static err begin_in(struct batch *b, struct slot *s, struct why *why)
{
    void *job = NULL;
    int64_t i = s->item;
    s->state = SLOT_LIVE;
    s->begun_us = now_us();
    err e = b->o.work.begin(b->o.work.ctx, b, i, &job, why);
    if (e == ERR_OK && s->state == SLOT_LIVE && s->item == i)
        s->job = job;
    return e;
}

static int64_t next_item(struct batch *b)
{
    while (b->next < b->o.n_items && b->at[b->next])
        b->next++;
    return b->next;
}

/* Begins again what waits for that; the time until the next one in *wait_us (0: none). */
static err begin_waiting(struct batch *b, uint64_t *wait_us, struct why *why)
{
    uint64_t now = now_us();
    *wait_us = 0;
    for (int k = 0; k < b->o.window; k++) {
        struct slot *s = &b->slots[k];
        if (s->state != SLOT_WAITING)
            continue;
        if (s->due_us <= now) {
            err e = begin_in(b, s, why);
            if (e == ERR_FULL) {
                s->state = SLOT_WAITING;
                s->due_us = now + FULL_US;
            } else if (e != ERR_OK) {
                return e;
            }
        }
        if (s->state == SLOT_WAITING && (!*wait_us || s->due_us - now < *wait_us))
            *wait_us = s->due_us > now ? s->due_us - now : 1;
    }
    return ERR_OK;
}

static err fill(struct batch *b, struct why *why)
{
    for (int k = 0; k < b->o.window && b->admitting; k++) {
        struct slot *s = &b->slots[k];
        if (s->state != SLOT_FREE)
            continue;
        if (next_item(b) == b->o.n_items)
            return ERR_OK;
        s->item = b->next;
        b->n_live++;
        err e = begin_in(b, s, why);
        if (e != ERR_OK) {
            *s = (struct slot){ 0 };
            b->n_live--;
            return e;
        }
        b->next++;
    }
    return ERR_OK;
}

static void pump(void *ctx)
{
    struct batch *b = ctx;
    struct why why = { 0 };
    uint64_t wait_us = 0;
    if (!b->admitting)
        return;
    err e = begin_waiting(b, &wait_us, &why);
    if (e == ERR_OK)
        e = fill(b, &why);
    if (e == ERR_FULL) {
        if (b->n_live == 0 || (wait_us && wait_us > FULL_US))
            wait_us = FULL_US;
    } else if (e != ERR_OK) {
        fail(b, e, &why);
        return;
    }
    if (wait_us)
        timer_start(b->timer, wait_us);
}

void batch_finish(struct batch *b, int64_t i, const struct batch_result *r)
{
    struct slot *s = slot_of(b, i);
    struct why why = { 0 };
    uint64_t offset = 0;
    err e = b->failed;
    if (!s)
        return; /* given up before */
    struct result_head h = { (uint64_t)i, now_us() - s->begun_us, r->prompt_tokens, r->completion_tokens,
                             r->cached_tokens, r->ok, 0 };
    if (e == ERR_OK)
        e = runlog_append(b->log, RECORD_RESULT, &h, sizeof h, r->line, r->len, &offset, &why);
    if (e == ERR_OK) {
        b->at[i] = offset + 1;
        count_result(b, &h);
        e = put_output(b, r->ok, r->line, r->len, &why);
    }
    if (e != ERR_OK)
        fail(b, e, &why);
    slot_free(b, s);
}

void batch_again(struct batch *b, int64_t i, err code, const char *reason)
{
    struct slot *s = slot_of(b, i);
    struct why why;
    if (!s)
        return;
    s->attempts += code != ERR_FULL;
    if (s->attempts >= MAX_ATTEMPTS) {
        why_set(&why, code, "item %lld failed %d times, last: %s", (long long)i + 1, s->attempts,
                reason && reason[0] ? reason : err_text(code));
        fail(b, code, &why);
        slot_free(b, s);
        return;
    }
    log_debug("batch: item %lld again: %s", (long long)i + 1, reason ? reason : err_text(code));
    s->state = SLOT_WAITING;
    s->job = NULL;
    s->due_us = now_us() + (code == ERR_FULL ? FULL_US : (uint64_t)RETRY_US << (s->attempts - 1));
    timer_start(b->timer, 0);
}

/* ---- the session ----------------------------------------------------------------------------- */

static void tick_now(struct batch *b)
{
    if (!b->over)
        b->tick.elapsed_ms = now_ms() - b->began_ms;
}

err batch_begin(struct batch *b, int nodes, struct why *why)
{
    b->began_ms = now_ms();
    b->tick = (struct tick){ .nodes = (uint32_t)nodes };
    b->begun = b->admitting = true;
    b->sum.sessions++;
    timer_start(b->timer, 0);
    return runlog_append(b->log, RECORD_SESSION, "", 0, NULL, 0, NULL, why);
}

void batch_set_epochs(struct batch *b, uint32_t restarts, const struct batch_prefix *sum)
{
    b->tick.restarts = restarts;
    b->tick.prefix = *sum;
}

void batch_stop_admitting(struct batch *b)
{
    b->admitting = false;
    for (int k = 0; k < b->o.window; k++)
        if (b->slots[k].state == SLOT_WAITING)
            slot_free(b, &b->slots[k]);
}

void batch_drop(struct batch *b)
{
    b->admitting = false;
    if (b->begun)
        tick_now(b);
    b->over = b->begun;
    for (int k = 0; k < b->o.window; k++) {
        struct slot *s = &b->slots[k];
        if (s->state == SLOT_FREE)
            continue;
        void *job = s->state == SLOT_LIVE ? s->job : NULL;
        slot_free(b, s);
        if (job)
            b->o.work.cancel(b->o.work.ctx, job);
    }
}

int batch_live(const struct batch *b)
{
    return b->n_live;
}

bool batch_complete(const struct batch *b)
{
    return b->sum.n_ok + b->sum.n_failed == b->o.n_items;
}

err batch_failure(const struct batch *b, struct why *why)
{
    return b->failed ? why_set(why, b->failed, "%s", b->why.text) : ERR_OK;
}

err batch_sync(struct batch *b, struct why *why)
{
    err e = ERR_OK;
    if (b->begun) {
        tick_now(b);
        TRY(runlog_append(b->log, RECORD_TICK, &b->tick, sizeof b->tick, NULL, 0, NULL, why));
    }
    TRY(runlog_sync(b->log, why));
out:
    return e;
}

/* ---- results ------------------------------------------------------------------------------------ */

err batch_get(struct batch *b, int64_t i, bool *ok, struct buf *line, struct why *why)
{
    struct result_head h;
    err e;
    if (!b->at[i])
        FAIL(ERR_NOTFOUND, "item %lld has no result", (long long)i + 1);
    TRY(runlog_read(b->log, b->at[i] - 1, line, why));
    memcpy(&h, line->data, sizeof h); /* checked when it was read first */
    buf_drop(line, sizeof h);
    *ok = h.ok;
out:
    return e;
}

static err write_file(struct batch *b, const char *path, bool all, bool want_ok, struct why *why)
{
    struct batch_output file = { .fd = -1 };
    struct buf line = { 0 };
    char *part = NULL;
    bool ok;
    err e;
    if (asprintf(&part, "%s.part", path) < 0) {
        part = NULL;
        FAIL(ERR_NOMEM, "%s", path);
    }
    TRY(batch_output_open(&file, part, why));
    for (int64_t i = 0; i < b->o.n_items; i++) {
        TRY(batch_get(b, i, &ok, &line, why));
        if (all || ok == want_ok)
            TRY(batch_output_put(&file, line.data ? line.data : "", line.len, why));
    }
    TRY(batch_output_cut(&file, why));
    TRY(batch_output_sync(&file, why));
    if (rename(part, path) != 0)
        e = runlog_write_error(path, errno, why);
out:
    batch_output_close(&file);
    buf_fini(&line);
    free(part);
    return e;
}

err batch_write_ordered(struct batch *b, struct why *why)
{
    err e = ERR_OK;
    if (!b->o.ordered) {
        TRY(batch_output_sync(&b->out, why));
        if (b->errors.path)
            TRY(batch_output_sync(&b->errors, why));
        return ERR_OK;
    }
    TRY(write_file(b, b->out_path, !b->errors_path, true, why));
    if (b->errors_path)
        TRY(write_file(b, b->errors_path, false, false, why));
out:
    return e;
}

/* ---- totals ---------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void batch_sum(struct batch *b, struct batch_totals *out)
{
    float *sorted = malloc(((size_t)b->n_latencies + 1) * sizeof *sorted);
    *out = b->sum;
    out->latency_p50_s = out->latency_p99_s = (double)NAN;
    if (b->begun) {
        tick_now(b);
        out->wall_s += (double)b->tick.elapsed_ms / 1000;
        out->node_s += (double)b->tick.elapsed_ms / 1000 * b->tick.nodes;
        out->restarts += b->tick.restarts;
        add_prefix(&out->prefix, &b->tick.prefix);
    }
    if (sorted && b->n_latencies) {
        memcpy(sorted, b->latency_s, (size_t)b->n_latencies * sizeof *sorted);
        qsort(sorted, (size_t)b->n_latencies, sizeof *sorted, by_value);
        out->latency_p50_s = (double)sorted[(b->n_latencies - 1) / 2];
        out->latency_p99_s = (double)sorted[(b->n_latencies - 1) * 99 / 100];
    }
    free(sorted);
}
