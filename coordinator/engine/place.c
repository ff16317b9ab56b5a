/* place.c - a place is a slot and pages: given at admission, taken back when the
 * last micro-batch with rows of its sequence has returned.
 *
 * A sequence that is preempted, or whose shared prefix lost its writer, yields its
 * place and queues again with all it knows (seq.h).
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "coordinator/engine/engine_state.h"

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

void place_free(struct engine *en, struct seq *s)
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

void place_preempt(struct engine *en, struct seq *s)
{
    seq_go(s, SEQ_YIELDING);
    en->stats.preempted++;
}

static bool settle_slot(struct engine *en, struct seq *s)
{
    if (s->cancelled && s->state != SEQ_ENDED)
        report_finish(en, s, FINISH_CANCELLED);
    if (lost_its_prefix(en, s))
        place_preempt(en, s);
    if (s->n_flight > 0 || s->state == SEQ_RUNNING)
        return false;
    drop_place(en, s);
    if (s->state == SEQ_ENDED) {
        place_free(en, s);
    } else {
        seq_rewind(s);
        seq_go(s, SEQ_WAITING);
        en->waiting[en->n_waiting++] = s;
    }
    return true;
}

void place_settle(struct engine *en, bool *busy)
{
    for (int i = 0; i < en->o.max_slots; i++)
        if (en->slots[i])
            *busy |= settle_slot(en, en->slots[i]);
    int kept = 0;
    for (int i = 0; i < en->n_waiting; i++) {
        struct seq *s = en->waiting[i];
        if (s->cancelled || seq_is_complete(s)) {
            report_finish(en, s, s->cancelled ? FINISH_CANCELLED : seq_finish(s)); /* may submit: appends behind i */
            place_free(en, s);
            *busy = true;
        } else {
            en->waiting[kept++] = s;
        }
    }
    en->n_waiting = kept;
}

/* ---- what may run ------------------------------------------------------------------ */

/* Takes no rows before the pages it shares are on their way. The last one says it
 * for all: whoever writes it waited for those before. */
static bool waits_for_prefix(const struct engine *en, const struct seq *s)
{
    return s->n_shared > 0 && kvmap_state(en->kv, s->pages[s->n_shared - 1]) != KVMAP_SENT;
}

void place_view(struct engine *en, struct sched_view *v)
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

void place_sent(struct engine *en, struct seq *s, int first)
{
    int done = s->next / ENGINE_PAGE_ROWS;
    int page = first / ENGINE_PAGE_ROWS;
    for (page = page > s->n_shared ? page : s->n_shared; page < done && page < s->n_announced; page++)
        kvmap_sent(en->kv, s->pages[page]);
}

/* ---- admission ------------------------------------------------------------------------ */

/* Pages of long prompts under longrope hold other keys, and an adapter changes keys
 * and values of all layers. */
static uint64_t salt_of(const struct engine *en, const struct seq *s)
{
    return (en->o.salt * (FACTS_MAX_ADAPTERS + 1) + s->adapter) * 2 + s->is_long;
}

/* The longest prefix others have (or will have) computed: refs taken, s->n_shared set. */
static void share_prefix(struct engine *en, struct seq *s)
{
    s->n_shared = 0;
    if (!en->o.no_sharing && !s->embed) /* an encoder's rows see what follows them */
        s->n_shared = kvmap_match(en->kv, salt_of(en, s), s->tokens, s->n_prompt / ENGINE_PAGE_ROWS,
                                  s->score ? s->n_top : KVMAP_NO_SCORES, s->score_from, s->pages);
    s->n_pages = s->n_shared;
    int end = s->n_shared * ENGINE_PAGE_ROWS;
    /* The last shared row prices the first own token, if that is asked for; and a
     * prompt that is shared to its end runs its last row again, to sample. */
    bool prices = s->score && s->score_from <= end;
    s->next = end == 0 ? 0 : prices || end == s->n_prompt ? end - 1 : end;
    s->n_cached = s->next;
}

/* Announces the prompt pages that this sequence is going to fill. */
static void announce(struct engine *en, struct seq *s)
{
    s->n_announced = en->o.no_sharing || s->embed ? s->n_shared : s->n_prompt / ENGINE_PAGE_ROWS;
    for (int i = s->n_shared; i < s->n_announced; i++)
        kvmap_publish(en->kv, s->pages[i], i ? s->pages[i - 1] : KVMAP_NONE, salt_of(en, s),
                      s->tokens + i * ENGINE_PAGE_ROWS, s->score ? s->n_top : KVMAP_NO_SCORES,
                      s->score_from - i * ENGINE_PAGE_ROWS);
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

/* Room for a request of higher priority is made by preempting one of lower. */
static void make_room(struct engine *en, int priority)
{
    struct sched_view v;
    place_view(en, &v);
    int victim = v.draining ? -1 : sched_victim(&v, priority);
    if (victim >= 0)
        place_preempt(en, en->view_seq[victim]);
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

void place_admit(struct engine *en, bool *busy)
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
