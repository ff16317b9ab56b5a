/* engine.c - see engine.h.
 *
 * A turn has four phases, always in this order, so that each sees a settled state:
 *   1. poll     results come in; tokens and scores go out as events (report.c)
 *   2. settle   cancelled and complete sequences end; drained ones give back
 *               slot and pages, and preempted ones queue again (place.c)
 *   3. admit    waiting requests get a slot, pages, and the pages they share (place.c)
 *   4. send     micro-batches leave until the scheduler has none
 *
 * Callbacks run in phases 1 and 2 only and may submit and cancel: submitting
 * appends to the queue, cancelling sets a flag, so nothing moves under a loop.
 *
 * Slots and pages are not reused before the last micro-batch with rows of their
 * sequence is back. Published pages are the exception, and safe because the
 * pipeline is first in, first out (kvmap.h).
 */
#include "coordinator/engine/engine.h"

#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"
#include "coordinator/engine/engine_state.h"
#include "coordinator/front/served.h"

/* ---- sending ---------------------------------------------------------------------------- */

static err send_plan(struct engine *en, const struct sched_plan *plan, struct why *why)
{
    err e;
    for (int i = 0; i < plan->n_items; i++) {
        const struct sched_item *it = &plan->items[i];
        struct seq *s = en->view_seq[it->seq];
        int need = (it->first + it->n + ENGINE_PAGE_ROWS - 1) / ENGINE_PAGE_ROWS - s->n_pages;
        if (need > 0) {
            bool taken = kvmap_take(en->kv, need, s->pages + s->n_pages);
            assert(taken);
            s->n_pages += need;
        }
        s->lane = plan->lane[it->seq];
        en->parts[i] = (struct pipeline_part){s, it->first, it->n};
    }
    TRY(pipeline_send(en->pipe, en->parts, plan->n_items, why));
    for (int i = 0; i < plan->n_items; i++)
        place_sent(en, en->parts[i].seq, en->parts[i].first);
out:
    return e;
}

static err send_all(struct engine *en, bool *busy, struct why *why)
{
    err e = ERR_OK;
    struct sched_plan plan = {.items = en->items, .lane = en->lanes};
    struct sched_view v;
    while (en->n_active > 0 && pipeline_has_room(en->pipe)) {
        place_view(en, &v);
        bool go = sched_batch(&v, &plan);
        if (go) {
            *busy = true;
            TRY(send_plan(en, &plan, why));
        }
        if (plan.victim >= 0)
            place_preempt(en, en->view_seq[plan.victim]);
        if (!go)
            break;
    }
out:
    return e;
}

/* ---- the backend --------------------------------------------------------------------------- */

static err engine_submit(struct backend *b, const struct gen_request *req, gen_event_fn *fn, void *ctx,
                         uint64_t *handle, struct why *why)
{
    struct engine *en = (struct engine *)b;
    struct seq *s = NULL;
    uint32_t adapter;
    err e;
    if (en->closing)
        FAIL(ERR_CANCELLED, "the engine is closing");
    TRY(request_check(req, en->o.n_vocab, en->o.max_context, why));
    TRY(served_number(&en->backend.facts, req->adapter, &adapter, why));
    if (req->embed && (req->n_ids > en->o.max_rows || req->max_tokens > 0))
        FAIL(ERR_LIMIT, "the text has %d tokens, a step has %d rows (batch_rows), and an encoder takes a text at once",
             req->n_ids, en->o.max_rows);
    if (en->n_waiting >= en->o.max_queue)
        FAIL(ERR_FULL, "%d requests are waiting already", en->n_waiting);
    TRY(seq_open(req, en->o.max_context, ENGINE_PAGE_ROWS, &s, why));
    s->adapter = adapter;
    s->pooling = en->o.facts.pooling;
    s->is_long = en->o.long_prompt > 0 && s->n_prompt > en->o.long_prompt;
    if (!(s->key = fair_key_get(&en->keys, req->key)))
        FAIL(ERR_NOMEM, "request");
    s->fn = fn;
    s->ctx = ctx;
    s->handle = s->arrival = ++en->next_handle;
    *handle = s->handle;
    en->waiting[en->n_waiting++] = s;
    en->try_admit = true;
    en->stats.requests++;
    en->stats.prompt_tokens += (uint64_t)s->n_prompt;
    s = NULL;
out:
    seq_close(s);
    return e;
}

