/* engine.c - see engine.h.
 *
 * A turn has four phases, always in this order, so that each sees a settled state:
 *   1. poll     results come in; tokens and scores go out as events
 *   2. settle   cancelled and complete sequences end; drained ones give back
 *               slot and pages, and preempted ones queue again
 *   3. admit    waiting requests get a slot, pages, and the pages they share
 *   4. send     micro-batches leave until the scheduler has none
 *
 * Callbacks run in phases 1 and 2 only and may submit and cancel: submitting
 * appends to the queue, cancelling sets a flag, so nothing moves under a loop.
 *
 * Slots and pages are not reused before the last micro-batch with rows of their
 * sequence is back. Published pages are the exception, and safe because the
 * pipeline is first in, first out (kvmap.h).
 */
#include "coordinator/engine.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "coordinator/kvmap.h"
#include "coordinator/pipeline.h"
#include "coordinator/request.h"
#include "coordinator/sched.h"
#include "coordinator/seq.h"

struct engine {
    struct backend backend; /* first: engine_backend() */
    struct engine_options o;
    struct sched_limits lim;
    struct kvmap *kv;
    struct pipeline *pipe;
    struct fair_key *keys;
    struct seq **slots;   /* [max_slots] the sequence of each slot, or NULL */
    struct seq **waiting; /* [n_waiting] of max_queue + max_slots */
    int n_waiting, n_active;
    bool closing;
    bool try_admit; /* something changed since admission last gave up */
    uint64_t next_handle;
    struct engine_stats stats;
    /* scratch of one scheduling decision, [max_slots] each */
    struct sched_seq *view;
    struct seq **view_seq;
    struct sched_item *items;
    int *lanes;
    struct pipeline_part *parts;
    struct sched_wait *waits; /* [max_queue + max_slots] */
};

/* ---- events --------------------------------------------------------------------- */

static void emit(struct seq *s, struct gen_event ev)
{
    ev.n_prompt = s->n_prompt;
    ev.n_generated = s->n_known - s->n_prompt;
    ev.n_cached = s->n_cached;
    s->fn(s->ctx, &ev);
}

static void emit_score(struct seq *s, int pos, const struct kvmap_score *score)
{
    assert(pos == s->next_score);
    s->next_score++;
    emit(s, (struct gen_event){
        .kind = GEN_PROMPT, .pos = pos, .token = s->tokens[pos], .logprob = score->logprob,
        .argmax = score->argmax, .n_top = score->n_top < s->n_top ? score->n_top : s->n_top, .top = score->top,
    });
}

/* Reports the scores that come before the first own one: those of shared tokens,
 * which by now are there (their rows went first), or that of the first token. */
static void emit_scores_before(struct engine *en, struct seq *s)
{
    int end = s->n_shared * ENGINE_PAGE_ROWS;
    struct kvmap_score score = {NAN, -1, 0, NULL};
    if (!s->score)
        return;
    if (end == 0 && s->next_score == 0)
        emit_score(s, 0, &score);
    while (!s->cancelled && s->next_score < end) {
        int pos = s->next_score;
        bool there = kvmap_score_get(en->kv, s->pages[pos / ENGINE_PAGE_ROWS], pos % ENGINE_PAGE_ROWS, &score);
        assert(there);
        emit_score(s, pos, &score);
    }
}

static void end_seq(struct engine *en, struct seq *s, struct gen_event ev)
{
    assert(s->state != SEQ_ENDED);
    seq_go(s, SEQ_ENDED);
    en->stats.cancelled += ev.kind == GEN_FINISHED && ev.finish == FINISH_CANCELLED;
    en->stats.failed += ev.kind == GEN_FAILED;
    emit(s, ev);
}

static void finish_seq(struct engine *en, struct seq *s, enum finish how)
{
    end_seq(en, s, (struct gen_event){.kind = GEN_FINISHED, .pos = s->n_known, .finish = how});
}

/* ---- results ---------------------------------------------------------------------- */

/* Files the score of a prompt token with its page, for those who share it later. */
static void keep_score(struct engine *en, struct seq *s, int pos, const struct kvmap_score *score)
{
    int page = pos / ENGINE_PAGE_ROWS;
    if (page >= s->n_shared && page < s->n_announced)
        kvmap_score_put(en->kv, s->pages[page], pos % ENGINE_PAGE_ROWS, score);
}

