/* journal.c - see journal.h.
 *
 * Handles and wire numbers are serial * 2^20 + slot: found with one look, and an
 * old one never names a newer entry.
 */
#include "coordinator/supervise/journal.h"

#include <stdlib.h>
#include <string.h>

enum { SLOT_BITS = 20, SLOT_MAX = 1 << SLOT_BITS };

void journal_init(struct journal *j)
{
    *j = (struct journal){ 0 };
    TAILQ_INIT(&j->entries);
}

static void entry_free(struct journal_entry *e)
{
    free((void *)e->req.ids);
    free((void *)e->req.key);
    free((void *)e->req.adapter);
    free((void *)e->req.sampling.bias);
    free((void *)e->req.sampling.end);
    free(e->tokens);
    free(e);
}

void journal_fini(struct journal *j)
{
    while (!TAILQ_EMPTY(&j->entries))
        journal_drop(j, TAILQ_FIRST(&j->entries));
    free(j->slot);
}

/* A slot for a new entry, or -1. */
static int slot_take(struct journal *j)
{
    for (int i = 0, n = j->n < j->n_slots ? j->n_slots : 0; i < n; i++) {
        int at = (int)((j->serial + (uint64_t)i) % (uint64_t)j->n_slots);
        if (!j->slot[at])
            return at;
    }
    int grown = j->n_slots ? j->n_slots * 2 : 64;
    if (grown > SLOT_MAX)
        return -1;
    struct journal_entry **slot = realloc(j->slot, (size_t)grown * sizeof *slot);
    if (!slot)
        return -1;
    memset(slot + j->n_slots, 0, (size_t)(grown - j->n_slots) * sizeof *slot);
    j->slot = slot;
    grown = j->n_slots;
    j->n_slots = j->n_slots ? j->n_slots * 2 : 64;
    return grown;
}

/* A copy of n items; *ok turns false when there is no memory. */
static void *copy(const void *items, int n, size_t size, bool *ok)
{
    void *to = n > 0 ? malloc((size_t)n * size) : NULL;
    if (n > 0 && !to)
        *ok = false;
    else if (n > 0)
        memcpy(to, items, (size_t)n * size);
    return to;
}

err journal_put(struct journal *j, const struct gen_request *req, gen_event_fn *fn, void *ctx,
                struct journal_entry **out, struct why *why)
{
    bool ok = true;
    struct journal_entry *e = calloc(1, sizeof *e);
    int slot = e ? slot_take(j) : -1;
    if (slot < 0) {
        free(e);
        return why_set(why, ERR_NOMEM, "no memory for a request");
    }
    e->req = *req;
    e->req.ids = copy(req->ids, req->n_ids, sizeof *req->ids, &ok);
    e->req.sampling.bias = copy(req->sampling.bias, req->sampling.n_bias, sizeof *req->sampling.bias, &ok);
    e->req.sampling.end = copy(req->sampling.end, req->sampling.n_end, sizeof *req->sampling.end, &ok);
    e->req.key = req->key ? copy(req->key, (int)strlen(req->key) + 1, 1, &ok) : NULL;
    e->req.adapter = req->adapter ? copy(req->adapter, (int)strlen(req->adapter) + 1, 1, &ok) : NULL;
    e->tokens = copy(req->resume, req->n_resume, sizeof *req->resume, &ok);
    e->n_tokens = e->cap_tokens = req->n_resume;
    e->n_prompt_told = e->n_prompt_seen = req->score_from;
    e->req.resume = NULL;
    e->req.n_resume = 0;
    if (!ok) {
        entry_free(e);
        return why_set(why, ERR_NOMEM, "no memory for a request of %d tokens", req->n_ids);
    }
    e->fn = fn;
    e->ctx = ctx;
    e->handle = ++j->serial << SLOT_BITS | (uint64_t)slot;
    j->slot[slot] = e;
    j->n++;
    TAILQ_INSERT_TAIL(&j->entries, e, link);
    *out = e;
    return ERR_OK;
}

void journal_drop(struct journal *j, struct journal_entry *e)
{
    TAILQ_REMOVE(&j->entries, e, link);
    j->slot[e->handle % SLOT_MAX] = NULL;
    j->n--;
    entry_free(e);
}

static struct journal_entry *at_slot(const struct journal *j, uint64_t number)
{
    uint64_t slot = number % SLOT_MAX;
    return slot < (uint64_t)j->n_slots ? j->slot[slot] : NULL;
}

struct journal_entry *journal_by_handle(const struct journal *j, uint64_t handle)
{
    struct journal_entry *e = at_slot(j, handle);
    return e && e->handle == handle ? e : NULL;
}

struct journal_entry *journal_by_wire(const struct journal *j, uint64_t wire)
{
    struct journal_entry *e = at_slot(j, wire);
    return e && e->state == JOURNAL_SENT && e->wire == wire ? e : NULL;
}

err journal_token(struct journal_entry *e, int32_t token, struct why *why)
{
    if (e->n_tokens == e->cap_tokens) {
        int cap = e->cap_tokens ? e->cap_tokens * 2 : 64;
        int32_t *tokens = realloc(e->tokens, (size_t)cap * sizeof *tokens);
        if (!tokens)
            return why_set(why, ERR_NOMEM, "no memory for %d tokens", cap);
        e->tokens = tokens;
        e->cap_tokens = cap;
    }
    e->tokens[e->n_tokens++] = token;
    return ERR_OK;
}

void journal_renew(struct journal *j, struct journal_entry *e)
{
    e->wire = ++j->serial << SLOT_BITS | e->handle % SLOT_MAX;
    e->n_prompt_seen = e->req.score_from;
}

bool journal_complete(const struct journal_entry *e, enum finish *finish)
{
    const struct sample_params *p = &e->req.sampling;
    if (e->req.score_prompt && e->n_prompt_told < e->req.n_ids)
        return false;
    for (int i = 0; i < p->n_end && e->n_tokens > 0; i++)
        if (p->end[i] == e->tokens[e->n_tokens - 1]) {
            *finish = FINISH_STOP;
            return true;
        }
    *finish = FINISH_LENGTH;
    return e->n_tokens >= e->req.max_tokens && (e->n_tokens > 0 || e->n_prompt_told > 0);
}