static void engine_cancel(struct backend *b, uint64_t handle)
{
    struct engine *en = (struct engine *)b;
    for (int i = 0; i < en->o.max_slots; i++)
        if (en->slots[i] && en->slots[i]->handle == handle)
            en->slots[i]->cancelled = true;
    for (int i = 0; i < en->n_waiting; i++)
        if (en->waiting[i]->handle == handle)
            en->waiting[i]->cancelled = true;
}

static bool engine_ready(const struct backend *b)
{
    return !((const struct engine *)b)->closing;
}

static const struct backend_ops engine_ops = {engine_submit, engine_cancel, engine_ready};

struct backend *engine_backend(struct engine *en)
{
    return &en->backend;
}

/* ---- the owner's calls ----------------------------------------------------------------------- */

err engine_turn(struct engine *en, bool *busy, struct why *why)
{
    err e;
    TRY(pipeline_poll(en->pipe, busy, why));
    place_settle(en, busy);
    place_admit(en, busy);
    TRY(send_all(en, busy, why));
out:
    return e;
}

bool engine_idle(const struct engine *en)
{
    return en->n_waiting == 0 && en->n_active == 0 && pipeline_flights(en->pipe) == 0;
}

err engine_stop(struct engine *en, struct why *why)
{
    if (!engine_idle(en))
        return why_set(why, ERR_INVAL, "requests are still running");
    return pipeline_stop(en->pipe, why);
}

void engine_stats(const struct engine *en, struct engine_stats *out)
{
    *out = en->stats;
    out->active = (uint64_t)en->n_active;
    out->queued = (uint64_t)en->n_waiting;
    out->steps = pipeline_steps(en->pipe);
    out->rows = pipeline_rows(en->pipe);
    out->pages = en->o.n_pages;
    out->pages_used = kvmap_used(en->kv);
    struct kvmap_counts prefix = kvmap_counts(en->kv);
    out->prefix_pages = prefix.published;
    out->prefix_again = prefix.again;
    out->prefix_evicted = prefix.evicted;
}

/* ---- opening and closing ---------------------------------------------------------------------- */

static struct wire_limits wire_limits_of(const struct engine_options *o)
{
    return (struct wire_limits){
        .max_rows = (uint32_t)o->max_rows, .max_seqs = (uint32_t)o->max_slots, .max_slots = (uint32_t)o->max_slots,
        .n_pages = o->n_pages, .max_context = (uint32_t)o->max_context, .n_vocab = o->n_vocab,
        .page_rows = ENGINE_PAGE_ROWS, .n_adapters = (uint32_t)o->facts.n_adapters,
        .n_hidden = (uint32_t)o->facts.n_embedding,
    };
}

size_t engine_max_message(int max_rows, int max_slots, int max_context, uint32_t n_pages, int n_embd,
                          int n_embedding, enum wire_type x)
{
    struct engine_options o = {
        .max_rows = max_rows, .max_slots = max_slots, .max_context = max_context, .n_pages = n_pages,
        .facts = {.n_embedding = n_embedding},
    };
    struct wire_limits lim = wire_limits_of(&o);
    return wire_max_message(&lim, n_embd, x);
}

int engine_send_bufs(const struct engine_options *o)
{
    return o->n_stages + 3;
}

static err check_options(const struct engine_options *o, struct why *why)
{
    err e = ERR_OK;
    if (o->n_stages < 1 || o->max_rows < 1 || o->max_slots < 1 || o->max_slots > UINT16_MAX || o->max_queue < 1 ||
        o->n_vocab < 1 || o->n_embd < 1 || o->in_flight < 0 || o->mix_rows < 0)
        FAIL(ERR_INVAL, "engine: a limit is out of range");
    if (o->max_context < 2 || o->n_pages < 1)
        FAIL(ERR_INVAL, "engine: a context of %d positions in %u KV pages", o->max_context, o->n_pages);
out:
    return e;
}