static void copy_top(struct token_logprob *dst, const struct wire_result *r)
{
    for (int i = 0; i < r->n_top; i++)
        dst[i] = (struct token_logprob){r->top[i].token, r->top[i].logprob};
}

static void on_score(void *ctx, struct seq *s, const struct wire_result *r)
{
    struct engine *en = ctx;
    struct token_logprob top[SAMPLE_MAX_TOP];
    struct kvmap_score score = {r->logprob, r->argmax, r->n_top, top};
    copy_top(top, r);
    keep_score(en, s, r->pos + 1, &score);
    if (s->cancelled || s->state == SEQ_ENDED)
        return;
    emit_scores_before(en, s);
    /* After a preemption, what was reported before is not reported again. */
    if (r->pos + 1 == s->next_score && !s->cancelled)
        emit_score(s, r->pos + 1, &score);
}

static void on_sample(void *ctx, struct seq *s, const struct wire_result *r)
{
    struct engine *en = ctx;
    struct token_logprob top[SAMPLE_MAX_TOP];
    s->n_pending--;
    if (s->cancelled || s->state == SEQ_ENDED)
        return;
    emit_scores_before(en, s);
    if (s->cancelled)
        return;
    copy_top(top, r);
    assert(r->pos + 1 == s->n_known && s->n_known < s->max_tokens);
    s->tokens[s->n_known++] = r->token;
    en->stats.generated_tokens++;
    emit(s, (struct gen_event){
        .kind = GEN_TOKEN, .pos = r->pos + 1, .token = r->token, .logprob = r->logprob, .argmax = r->argmax,
        .n_top = r->n_top, .top = top,
    });
    if (!s->cancelled && (r->ended || s->n_known == s->max_tokens))
        finish_seq(en, s, seq_finish(s));
}

/* What has no token to wait for is complete when its last row is back. */
static void on_landed(void *ctx, struct seq *s)
{
    struct engine *en = ctx;
    if (s->cancelled || s->state != SEQ_RUNNING || s->n_flight > 0 || s->next < s->n_rows)
        return;
    emit_scores_before(en, s);
    if (!s->cancelled && seq_is_complete(s))
        finish_seq(en, s, seq_finish(s));
}

/* ---- settling ----------------------------------------------------------------------- */

/* Gives back pages and slot. Pages that others wait for but nobody will fill are
 * abandoned first. */
static void drop_place(struct engine *en, struct seq *s)
{
    for (int i = s->n_shared; i < s->n_announced; i++)
        if (kvmap_state(en->kv, s->pages[i]) == KVMAP_PLANNED)
            kvmap_abandon(en->kv, s->pages[i]);
    kvmap_release(en->kv, s->pages, s->n_pages);
    if (s->slot >= 0) {
        en->slots[s->slot] = NULL;
        en->n_active--;
    }
    en->try_admit = true;
}

static void free_seq(struct engine *en, struct seq *s)
{
    fair_key_drop(&en->keys, s->key);
    seq_close(s);
}

/* The page it waits for will never be filled: its writer is gone. */
static bool lost_its_prefix(const struct engine *en, const struct seq *s)
{
    return s->state == SEQ_RUNNING && s->n_shared > 0 &&
           kvmap_state(en->kv, s->pages[s->n_shared - 1]) == KVMAP_ABANDONED;
}

static void yield_seq(struct engine *en, struct seq *s)
{
    seq_go(s, SEQ_YIELDING);
    en->stats.preempted++;
}

static bool settle_slot(struct engine *en, struct seq *s)
{
    if (s->cancelled && s->state != SEQ_ENDED)
        finish_seq(en, s, FINISH_CANCELLED);
    if (lost_its_prefix(en, s))
        yield_seq(en, s);
    if (s->n_flight > 0 || s->state == SEQ_RUNNING)
        return false;
    drop_place(en, s);
    if (s->state == SEQ_ENDED) {
        free_seq(en, s);
    } else {
        seq_rewind(s);
        seq_go(s, SEQ_WAITING);
        en->waiting[en->n_waiting++] = s;
    }
    return true;
}

