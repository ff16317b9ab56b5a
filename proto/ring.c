/* ring.c - see ring.h. */
#include "proto/ring.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

struct ring_slot {
    uint32_t opened; /* step */
    int32_t pos;     /* of the row that sampled; -1: nothing yet */
    int32_t token;
    bool ended;
};

err ring_init(struct ring *r, uint32_t n_slots, struct why *why)
{
    struct ring_slot *slots = calloc(n_slots ? n_slots : 1, sizeof *slots);
    if (!slots)
        return why_set(why, ERR_NOMEM, "token ring of %u slots", n_slots);
    for (uint32_t i = 0; i < n_slots; i++)
        slots[i].pos = -1;
    *r = (struct ring){.slots = slots, .n_slots = n_slots};
    return ERR_OK;
}

void ring_fini(struct ring *r)
{
    free(r->slots);
    *r = (struct ring){0};
}

void ring_open(struct ring *r, uint32_t slot, uint32_t step)
{
    assert(slot < r->n_slots);
    r->slots[slot] = (struct ring_slot){.opened = step, .pos = -1};
}

void ring_put(struct ring *r, uint32_t step, const struct wire_result *result)
{
    assert(result->slot < r->n_slots);
    struct ring_slot *s = &r->slots[result->slot];
    bool stale = (int32_t)(step - s->opened) < 0;
    if (stale || (result->flags & (WIRE_ROW_SAMPLE | WIRE_ROW_DEAD)) != WIRE_ROW_SAMPLE)
        return;
    s->pos = result->pos;
    s->token = result->token;
    s->ended = result->ended != 0;
}

enum ring_answer ring_get(const struct ring *r, uint32_t slot, int32_t pos, int32_t *token)
{
    assert(slot < r->n_slots);
    const struct ring_slot *s = &r->slots[slot];
    if (s->ended && s->pos >= 0 && s->pos < pos)
        return RING_DEAD;
    if (s->pos != pos - 1)
        return RING_ABSENT;
    *token = s->token;
    return RING_TOKEN;
}