static err alloc_tables(struct engine *en, struct why *why)
{
    size_t slots = (size_t)en->o.max_slots, live = slots + (size_t)en->o.max_queue;
    en->slots = mem_alloc(slots, sizeof *en->slots);
    en->view = mem_alloc(slots, sizeof *en->view);
    en->view_seq = mem_alloc(slots, sizeof *en->view_seq);
    en->items = mem_alloc(slots, sizeof *en->items);
    en->lanes = mem_alloc(slots, sizeof *en->lanes);
    en->parts = mem_alloc(slots, sizeof *en->parts);
    en->waiting = mem_alloc(live, sizeof *en->waiting);
    en->waits = mem_alloc(live, sizeof *en->waits);
    if (!en->slots || !en->view || !en->view_seq || !en->items || !en->lanes || !en->parts || !en->waiting ||
        !en->waits)
        return why_set(why, ERR_NOMEM, "engine for %zu requests", live);
    return ERR_OK;
}

static void free_tables(struct engine *en)
{
    kvmap_close(en->kv);
    pipeline_close(en->pipe);
    free(en->slots);
    free(en->view);
    free(en->view_seq);
    free(en->items);
    free(en->lanes);
    free(en->parts);
    free(en->waiting);
    free(en->waits);
    free(en);
}

static int default_mix(const struct engine_options *o)
{
    int mix = o->mix_rows ? o->mix_rows : o->max_rows / 4 > 32 ? o->max_rows / 4 : 32;
    return mix < o->max_rows ? mix : o->max_rows;
}

err engine_open(struct transport *t, const struct engine_options *o, struct engine **out, struct why *why)
{
    err e;
    struct engine *en = NULL;
    TRY(check_options(o, why));
    if (!(en = calloc(1, sizeof *en)))
        FAIL(ERR_NOMEM, "engine");
    en->o = *o;
    if ((uint64_t)o->n_pages * ENGINE_PAGE_ROWS < (uint64_t)o->max_context)
        en->o.max_context = (int)(o->n_pages * ENGINE_PAGE_ROWS);
    en->backend = (struct backend){.ops = &engine_ops, .facts = o->facts};
    en->backend.facts.max_context = en->o.max_context;
    struct wire_limits wire = wire_limits_of(&en->o);
    en->lim = (struct sched_limits){
        .n_stages = o->n_stages, .full_stages = o->full_stages, .max_rows = o->max_rows, .mix_rows = default_mix(o), .lanes = o->in_flight,
        .page_rows = ENGINE_PAGE_ROWS, .open_bytes = wire_sampler_budget(&wire),
    };
    TRY(alloc_tables(en, why));
    TRY(kvmap_open(o->n_pages, ENGINE_PAGE_ROWS, &en->kv, why));
    struct pipeline_options po = {
        .epoch = o->epoch, .first_rank = o->first_rank, .last_rank = o->last_rank, .timeout_ms = o->timeout_ms,
        .max_flight = sched_max_flight(&en->lim, o->max_slots),
        .max_parts = o->max_slots < o->max_rows ? o->max_slots : o->max_rows,
        .lim = wire,
    };
    struct pipeline_sink sink = report_sink(en);
    TRY(pipeline_open(t, &po, &sink, &en->pipe, why));
    *out = en;
    en = NULL;
out:
    if (en)
        free_tables(en);
    return e;
}

static void fail_seq(struct engine *en, struct seq *s)
{
    if (s->state != SEQ_ENDED)
        report_failure(en, s, ERR_CANCELLED, "the engine closed");
    place_free(en, s);
}

void engine_close(struct engine *en)
{
    if (!en)
        return;
    en->closing = true;
    for (int i = 0; i < en->o.max_slots; i++)
        if (en->slots[i])
            fail_seq(en, en->slots[i]);
    for (int i = 0; i < en->n_waiting; i++)
        fail_seq(en, en->waiting[i]);
    free_tables(en);
}