static void settle(struct engine *en, bool *busy)
{
    for (int i = 0; i < en->o.max_slots; i++)
        if (en->slots[i])
            *busy |= settle_slot(en, en->slots[i]);
    int kept = 0;
    for (int i = 0; i < en->n_waiting; i++) {
        struct seq *s = en->waiting[i];
        if (s->cancelled || seq_is_complete(s)) {
            finish_seq(en, s, s->cancelled ? FINISH_CANCELLED : seq_finish(s)); /* may submit: appends behind i */
            free_seq(en, s);
            *busy = true;
        } else {
            en->waiting[kept++] = s;
        }
    }
    en->n_waiting = kept;
}

/* ---- admission ------------------------------------------------------------------------ */

/* Pages of long prompts under longrope hold other keys. */
static uint64_t salt_of(const struct engine *en, const struct seq *s)
{
    return en->o.salt * 2 + s->is_long;
}

/* The longest prefix others have (or will have) computed: refs taken, s->n_shared set. */
static void share_prefix(struct engine *en, struct seq *s)
{
    s->n_shared = 0;
    if (!en->o.no_sharing)
        s->n_shared = kvmap_match(en->kv, salt_of(en, s), s->tokens, s->n_prompt / ENGINE_PAGE_ROWS,
                                  s->score ? s->n_top : KVMAP_NO_SCORES, s->pages);
    s->n_pages = s->n_shared;
    int end = s->n_shared * ENGINE_PAGE_ROWS;
    /* With scores, the last shared row prices the first own token. Without, only a
     * prompt that is shared to its end runs its last row again, to sample. */
    s->next = end == 0 ? 0 : s->score || end == s->n_prompt ? end - 1 : end;
    s->n_cached = s->next;
}

/* Announces the prompt pages that this sequence is going to fill. */
static void announce(struct engine *en, struct seq *s)
{
    s->n_announced = en->o.no_sharing ? s->n_shared : s->n_prompt / ENGINE_PAGE_ROWS;
    for (int i = s->n_shared; i < s->n_announced; i++)
        kvmap_publish(en->kv, s->pages[i], i ? s->pages[i - 1] : KVMAP_NONE, salt_of(en, s),
                      s->tokens + i * ENGINE_PAGE_ROWS, s->score ? s->n_top : KVMAP_NO_SCORES);
    if (s->score && s->n_announced > 0 && s->n_shared == 0)
        kvmap_score_put(en->kv, s->pages[0], 0, &(struct kvmap_score){NAN, -1, 0, NULL});
}

static int free_slot(const struct engine *en)
{
    for (int i = 0; i < en->o.max_slots; i++)
        if (!en->slots[i])
            return i;
    return -1;
}

static void build_view(struct engine *en, struct sched_view *v);

/* Room for a request of higher priority is made by preempting one of lower. */
static void make_room(struct engine *en, int priority)
{
    struct sched_view v;
    build_view(en, &v);
    int victim = v.draining ? -1 : sched_victim(&v, priority);
    if (victim >= 0)
        yield_seq(en, en->view_seq[victim]);
}

static bool admit_one(struct engine *en, int which)
{
    struct seq *s = en->waiting[which];
    int slot = free_slot(en);
    if (slot < 0)
        return false;
    share_prefix(en, s);
    int need = (s->n_known + ENGINE_PAGE_ROWS - 1) / ENGINE_PAGE_ROWS - s->n_shared;
    if (!sched_fits((uint32_t)need, kvmap_room(en->kv), en->n_active) ||
        !kvmap_take(en->kv, need, s->pages + s->n_shared)) {
        kvmap_release(en->kv, s->pages, s->n_shared);
        s->n_pages = s->n_shared = s->next = s->n_cached = 0;
        return false;
    }
    s->n_pages += need;
    announce(en, s);
    s->slot = slot;
    en->slots[slot] = s;
    en->n_active++;
    en->stats.cached_tokens += (uint64_t)s->n_cached;
    seq_go(s, SEQ_RUNNING);
    memmove(en->waiting + which, en->waiting + which + 1, (size_t)(en->n_waiting - which - 1) * sizeof *en->waiting);
    en->n_waiting--;
    return true;
}

static void admit(struct engine *en, bool *busy)
{
    while (en->try_admit && en->n_waiting > 0) {
        for (int i = 0; i < en->n_waiting; i++) {
            const struct seq *s = en->waiting[i];
            en->waits[i] = (struct sched_wait){s->priority, s->key->served, s->arrival};
        }
        int which = sched_pick(en->waits, en->n_waiting);
        if (admit_one(en, which)) {
            *busy = true;
            continue;
        }
        make_room(en, en->waiting[which]->priority);
        en->try_admit = false;
    }
}

/* ---- sending ---------------------------------------------------------------------------- */

/* Takes no rows before the pages it shares are on their way. The last one says it
 * for all: whoever writes it waited for those before. */
static bool waits_for_prefix(const struct engine *en, const struct seq *s)
{
    return s->n_shared > 0 && kvmap_state(en->kv, s->pages[s->n_shared - 1]) != KVMAP_SENT;
}

static void build_view(struct engine *en, struct sched_view *v)
{
    *v = (struct sched_view){
        .seqs = en->view, .lim = en->lim, .next_step = pipeline_next_step(en->pipe),
        .n_flight = pipeline_flights(en->pipe), .room = kvmap_room(en->kv),
    };
    for (int i = 0; i < en->o.max_slots; i++) {
        struct seq *s = en->slots[i];
        if (!s)
            continue;
        v->draining |= s->state == SEQ_YIELDING;
        en->view_seq[v->n] = s;
        en->view[v->n++] = seq_view(s, s->cancelled || waits_for_prefix(en, s));
    }
}

/* Marks the published pages that the rows up to s->next have completed. */
static void note_sent(struct engine *en, struct seq *s, int first)
{
    int done = s->next / ENGINE_PAGE_ROWS;
    int page = first / ENGINE_PAGE_ROWS;
    for (page = page > s->n_shared ? page : s->n_shared; page < done && page < s->n_announced; page++)
        kvmap_sent(en->kv, s->pages[page]);
}

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
        note_sent(en, en->parts[i].seq, en->parts[i].first);
out:
    return e;
}

static err send_all(struct engine *en, bool *busy, struct why *why)
{
    err e = ERR_OK;
    struct sched_plan plan = {.items = en->items, .lane = en->lanes};
    struct sched_view v;
    while (en->n_active > 0 && pipeline_has_room(en->pipe)) {
        build_view(en, &v);
        bool go = sched_batch(&v, &plan);
        if (go) {
            *busy = true;
            TRY(send_plan(en, &plan, why));
        }
        if (plan.victim >= 0)
            yield_seq(en, en->view_seq[plan.victim]);
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
    err e;
    if (en->closing)
        FAIL(ERR_CANCELLED, "the engine is closing");
    TRY(request_check(req, en->o.n_vocab, en->o.max_context, why));
    if (en->n_waiting >= en->o.max_queue)
        FAIL(ERR_FULL, "%d requests are waiting already", en->n_waiting);
    TRY(seq_open(req, en->o.max_context, ENGINE_PAGE_ROWS, &s, why));
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
    settle(en, busy);
    admit(en, busy);
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
}

/* ---- opening and closing ---------------------------------------------------------------------- */

static struct wire_limits wire_limits_of(const struct engine_options *o)
{
    return (struct wire_limits){
        .max_rows = (uint32_t)o->max_rows, .max_seqs = (uint32_t)o->max_slots, .max_slots = (uint32_t)o->max_slots,
        .n_pages = o->n_pages, .max_context = (uint32_t)o->max_context, .n_vocab = o->n_vocab,
        .page_rows = ENGINE_PAGE_ROWS,
    };
}

size_t engine_max_message(int max_rows, int max_slots, int max_context, uint32_t n_pages, int n_embd,
                          enum wire_type x)
{
    struct engine_options o = {
        .max_rows = max_rows, .max_slots = max_slots, .max_context = max_context, .n_pages = n_pages,
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
        .n_stages = o->n_stages, .max_rows = o->max_rows, .mix_rows = default_mix(o), .lanes = o->in_flight,
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
    struct pipeline_sink sink = {en, on_score, on_sample, on_landed};
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
        end_seq(en, s, (struct gen_event){.kind = GEN_FAILED, .code = ERR_CANCELLED, .reason = "the engine closed"});
    free_seq(en, s);
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
